"""Subscriptions: what a POST does depends on what is there under the same ``external_id``."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox import customers
from airflow_provider_lago.sandbox.answers import Answer, forbidden, invalid, not_found, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.lifecycle import cancel_next, end
from airflow_provider_lago.sandbox.periods import yearly_amount
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.subscription_views import GET, PUT, deleted, serialized
from airflow_provider_lago.sandbox.times import day_of, parse_iso
from airflow_provider_lago.sandbox.world import World

_BILLING_TIMES = ("calendar", "anniversary")
_CREDIT_NOTES = ("credit", "refund", "skip", "offset")
_INVOICES = ("generate", "skip")
_UPDATABLE = ["ending_at", "progressive_billing_disabled", "consolidate_invoice", "purchase_order_number"]


def text(value: object) -> str:
    """Ids and names are stringified and stripped; numbers are accepted."""
    return "" if value is None or isinstance(value, (dict, list)) else str(value).strip()


def create_subscription(call: Call, world: World) -> Answer:
    """``POST /subscriptions``: create, keep, upgrade, downgrade, or replace a pending one's plan."""
    given = call.root("subscription")
    if given.get("billing_entity_code") not in (None, world.slug):
        raise not_found("billing_entity")
    plan = world.store.find("plan", text(given.get("plan_code")))
    if plan is None:
        raise not_found("plan")
    _check(given, world.now())
    if given.get("plan_overrides"):
        raise forbidden("feature_unavailable")
    external_customer_id = text(given.get("external_customer_id"))
    if not external_customer_id:
        raise invalid({"external_customer_id": ["value_is_mandatory"]})
    # The customer is committed before the rest: refusals below leave it behind.
    customer = customers.find_or_create(world, external_customer_id)
    if customer["currency"] is None:
        customer["currency"] = plan["amount_currency"]
        world.store.save(customer)
    with world.store.transaction():
        doc = _settle(given, customer, plan, world)
    return ok({"subscription": serialized(doc, world, GET)})


def _check(given: dict[str, Any], now: int) -> None:
    errors: dict[str, object] = {}
    start = now
    if given.get("subscription_at") is not None:
        parsed = parse_iso(given["subscription_at"])
        if parsed is None:
            errors["subscription_at"] = ["invalid_date"]
        start = now if parsed is None else parsed
    if given.get("ending_at") is not None:
        end_at = parse_iso(given["ending_at"])
        if end_at is None or day_of(end_at) <= day_of(now) or day_of(end_at) <= day_of(start):
            errors["ending_at"] = ["invalid_date"]
    if given.get("billing_time") not in (None, *_BILLING_TIMES):
        errors["billing_time"] = ["value_is_invalid"]
    if not text(given.get("external_id")):
        errors["external_id"] = ["value_is_mandatory"]
    if len(text(given.get("purchase_order_number"))) > 255:
        errors["purchase_order_number"] = ["value_is_too_long"]
    if errors:
        raise invalid(errors)


def _settle(given: dict[str, Any], customer: Doc, plan: Doc, world: World) -> Doc:
    external_id = text(given["external_id"])
    held = world.store.all("subscription", key=external_id)
    own = [doc for doc in held if doc["lago_customer_id"] == customer["lago_id"]]
    active = next((doc for doc in own if doc["status"] == "active"), None)
    waiting = next((doc for doc in own if doc["status"] == "pending" and not doc["previous_id"]), None)
    current = active or waiting
    if current is None:
        if any(doc["status"] == "active" for doc in held):
            raise invalid({"external_id": ["value_already_exist"]})
        return _create(given, customer, plan, world)
    if current["plan_id"] == plan["lago_id"]:
        return current
    if current is waiting:
        waiting["plan_id"] = plan["lago_id"]
        waiting["name"] = text(given.get("name")) or waiting["name"]
        world.store.save(waiting)
        return waiting
    now_paid = world.store.get("plan", current["plan_id"])
    if now_paid is None or _yearly(plan) >= _yearly(now_paid):
        return _upgrade(given, current, customer, plan, world)
    cancel_next(current, world)
    follower = _new(given, customer, plan, world, started_at=None, start=current["subscription_at"])
    follower["previous_id"] = current["lago_id"]
    follower = world.store.add("subscription", external_id, follower)
    current["next_id"] = follower["lago_id"]
    world.store.save(current)
    return current


def _yearly(plan: Doc) -> int:
    return yearly_amount(plan["amount_cents"], plan["interval"])


def _new(given: dict[str, Any], customer: Doc, plan: Doc, world: World, *, started_at: int | None, start: int) -> Doc:
    return {
        "external_id": text(given["external_id"]),
        "lago_customer_id": customer["lago_id"],
        "external_customer_id": customer["external_id"],
        "name": text(given.get("name")),
        "plan_id": plan["lago_id"],
        "status": "pending" if started_at is None else "active",
        "billing_time": given.get("billing_time") or "calendar",
        "subscription_at": start,
        "started_at": started_at,
        "ending_at": parse_iso(given.get("ending_at")),
        "terminated_at": None,
        "canceled_at": None,
        "created_at": world.now(),
        "previous_id": None,
        "next_id": None,
        "on_termination_credit_note": None,
        "on_termination_invoice": "generate",
        "progressive_billing_disabled": bool(given.get("progressive_billing_disabled", False)),
        "consolidate_invoice": bool(given.get("consolidate_invoice", True)),
        "purchase_order_number": given.get("purchase_order_number"),
    }


def _create(given: dict[str, Any], customer: Doc, plan: Doc, world: World) -> Doc:
    now = world.now()
    asked = parse_iso(given.get("subscription_at"))
    start = now if asked is None or day_of(asked) == day_of(now) else asked
    started_at = None if start > now else start
    doc = _new(given, customer, plan, world, started_at=started_at, start=now if asked is None else asked)
    return world.store.add("subscription", doc["external_id"], doc)


def _upgrade(given: dict[str, Any], current: Doc, customer: Doc, plan: Doc, world: World) -> Doc:
    end(current, world)
    asked = {"billing_time": current["billing_time"], "name": current["name"], **given}
    doc = _new(asked, customer, plan, world, started_at=world.now(), start=current["subscription_at"])
    doc["previous_id"] = current["lago_id"]
    doc = world.store.add("subscription", doc["external_id"], doc)
    current["next_id"] = doc["lago_id"]
    world.store.save(current)
    return doc


def _newest(world: World, external_id: str, status: object) -> Doc:
    wanted = status if isinstance(status, str) and status else "active"
    for doc in reversed(world.store.all("subscription", key=external_id)):
        if doc["status"] == wanted:
            return doc
    raise not_found("subscription")


def show_subscription(call: Call, world: World) -> Answer:
    """``GET /subscriptions/{external_id}``: the newest of the wanted status, active by default."""
    doc = _newest(world, call.ids[0], call.query.get("status"))
    return ok({"subscription": serialized(doc, world, GET)})


def update_subscription(call: Call, world: World) -> Answer:
    """``PUT /subscriptions/{external_id}``: the only one there is, whatever its status, else the active."""
    given = call.root("subscription")
    held = world.store.all("subscription", key=call.ids[0])
    status = call.query.get("status") or call.params.get("status")
    doc = held[0] if len(held) == 1 else _newest(world, call.ids[0], status)
    if given.get("plan_overrides"):
        raise forbidden("feature_unavailable")
    _check_termination(given)
    checked = {"external_id": doc["external_id"], **given}
    _check({key: value for key, value in checked.items() if key != "billing_time"}, world.now())
    if "name" in given:
        doc["name"] = given["name"]
    for name in _UPDATABLE:
        if name in given:
            doc[name] = parse_iso(given[name]) if name == "ending_at" else given[name]
    for name in ("on_termination_credit_note", "on_termination_invoice"):
        if given.get(name):
            doc[name] = given[name]
    if given.get("subscription_at") and doc["status"] == "pending" and not doc["previous_id"]:
        _move_start(doc, given["subscription_at"], world)
    world.store.save(doc)
    return ok({"subscription": serialized(doc, world, PUT)})


def _move_start(doc: Doc, asked: str, world: World) -> None:
    start = parse_iso(asked) or world.now()
    doc["subscription_at"] = start
    if start <= world.now():
        doc.update(status="active", started_at=start)


def _check_termination(given: dict[str, Any]) -> None:
    errors: dict[str, object] = {}
    for name, allowed in (
        ("on_termination_credit_note", _CREDIT_NOTES),
        ("on_termination_invoice", _INVOICES),
    ):
        if given.get(name) not in (None, "", *allowed):
            errors[name] = ["invalid_value"]
    if errors:
        raise invalid(errors)


def delete_subscription(call: Call, world: World) -> Answer:
    """``DELETE /subscriptions/{external_id}``: terminates the active one, or cancels with ``status=pending``."""
    query = call.query
    with world.store.transaction():
        status = "pending" if query.get("status") == "pending" else "active"
        doc = _newest(world, call.ids[0], status)
        _check_termination(query)
        plan = world.store.get("plan", doc["plan_id"])
        if plan is not None and plan["pay_in_advance"] and status == "active":
            doc["on_termination_credit_note"] = query.get("on_termination_credit_note") or "credit"
        doc["on_termination_invoice"] = query.get("on_termination_invoice") or doc["on_termination_invoice"]
        end(doc, world)
    return ok({"subscription": deleted(doc, world)})
