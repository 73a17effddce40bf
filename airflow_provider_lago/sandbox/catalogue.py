"""The organization, its billable metrics and its plans."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, invalid, not_found, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.codes import CURRENCIES
from airflow_provider_lago.sandbox.expressions import (
    EvaluationFailed,
    InvalidExpression,
    evaluate,
    parse,
)
from airflow_provider_lago.sandbox.pages import cut, meta
from airflow_provider_lago.sandbox.periods import INTERVALS
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso
from airflow_provider_lago.sandbox.world import World

AGGREGATIONS = ("count_agg", "sum_agg", "max_agg", "unique_count_agg", "weighted_sum_agg", "latest_agg")

_ORGANIZATION_FIELDS = [
    "country",
    "address_line1",
    "address_line2",
    "state",
    "zipcode",
    "email",
    "city",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "net_payment_term",
    "default_currency",
    "document_numbering",
    "finalize_zero_amount_invoice",
]
_COUNTS = {"active_subscriptions_count": 0, "draft_invoices_count": 0}


# Organization


def _organization(world: World) -> Doc:
    kept = world.store.find("organization", "") or world.store.add(
        "organization", "", {"created_at": world.now(), "fields": {}}
    )
    nothing = dict.fromkeys(("address_line1", "address_line2", "state", "zipcode", "email", "city"))
    return {
        "lago_id": world.organization_id,
        "name": world.organization_name,
        "slug": world.slug,
        "default_currency": "USD",
        "created_at": iso(kept["created_at"]),
        "webhook_url": "",
        "webhook_urls": [],
        "country": None,
        **nothing,
        "legal_name": None,
        "legal_number": None,
        "timezone": "UTC",
        "net_payment_term": 0,
        "email_settings": [],
        "document_numbering": "per_customer",
        "document_number_prefix": world.document_prefix,
        "tax_identification_number": None,
        "finalize_zero_amount_invoice": True,
        "billing_configuration": {"invoice_footer": None, "invoice_grace_period": 0, "document_locale": "en"},
        "events_store": world.store.flavour,
        **kept["fields"],
    }


def show_organization(_call: Call, world: World) -> Answer:
    """``GET /organizations``."""
    return ok({"organization": _organization(world)})


def update_organization(call: Call, world: World) -> Answer:
    """``PUT /organizations``; unlike the read, its answer lists the taxes."""
    given = call.root("organization")
    _organization(world)
    kept = world.store.find("organization", "")
    if kept is not None:
        kept["fields"].update({name: given[name] for name in _ORGANIZATION_FIELDS if name in given})
        world.store.save(kept)
    return ok({"organization": {**_organization(world), "taxes": []}})


# Billable metrics


def create_metric(call: Call, world: World) -> Answer:
    """``POST /billable_metrics``."""
    given = call.root("billable_metric")
    _check_metric(given)
    if world.store.find("billable_metric", str(given["code"])) is not None:
        raise invalid({"code": ["value_already_exist"]})
    doc = {
        "name": given["name"],
        "code": str(given["code"]),
        "description": given.get("description"),
        "aggregation_type": given["aggregation_type"],
        "weighted_interval": given.get("weighted_interval"),
        "recurring": bool(given.get("recurring", False)),
        "rounding_function": given.get("rounding_function"),
        "rounding_precision": given.get("rounding_precision"),
        "created_at": iso(world.now()),
        "field_name": given.get("field_name"),
        "expression": given.get("expression"),
        **_COUNTS,
        "plans_count": 0,
        "filters": given.get("filters") or [],
    }
    doc = world.store.add("billable_metric", doc["code"], doc)
    world.load_expressions()
    return ok({"billable_metric": doc})


def _check_metric(given: dict[str, Any]) -> None:
    errors: dict[str, object] = {}
    aggregation = given.get("aggregation_type")
    if aggregation != "count_agg" and not given.get("field_name"):
        errors["field_name"] = ["value_is_mandatory"]
    if aggregation not in AGGREGATIONS:
        errors["aggregation_type"] = ["value_is_invalid"]
    if aggregation == "weighted_sum_agg" and given.get("weighted_interval") != "seconds":
        errors["weighted_interval"] = ["value_is_invalid"]
    for name in ("code", "name"):
        if not given.get(name):
            errors[name] = ["value_is_mandatory"]
    if given.get("expression"):
        try:
            parse(str(given["expression"]))
        except InvalidExpression:
            errors["expression"] = ["invalid_expression"]
    if errors:
        raise invalid(errors)


def update_metric(call: Call, world: World) -> Answer:
    """``PUT /billable_metrics/{code}``."""
    doc = _must_find(world, "billable_metric", call.ids[0])
    given = call.root("billable_metric")
    changeable = ("name", "description", "rounding_function", "rounding_precision", "expression", "field_name")
    changed = {**doc, **{name: given[name] for name in changeable if name in given}}
    _check_metric(changed)
    world.store.save(changed)
    world.load_expressions()
    return ok({"billable_metric": changed})


def delete_metric(call: Call, world: World) -> Answer:
    """``DELETE /billable_metrics/{code}``."""
    doc = _must_find(world, "billable_metric", call.ids[0])
    world.store.remove(doc)
    world.load_expressions()
    return ok({"billable_metric": doc})


def show_metric(call: Call, world: World) -> Answer:
    """``GET /billable_metrics/{code}``."""
    return ok({"billable_metric": _must_find(world, "billable_metric", call.ids[0])})


def list_metrics(call: Call, world: World) -> Answer:
    """``GET /billable_metrics``."""
    return _listed(call, world, "billable_metric", "billable_metrics")


def evaluate_expression(call: Call, _world: World) -> Answer:
    """``POST /billable_metrics/evaluate_expression``."""
    text = call.params.get("expression")
    if not isinstance(text, str) or not text.strip():
        raise invalid({"expression": ["value_is_mandatory"]})
    try:
        node = parse(text)
    except InvalidExpression:
        raise invalid({"expression": ["invalid_expression"]}) from None
    event = call.params.get("event")
    try:
        value = evaluate(node, event if isinstance(event, dict) else {})
    except EvaluationFailed:
        raise invalid({"event": ["invalid_event"]}) from None
    return ok({"expression_result": {"value": value}})


# Plans


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
    if world.store.find("plan", str(given["code"])) is not None:
        raise invalid({"code": ["value_already_exist"]})
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
        **_COUNTS,
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
    doc = _must_find(world, "plan", call.ids[0])
    given = call.root("plan")
    changeable = ("name", "invoice_display_name", "description", "amount_cents", "trial_period")
    doc.update({name: given[name] for name in changeable if name in given})
    world.store.save(doc)
    return ok({"plan": doc})


def delete_plan(call: Call, world: World) -> Answer:
    """``DELETE /plans/{code}``: a plan that was ever subscribed to stays, pending, and keeps its code."""
    doc = _must_find(world, "plan", call.ids[0])
    doc["pending_deletion"] = True
    world.store.save(doc)
    if not any(sub["plan_id"] == doc["lago_id"] for sub in world.store.all("subscription")):
        world.store.remove(doc)
    return ok({"plan": doc})


def show_plan(call: Call, world: World) -> Answer:
    """``GET /plans/{code}``."""
    return ok({"plan": _must_find(world, "plan", call.ids[0])})


def list_plans(call: Call, world: World) -> Answer:
    """``GET /plans``, newest first; like Lago's, without the fixed charges."""
    return _listed(call, world, "plan", "plans", without="fixed_charges")


def _must_find(world: World, kind: str, code: str) -> Doc:
    doc = world.store.find(kind, code)
    if doc is None:
        raise not_found(kind)
    return doc


def _listed(call: Call, world: World, kind: str, name: str, without: str = "") -> Answer:
    page, size = call.page()
    docs = world.store.all(kind)[::-1]
    numbers = meta(page, size, len(docs))
    shown = [{key: item for key, item in doc.items() if key != without} for doc in cut(docs, page, size)]
    return ok({name: shown, "meta": numbers})
