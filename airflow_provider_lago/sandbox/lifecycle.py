"""How subscriptions start and end, asked for or by the passing of time."""

from __future__ import annotations

import uuid

from airflow_provider_lago.sandbox.periods import period
from airflow_provider_lago.sandbox.plan_overrides import plan_of
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import SECOND
from airflow_provider_lago.sandbox.world import World

_HOUR = 3600 * SECOND


def current_period(doc: Doc, plan: Doc, now: int) -> tuple[int, int] | None:
    """First and last instant of the running billing period; None before the start."""
    if doc["started_at"] is None:
        return None
    ended = doc["terminated_at"]
    first, last = period(plan["interval"], doc["billing_time"], doc["subscription_at"], now if ended is None else ended)
    return max(first, doc["started_at"]), last if ended is None else ended


def keep(doc: Doc, world: World) -> None:
    """Store a subscription, new or not, with the time at which something will happen to it by itself."""
    doc["due_at"] = _due_at(doc, world)
    if "lago_id" in doc:
        world.store.save(doc)
    else:
        doc.update(world.store.add("subscription", doc["external_id"], doc))


def neighbour(doc: Doc, name: str, world: World) -> Doc | None:
    """The subscription before (``previous_id``) or after (``next_id``) this one."""
    return world.store.get("subscription", doc[name]) if doc[name] else None


def _due_at(doc: Doc, world: World) -> int | None:
    if doc["status"] == "pending":
        return None if doc["previous_id"] else int(doc["subscription_at"])
    if doc["status"] == "incomplete":
        expiries = [rule["expires_at"] for rule in doc["activation_rules"] if rule["expires_at"] is not None]
        return min(expiries, default=None)
    if doc["status"] != "active":
        return None
    times = [] if doc["ending_at"] is None else [int(doc["ending_at"])]
    if _waiting(doc, world) is not None:
        bounds = current_period(doc, plan_of(doc, world), world.now())
        times += [bounds[1] + SECOND] if bounds else []
    return min(times, default=None)


def run_due(world: World) -> None:
    """Let everything happen whose time has come: Lago has clock jobs for it, the sandbox looks before each request."""
    now = world.now()
    while (doc := world.store.due(now)) is not None:
        with world.store.transaction():
            _happen(doc, doc["due_at"], world)


def _happen(doc: Doc, at: int, world: World) -> None:
    if doc["status"] == "pending":
        start(doc, at, world)
        return
    if doc["status"] == "incomplete" or doc["ending_at"] == at:
        end(doc, world, at)
        return
    follower = _waiting(doc, world)
    if follower is not None:
        doc.update(status="terminated", terminated_at=at)
        follower.update(status="active", started_at=at, activated_at=at)
        keep(follower, world)
    keep(doc, world)


def start(doc: Doc, at: int, world: World) -> None:
    """Begin a subscription; a payment rule on a plan paid in advance holds it back until the payment."""
    rules = doc["activation_rules"]
    doc["started_at"] = at
    if rules and plan_of(doc, world)["pay_in_advance"]:
        doc["status"] = "incomplete"
        for rule in rules:
            hours = rule["timeout_hours"]
            rule.update(status="pending", expires_at=world.now() + hours * _HOUR if hours else None)
    else:
        doc.update(status="active", activated_at=at)
        for rule in rules:
            rule["status"] = "not_applicable"
    keep(doc, world)


def hold_back(doc: Doc, world: World) -> None:
    """Put a subscription into the state of waiting for its first payment, for as long as it takes."""
    rule = {"lago_id": str(uuid.uuid4()), "type": "payment", "timeout_hours": 0, "status": "pending"}
    rule.update(expires_at=None, created_at=world.now())
    doc.update(status="incomplete", activated_at=None, activation_rules=[rule])
    keep(doc, world)


def pay(doc: Doc, world: World) -> None:
    """The first invoice of an incomplete subscription was paid; one that it replaces ends now."""
    previous = neighbour(doc, "previous_id", world)
    if previous is not None and previous["status"] == "active":
        previous.update(status="terminated", terminated_at=world.now())
        keep(previous, world)
    doc.update(status="active", activated_at=world.now())
    for rule in doc["activation_rules"]:
        rule["status"] = "satisfied"
    keep(doc, world)


def _waiting(current: Doc, world: World) -> Doc | None:
    """The downgrade that waits behind an active subscription."""
    follower = neighbour(current, "next_id", world)
    return follower if follower is not None and follower["status"] == "pending" else None


def cancel_next(current: Doc, world: World) -> None:
    """Give up the downgrade that waits behind an active subscription."""
    follower = _waiting(current, world)
    if follower is not None:
        follower.update(status="canceled", canceled_at=world.now())
        keep(follower, world)
        current["next_id"] = None


def end(doc: Doc, world: World, at: int | None = None) -> None:
    """Terminate an active subscription, cancel a pending or incomplete one; leave others."""
    at = world.now() if at is None else at
    if doc["status"] == "active":
        cancel_next(doc, world)
        doc.update(status="terminated", terminated_at=at)
    elif doc["status"] in ("pending", "incomplete"):
        if doc["status"] == "incomplete":
            for rule in doc["activation_rules"]:
                rule["status"] = "expired"
        doc.update(status="canceled", canceled_at=at)
        previous = neighbour(doc, "previous_id", world)
        if previous is not None and previous["next_id"] == doc["lago_id"]:
            previous["next_id"] = None
            keep(previous, world)
    keep(doc, world)
