"""Subscriptions as Lago shows them: each call leaves other parts out."""

from __future__ import annotations

from datetime import timedelta

from airflow_provider_lago.sandbox import customers
from airflow_provider_lago.sandbox.answers import Answer, ok
from airflow_provider_lago.sandbox.call import Call, texts
from airflow_provider_lago.sandbox.pages import cut, meta
from airflow_provider_lago.sandbox.periods import period
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import day_of, iso, iso_ms, maybe_iso
from airflow_provider_lago.sandbox.world import World

STATUSES = ("pending", "active", "terminated", "canceled", "incomplete")

GET = frozenset[str]()
PUT = frozenset({"entitlements"})
_NOT_IN_PLAN = ("fixed_charges", "entitlements")
_DELETE = frozenset({"entitlements", "applicable_usage_thresholds"})
_LIST = frozenset({"plan", "entitlements", "applicable_usage_thresholds", "applied_invoice_custom_sections"})


def current_period(doc: Doc, plan: Doc, world: World) -> tuple[int, int] | None:
    """First and last instant of the running billing period; None before the start."""
    if doc["started_at"] is None:
        return None
    ended = doc["terminated_at"]
    first, last = period(
        plan["interval"], doc["billing_time"], doc["subscription_at"], world.now() if ended is None else ended
    )
    return max(first, doc["started_at"]), last if ended is None else ended


def serialized(doc: Doc, world: World, without: frozenset[str]) -> Doc:
    """One subscription; ``without`` are the keys this call does not show."""
    plan = world.store.get("plan", doc["plan_id"]) or {}
    bounds = current_period(doc, plan, world)
    previous, following = (_plan_of(doc[name], world) for name in ("previous_id", "next_id"))
    downgrade = following is not None and doc["status"] == "active" and bounds is not None
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
        "previous_plan_code": previous and previous["code"],
        "next_plan_code": following and following["code"],
        "downgrade_plan_date": str(day_of(bounds[1]) + timedelta(days=1)) if downgrade and bounds else None,
        "current_billing_period_started_at": maybe_iso(bounds and bounds[0]),
        "current_billing_period_ending_at": maybe_iso(bounds and bounds[1]),
        "on_termination_credit_note": doc["on_termination_credit_note"],
        "on_termination_invoice": doc["on_termination_invoice"],
        "progressive_billing_disabled": doc["progressive_billing_disabled"],
        "consolidate_invoice": doc["consolidate_invoice"],
        "purchase_order_number": doc["purchase_order_number"],
        "cancellation_reason": None,
        "activated_at": maybe_iso(doc["started_at"]),
        "entitlements": [],
        "payment_method": {"payment_method_id": None, "payment_method_type": "provider"},
        "plan": {key: value for key, value in plan.items() if key not in _NOT_IN_PLAN},
        "applicable_usage_thresholds": [],
        "applied_invoice_custom_sections": [],
        "activation_rules": [],
    }
    return {key: value for key, value in shown.items() if key not in without}


def deleted(doc: Doc, world: World) -> Doc:
    """The answer of a DELETE."""
    return serialized(doc, world, _DELETE)


def _plan_of(subscription_id: str | None, world: World) -> Doc | None:
    doc = world.store.get("subscription", subscription_id) if subscription_id else None
    return world.store.get("plan", doc["plan_id"]) if doc else None


def list_subscriptions(call: Call, world: World) -> Answer:
    """``GET /subscriptions``: latest start first, pending ones before all."""
    query = call.query
    external_id = query.get("external_id")
    docs = world.store.all("subscription", key=external_id if isinstance(external_id, str) and external_id else None)
    if isinstance(query.get("external_customer_id"), str):
        docs = [doc for doc in docs if doc["external_customer_id"] == query["external_customer_id"]]
    return _listed(call, world, docs)


def list_of_customer(call: Call, world: World) -> Answer:
    """``GET /customers/{external_id}/subscriptions``."""
    customer = customers.must_find(world, call.ids[0])
    docs = world.store.all("subscription")
    return _listed(call, world, [doc for doc in docs if doc["lago_customer_id"] == customer["lago_id"]])


def _listed(call: Call, world: World, docs: list[Doc]) -> Answer:
    query = call.query
    asked = texts(query.get("status"))
    # Unknown statuses are dropped, and a filter of nothing but unknown ones filters nothing.
    statuses = [status for status in asked if status in STATUSES] if asked else ["active"]
    if statuses:
        docs = [doc for doc in docs if doc["status"] in statuses]
    plans = {plan["lago_id"]: plan["code"] for plan in world.store.all("plan")}
    if isinstance(query.get("plan_code"), str):
        docs = [doc for doc in docs if plans.get(doc["plan_id"]) == query["plan_code"]]
    docs.sort(key=lambda doc: (doc["started_at"] is None, doc["started_at"] or doc["created_at"]), reverse=True)
    page, size = call.page()
    numbers = meta(page, size, len(docs))
    shown = [serialized(doc, world, _LIST) for doc in cut(docs, page, size)]
    return ok({"subscriptions": shown, "meta": numbers})
