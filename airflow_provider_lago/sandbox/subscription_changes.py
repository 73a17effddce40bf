"""One subscription by its ``external_id``: read, update, end."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, forbidden, invalid, not_allowed, not_found, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.lifecycle import end, keep, neighbour, start
from airflow_provider_lago.sandbox.plan_overrides import asked, override_again, plan_of
from airflow_provider_lago.sandbox.resources import text
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.subscription_checks import check, check_termination
from airflow_provider_lago.sandbox.subscription_views import GET, PUT, STATUSES, deleted, serialized
from airflow_provider_lago.sandbox.subscriptions import new_rules
from airflow_provider_lago.sandbox.times import day_of, parse_iso
from airflow_provider_lago.sandbox.world import World


def _newest(world: World, external_id: str, status: object) -> Doc:
    wanted = status if status in STATUSES else "active"
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
    if doc["status"] == "incomplete":
        raise not_allowed("subscription_incomplete")
    if _other_order_number(doc, given) and doc["status"] not in ("pending", "active"):
        raise not_allowed("purchase_order_number_not_editable")
    check_termination(given)
    checked = {key: value for key, value in given.items() if key != "billing_time"}
    check({**checked, "external_id": doc["external_id"]}, world.now())
    overrides = asked(given)
    if overrides is not None and not world.premium:
        raise forbidden("feature_unavailable")
    with world.store.transaction():
        _change(doc, given, world)
        if overrides is not None:
            override_again(doc, overrides, world)
        keep(doc, world)
        if given.get("subscription_at") and doc["status"] == "pending" and not doc["previous_id"]:
            _move_start(doc, parse_iso(given["subscription_at"]) or world.now(), world)
    return ok({"subscription": serialized(doc, world, PUT)})


def _other_order_number(doc: Doc, given: dict[str, Any]) -> bool:
    name = "purchase_order_number"
    return name in given and text(given[name]) != text(doc[name])


def _change(doc: Doc, given: dict[str, Any], world: World) -> None:
    for name in ("name", "purchase_order_number", "on_termination_invoice"):
        if name in given:
            doc[name] = given[name]
    for name in ("progressive_billing_disabled", "consolidate_invoice"):
        if name in given:
            doc[name] = bool(given[name])
    if "ending_at" in given:
        doc["ending_at"] = parse_iso(given["ending_at"])
    if "on_termination_credit_note" in given and plan_of(doc, world)["pay_in_advance"]:
        doc["on_termination_credit_note"] = given["on_termination_credit_note"]
    method = given.get("payment_method")
    if isinstance(method, dict) and method.get("payment_method_type"):
        doc["payment_method_type"] = method["payment_method_type"]
    if given.get("activation_rules") is not None and doc["status"] == "pending":
        doc["activation_rules"] = new_rules(given, world.now())


def _move_start(doc: Doc, at: int, world: World) -> None:
    doc["subscription_at"] = at
    if at > world.now() or (day_of(at) == day_of(world.now()) and doc["activation_rules"]):
        keep(doc, world)
        return
    doc["activation_rules"] = []
    start(doc, at, world)


def delete_subscription(call: Call, world: World) -> Answer:
    """``DELETE /subscriptions/{external_id}``: terminates the active one, or cancels with ``status=pending``."""
    query = call.query
    with world.store.transaction():
        status = "pending" if query.get("status") == "pending" else "active"
        doc = _newest(world, call.ids[0], status)
        check_termination(query)
        following = neighbour(doc, "next_id", world)
        if following is not None and following["status"] == "incomplete":
            raise invalid({"base": ["next_subscription_incomplete"]})
        if plan_of(doc, world)["pay_in_advance"] and status == "active":
            doc["on_termination_credit_note"] = query.get("on_termination_credit_note") or "credit"
        doc["on_termination_invoice"] = query.get("on_termination_invoice") or doc["on_termination_invoice"]
        end(doc, world)
    return ok({"subscription": deleted(doc, world)})
