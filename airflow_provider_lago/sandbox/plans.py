"""Plans and their charges."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, invalid, not_found, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.catalogue import NO_COUNTS
from airflow_provider_lago.sandbox.codes import CURRENCIES
from airflow_provider_lago.sandbox.periods import INTERVALS
from airflow_provider_lago.sandbox.resources import listed, must_be_new, must_find
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso
from airflow_provider_lago.sandbox.world import World


def create_plan(call: Call, world: World) -> Answer:
    """``POST /plans``."""
    given = call.root("plan")
    errors: dict[str, object] = {
        name: ["value_is_mandatory"] for name in ("name", "code", "amount_cents") if given.get(name) is None
    }
    if given.get("amount_currency") not in CURRENCIES:
        errors["amount_currency"] = ["value_is_invalid"]
    if given.get("interval") not in INTERVALS:
        errors["interval"] = ["value_is_invalid"]
    if not isinstance(given.get("pay_in_advance"), bool):
        errors["pay_in_advance"] = ["value_is_invalid"]
    if errors:
        raise invalid(errors)
    must_be_new(world, "plan", str(given["code"]))
    now = iso(world.now())
    charges = [_charge(item, now, world) for item in given.get("charges") or [] if isinstance(item, dict)]
    doc = {
        "name": given["name"],
        "invoice_display_name": given.get("invoice_display_name"),
        "created_at": now,
        "code": str(given["code"]),
        "interval": given["interval"],
        "description": given.get("description"),
        "amount_cents": int(given["amount_cents"]),
        "amount_currency": given["amount_currency"],
        "trial_period": given.get("trial_period"),
        "pay_in_advance": given["pay_in_advance"],
        "bill_charges_monthly": given.get("bill_charges_monthly"),
        "bill_fixed_charges_monthly": given.get("bill_fixed_charges_monthly"),
        "customers_count": 0,
        **NO_COUNTS,
        "parent_id": None,
        "pending_deletion": False,
        "charges": charges[::-1],  # newest first, like every list of Lago
        "fixed_charges": [],
        "entitlements": [],
        "usage_thresholds": [],
        "applicable_usage_thresholds": [],
        "taxes": [],
    }
    return ok({"plan": world.store.add("plan", doc["code"], doc)})


def _charge(given: dict[str, Any], now: str, world: World) -> Doc:
    metric = world.store.get("billable_metric", str(given.get("billable_metric_id")))
    if metric is None:
        raise not_found("billable_metrics")
    return world.store.add(
        "charge",
        metric["code"],
        {
            "lago_billable_metric_id": metric["lago_id"],
            "code": given.get("code") or metric["code"],
            "invoice_display_name": given.get("invoice_display_name"),
            "billable_metric_code": metric["code"],
            "created_at": now,
            "charge_model": given.get("charge_model", "standard"),
            "invoiceable": given.get("invoiceable", True),
            "regroup_paid_fees": given.get("regroup_paid_fees"),
            "pay_in_advance": given.get("pay_in_advance", False),
            "prorated": given.get("prorated", False),
            "min_amount_cents": given.get("min_amount_cents", 0),
            "accepts_target_wallet": given.get("accepts_target_wallet", False),
            "properties": given.get("properties") or {},
            "applied_pricing_unit": None,
            "lago_parent_id": None,
            "filters": given.get("filters") or [],
            "taxes": [],
        },
    )


def update_plan(call: Call, world: World) -> Answer:
    """``PUT /plans/{code}``: the plan's own attributes, charges stay."""
    doc = must_find(world, "plan", call.ids[0])
    given = call.root("plan")
    changeable = ("name", "invoice_display_name", "description", "amount_cents", "trial_period")
    doc.update({name: given[name] for name in changeable if name in given})
    world.store.save(doc)
    return ok({"plan": doc})


def delete_plan(call: Call, world: World) -> Answer:
    """``DELETE /plans/{code}``: a plan that was ever subscribed to stays, pending, and keeps its code."""
    doc = must_find(world, "plan", call.ids[0])
    doc["pending_deletion"] = True
    world.store.save(doc)
    if not any(sub["plan_id"] == doc["lago_id"] for sub in world.store.all("subscription")):
        world.store.remove(doc)
    return ok({"plan": doc})


def show_plan(call: Call, world: World) -> Answer:
    """``GET /plans/{code}``."""
    return ok({"plan": must_find(world, "plan", call.ids[0])})


def list_plans(call: Call, world: World) -> Answer:
    """``GET /plans``, newest first; like Lago's, without the fixed charges."""
    return listed(call, world, "plan", "plans", shown=_in_list)


def _in_list(doc: Doc, _world: World) -> Doc:
    return {key: value for key, value in doc.items() if key != "fixed_charges"}
