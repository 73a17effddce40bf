"""How subscriptions end."""

from __future__ import annotations

from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.world import World


def cancel_next(current: Doc, world: World) -> None:
    """Give up the downgrade that waits behind an active subscription."""
    follower = world.store.get("subscription", current["next_id"]) if current["next_id"] else None
    if follower is not None and follower["status"] == "pending":
        follower.update(status="canceled", canceled_at=world.now())
        world.store.save(follower)
        current["next_id"] = None


def end(doc: Doc, world: World) -> None:
    """Terminate an active subscription, cancel a pending one; leave others."""
    if doc["status"] == "active":
        cancel_next(doc, world)
        doc.update(status="terminated", terminated_at=world.now())
    elif doc["status"] == "pending":
        doc.update(status="canceled", canceled_at=world.now())
        previous = world.store.get("subscription", doc["previous_id"]) if doc["previous_id"] else None
        if previous is not None:
            previous["next_id"] = None
            world.store.save(previous)
    world.store.save(doc)
