"""Subscriptions as Lago shows them: each call leaves other parts out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, not_found, ok
from airflow_provider_lago.sandbox.call import Call, texts
from airflow_provider_lago.sandbox.customer_list import external_id_filter
from airflow_provider_lago.sandbox.lifecycle import current_period, neighbour
from airflow_provider_lago.sandbox.pages import cut, meta
from airflow_provider_lago.sandbox.plan_overrides import plan_of
from airflow_provider_lago.sandbox.resources import must_find
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import day_of, iso, iso_ms, maybe_iso
from airflow_provider_lago.sandbox.world import World

STATUSES = ("pending", "active", "terminated", "canceled", "incomplete")

GET = frozenset[str]()
PUT = frozenset({"entitlements"})
_BY_PLAN = ("plan_code", "currency", "overridden")
_NOT_IN_PLAN = ("fixed_charges", "entitlements")
_DELETE = frozenset({"entitlements", "applicable_usage_thresholds"})
_LIST = frozenset({"plan", "entitlements", "applicable_usage_thresholds", "applied_invoice_custom_sections"})


def serialized(doc: Doc, world: World, without: frozenset[str], plans: dict[str, Doc] | None = None) -> Doc:
    """
    One subscription.

    :param without: the keys this call does not show.
    :param plans: by id, those that were read for other subscriptions of the list.
    """
    plans = {} if plans is None else plans
    plan = plans.get(doc["plan_id"]) or plans.setdefault(doc["plan_id"], plan_of(doc, world))
    bounds = current_period(doc, plan, world.now())
    previous, following = (neighbour(doc, name, world) for name in ("previous_id", "next_id"))
    downgrade = following is not None and following["status"] == "pending" and doc["status"] == "active"
    shown = {
        "lago_id": doc["lago_id"],
        "external_id": doc["external_id"],
        "lago_customer_id": doc["lago_customer_id"],
        "external_customer_id": doc["external_customer_id"],
        "name": doc["name"],
        "plan_code": plan["code"],
        "plan_amount_cents": plan["amount_cents"],
        "plan_amount_currency": plan["amount_currency"],
        "status": doc["status"],
        "billing_time": doc["billing_time"],
        "subscription_at": iso(doc["subscription_at"]),
        "started_at": None if doc["started_at"] is None else iso_ms(doc["started_at"]),
        "trial_ended_at": None,
        "ending_at": maybe_iso(doc["ending_at"]),
        "terminated_at": maybe_iso(doc["terminated_at"]),
        "canceled_at": maybe_iso(doc["canceled_at"]),
        "created_at": iso(doc["created_at"]),
        "previous_plan_code": previous and plan_of(previous, world)["code"],
        "next_plan_code": following and plan_of(following, world)["code"],
        "downgrade_plan_date": str(day_of(bounds[1]) + timedelta(days=1)) if downgrade and bounds else None,
        "current_billing_period_started_at": maybe_iso(bounds and bounds[0]),
        "current_billing_period_ending_at": maybe_iso(bounds and bounds[1]),
        "on_termination_credit_note": doc["on_termination_credit_note"],
        "on_termination_invoice": doc["on_termination_invoice"],
        "progressive_billing_disabled": doc["progressive_billing_disabled"],
        "consolidate_invoice": doc["consolidate_invoice"],
        "purchase_order_number": doc["purchase_order_number"],
        "cancellation_reason": None,
        "activated_at": maybe_iso(doc["activated_at"]),
        "entitlements": [],
        "payment_method": {"payment_method_id": None, "payment_method_type": doc["payment_method_type"]},
        "plan": {key: value for key, value in plan.items() if key not in _NOT_IN_PLAN},
        "applicable_usage_thresholds": [],
        "applied_invoice_custom_sections": [],
        "activation_rules": [_rule(rule) for rule in doc["activation_rules"]],
    }
    return {key: value for key, value in shown.items() if key not in without}


def deleted(doc: Doc, world: World) -> Doc:
    """The answer of a DELETE."""
    return serialized(doc, world, _DELETE)


def _rule(rule: Doc) -> Doc:
    times = ("created_at", "expires_at")
    return {**rule, **{name: maybe_iso(rule[name]) for name in times}, "updated_at": iso(rule["created_at"])}


def list_subscriptions(call: Call, world: World) -> Answer:
    """``GET /subscriptions``: latest start first, pending ones before all."""
    query = call.query
    owner, wanted = None, query.get("external_customer_id")
    if isinstance(wanted, str) and wanted:
        customer = world.store.find("customer", wanted)
        # An id that no customer has matches nothing; no customer has an empty one either.
        owner = customer["lago_id"] if customer else ""
    return _listed(call, world, key=external_id_filter(query, world), owner=owner)


def list_of_customer(call: Call, world: World) -> Answer:
    """``GET /customers/{external_id}/subscriptions``."""
    customer = must_find(world, "customer", call.ids[0])
    return _listed(call, world, key=None, owner=customer["lago_id"])


def _listed(call: Call, world: World, *, key: str | None, owner: str | None) -> Answer:
    query = call.query
    asked = texts(query.get("status"))
    # Unknown statuses are dropped, and a filter of nothing but unknown ones filters nothing.
    statuses = [status for status in asked if status in STATUSES] if asked else ["active"]
    if any(code != world.slug for code in texts(query.get("billing_entity_codes"))):
        raise not_found("billing_entity")
    page, size = call.page()
    if any(isinstance(query.get(name), str) for name in _BY_PLAN):
        found = world.store.page("subscription", statuses=statuses, key=key, owner=owner, by_rank=True)
        found = [doc for doc in found if _on_plan(plan_of(doc, world), query)]
        total, docs = len(found), list(cut(found, page, size))
    else:
        total = world.store.count("subscription", statuses=statuses, key=key, owner=owner)
        docs = world.store.page(
            "subscription",
            statuses=statuses,
            key=key,
            owner=owner,
            by_rank=True,
            limit=size,
            offset=(page - 1) * size,
        )
    numbers = meta(page, size, total)
    plans: dict[str, Doc] = {}
    return ok({"subscriptions": [serialized(doc, world, _LIST, plans) for doc in docs], "meta": numbers})


def _on_plan(plan: Doc, query: dict[str, Any]) -> bool:
    code, currency, overridden = (query.get(name) for name in _BY_PLAN)
    return (
        (not isinstance(code, str) or plan["code"] == code)
        and (not isinstance(currency, str) or plan["amount_currency"] == currency)
        and (overridden not in ("true", "false") or (plan["parent_id"] is not None) == (overridden == "true"))
    )
