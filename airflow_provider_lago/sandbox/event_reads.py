"""``GET /events``, ``GET /events/{transaction_id}`` and ``GET /events_enriched``."""

from __future__ import annotations

from airflow_provider_lago.sandbox.answers import Answer, forbidden, invalid, not_found, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.events import EventOut, stored
from airflow_provider_lago.sandbox.pages import meta
from airflow_provider_lago.sandbox.store import EventRow
from airflow_provider_lago.sandbox.times import parse_iso
from airflow_provider_lago.sandbox.world import World

_NEWEST = {
    # Equal timestamps come in the order of Lago's unique index.
    "postgres": "timestamp DESC, external_subscription_id, transaction_id",
    "clickhouse": "created_at DESC, seq DESC",
}


def list_events(call: Call, world: World) -> Answer:
    """Newest timestamp first; ClickHouse orders by arrival."""
    query, where, values = call.query, list[str](), list[object]()
    for name in ("code", "external_subscription_id"):
        if isinstance(query.get(name), str) and query[name]:
            where.append(f"{name} = ?")
            values.append(query[name])
    for name, comparison in (("timestamp_from", ">="), ("timestamp_to", "<=")):
        if query.get(name):
            at = parse_iso(query[name])
            if at is None:
                raise invalid({name: ["invalid_date"]})
            where.append(f"timestamp {comparison} ?")
            values.append(at)
    started = query.get("timestamp_from_started_at")
    if started not in (None, "", "true", "false"):
        raise invalid({"timestamp_from_started_at": ["must be one of: true, false"]})
    if started == "true":
        where.append("timestamp >= ?")
        values.append(_started_at(query.get("external_subscription_id"), world))
    page, size = call.page()
    total = world.store.count_events(where, values)
    numbers = meta(page, size, total)
    rows = world.store.events(
        where,
        values,
        order=_NEWEST[world.store.flavour],
        limit=f"LIMIT {size} OFFSET {(page - 1) * size}",
    )
    return ok({"events": [_resolved(row, world) for row in rows], "meta": numbers})


def _started_at(external_id: object, world: World) -> int:
    held = world.store.all("subscription", key=external_id) if isinstance(external_id, str) else []
    active = [doc["started_at"] for doc in held if doc["status"] == "active"]
    if not active:
        raise not_found("subscription")
    return int(active[-1])


def show_event(call: Call, world: World) -> Answer:
    """Not scoped to a subscription: of several events with this id, one."""
    rows = world.store.events(("transaction_id = ?",), call.ids, limit="LIMIT 1")
    if not rows:
        raise not_found("event")
    return ok({"event": _resolved(rows[0], world)})


def events_enriched(_call: Call, _world: World) -> Answer:
    """Needs Lago's enrichment pipeline, which neither the sandbox nor a Postgres organization has."""
    raise forbidden("endpoint_not_available")


def _resolved(row: EventRow, world: World) -> EventOut:
    if world.store.flavour == "postgres":
        return stored(row, world)
    subscription = world.store.find("subscription", row.external_subscription_id or "")
    if subscription is None:
        return stored(row, world)
    return stored(row, world, (subscription["lago_customer_id"], subscription["lago_id"]))
