"""``POST /subscriptions``: what it does depends on what is there under the same ``external_id``."""

from __future__ import annotations

import uuid
from typing import Any

from airflow_provider_lago.sandbox import customers
from airflow_provider_lago.sandbox.answers import Answer, forbidden, invalid, not_found, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.lifecycle import cancel_next, end, keep, start
from airflow_provider_lago.sandbox.plan_overrides import asked, overridden, plan_of, yearly
from airflow_provider_lago.sandbox.releases import INCOMPLETE_REFUSED
from airflow_provider_lago.sandbox.resources import MANDATORY, text
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.subscription_checks import check
from airflow_provider_lago.sandbox.subscription_views import GET, serialized
from airflow_provider_lago.sandbox.times import day_of, parse_iso
from airflow_provider_lago.sandbox.world import World


def create_subscription(call: Call, world: World) -> Answer:
    """``POST /subscriptions``: create, keep, upgrade, downgrade, or replace a pending one's plan."""
    given = call.root("subscription")
    if given.get("billing_entity_code") not in (None, world.slug):
        raise not_found("billing_entity")
    plan = world.store.find("plan", text(given.get("plan_code")))
    if plan is None:
        raise not_found("plan")
    check(given, world.now())
    overrides = asked(given)
    if overrides is not None and not world.premium:
        raise forbidden("feature_unavailable")
    external_customer_id = text(given.get("external_customer_id"))
    if not external_customer_id:
        raise invalid({"external_customer_id": MANDATORY})
    if given.get("usage_thresholds") and (overrides or {}).get("usage_thresholds"):
        both = ("plan_overrides.usage_thresholds", "usage_thresholds")
        raise invalid({name: ["incompatible_params"] for name in both})
    # The customer is committed before the rest: refusals below leave it behind.
    customer = customers.find_or_create(world, external_customer_id)
    with world.store.transaction():
        customers.set_currency(customer, (overrides or {}).get("amount_currency") or plan["amount_currency"], world)
        doc = _settle(given, customer, plan, world)
    return ok({"subscription": serialized(doc, world, GET)})


def _settle(given: dict[str, Any], customer: Doc, plan: Doc, world: World) -> Doc:
    external_id = text(given["external_id"])
    held = world.store.all("subscription", key=external_id)
    own = [doc for doc in held if doc["lago_customer_id"] == customer["lago_id"]]
    if world.release >= INCOMPLETE_REFUSED and any(doc["status"] == "incomplete" for doc in own):
        raise invalid({"subscription": ["subscription_incomplete"]})
    active = next((doc for doc in own if doc["status"] == "active"), None)
    waiting = next((doc for doc in own if doc["status"] == "pending" and not doc["previous_id"]), None)
    current = active or waiting
    if current is None:
        if any(doc["status"] == "active" for doc in held):
            raise invalid({"external_id": ["value_already_exist"]})
        return _create(given, customer, plan, world)
    # A plan with overrides is a child with an id of its own: to post the same again is a change of plan, and
    # so is to post it without them.
    if current["plan_id"] == plan["lago_id"]:
        return current
    if current is waiting:
        waiting["plan_id"] = plan["lago_id"]
        waiting["name"] = text(given.get("name")) or waiting["name"]
        keep(waiting, world)
        return waiting
    if yearly(plan, asked(given)) >= yearly(plan_of(current, world)):
        return _upgrade(given, current, customer, plan, world)
    return _downgrade(given, current, customer, plan, world)


def _new(given: dict[str, Any], customer: Doc, plan: Doc, world: World, *, subscription_at: int) -> Doc:
    """A subscription that is neither stored nor started yet."""
    method = given.get("payment_method")
    return {
        "external_id": text(given["external_id"]),
        "lago_customer_id": customer["lago_id"],
        "external_customer_id": customer["external_id"],
        "name": text(given.get("name")),
        "plan_id": plan["lago_id"],
        "status": "pending",
        "billing_time": given.get("billing_time") or "calendar",
        "subscription_at": subscription_at,
        "started_at": None,
        "activated_at": None,
        "ending_at": parse_iso(given.get("ending_at")),
        "terminated_at": None,
        "canceled_at": None,
        "created_at": world.now(),
        "previous_id": None,
        "next_id": None,
        "due_at": None,
        "on_termination_credit_note": None,
        "on_termination_invoice": "generate",
        "progressive_billing_disabled": bool(given.get("progressive_billing_disabled", False)),
        "consolidate_invoice": bool(given.get("consolidate_invoice", True)),
        "purchase_order_number": given.get("purchase_order_number"),
        "payment_method_type": (method.get("payment_method_type") if isinstance(method, dict) else None) or "provider",
        "activation_rules": new_rules(given, world.now()),
    }


def new_rules(given: dict[str, Any], now: int) -> list[Doc]:
    """The activation rules of a request, not looked at yet."""
    return [
        {
            "lago_id": str(uuid.uuid4()),
            "type": rule["type"],
            "timeout_hours": rule.get("timeout_hours") or 0,
            "status": "inactive",
            "expires_at": None,
            "created_at": now,
        }
        for rule in given.get("activation_rules") or []
    ]


def _create(given: dict[str, Any], customer: Doc, plan: Doc, world: World) -> Doc:
    now = world.now()
    wanted = parse_iso(given.get("subscription_at"))
    at = now if wanted is None else wanted
    child = overridden(plan, asked(given), world)
    doc = _new(given, customer, child, world, subscription_at=at)
    if day_of(at) > day_of(now):
        keep(doc, world)
    elif day_of(at) < day_of(now):
        # Rules are for starts to come: a start in the past is active at once.
        doc["activation_rules"] = []
        start(doc, at, world)
    else:
        start(doc, now, world)
    return doc


def _successor(given: dict[str, Any], current: Doc, customer: Doc, plan: Doc, world: World) -> Doc:
    """The subscription to another plan: what is not asked for is taken over, but neither name nor billing time."""
    taken_over = {"consolidate_invoice": current["consolidate_invoice"]}
    wanted = {**taken_over, **given, "billing_time": current["billing_time"]}
    child = overridden(plan, asked(given), world)
    doc = _new(wanted, customer, child, world, subscription_at=current["subscription_at"])
    if "ending_at" not in given:
        doc["ending_at"] = current["ending_at"]
    doc["previous_id"] = current["lago_id"]
    return doc


def _upgrade(given: dict[str, Any], current: Doc, customer: Doc, plan: Doc, world: World) -> Doc:
    cancel_next(current, world)
    doc = _successor(given, current, customer, plan, world)
    start(doc, world.now(), world)
    if doc["status"] == "active":
        end(current, world)
    current["next_id"] = doc["lago_id"]
    keep(current, world)
    return doc


def _downgrade(given: dict[str, Any], current: Doc, customer: Doc, plan: Doc, world: World) -> Doc:
    cancel_next(current, world)
    follower = _successor(given, current, customer, plan, world)
    keep(follower, world)
    current["next_id"] = follower["lago_id"]
    keep(current, world)
    return current
