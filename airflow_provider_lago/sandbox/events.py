"""``POST /events`` and ``POST /events/batch``: what Lago takes, refuses and stores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_lago.sandbox.answers import Answer, Refusal, crash, invalid, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.event_values import (
    InvalidFormat,
    is_blank,
    precise_amount,
    scalar_text,
    timestamp,
)
from airflow_provider_lago.sandbox.expressions import EvaluationFailed, evaluate
from airflow_provider_lago.sandbox.store import EventRow
from airflow_provider_lago.sandbox.times import iso, iso_ms
from airflow_provider_lago.sandbox.world import World

Row = tuple[str, str, str | None, str, int, str | None, bytes, int]
Details = dict[str, list[str]] | str

MANDATORY, DUPLICATE, BAD_FORMAT = ["value_is_mandatory"], ["value_already_exist"], ["invalid_format"]


class EventOut(msgspec.Struct, gc=False):
    """An event as Lago serializes it, in Lago's order."""

    lago_id: str | None
    transaction_id: str
    lago_customer_id: str | None
    code: str
    timestamp: str
    precise_total_amount_cents: str | None
    properties: msgspec.Raw
    lago_subscription_id: str | None
    external_subscription_id: str | None
    created_at: str | None


class _PlainEvent(msgspec.Struct, gc=False):
    """The common shape of an event: checked by msgspec, properties left as text."""

    transaction_id: str
    code: str
    external_subscription_id: str
    timestamp: int | float | str | None = None
    precise_total_amount_cents: str | None = None
    properties: msgspec.Raw = msgspec.Raw(b"{}")


class _PlainBatch(msgspec.Struct, gc=False):
    events: list[_PlainEvent]


_plain_batch = msgspec.json.Decoder(_PlainBatch)


def create_event(call: Call, world: World) -> Answer:
    """``POST /events``."""
    call.events = 1
    item = call.root("event")
    identity = (item.get("transaction_id"), item.get("code"))
    if any(isinstance(part, str) and "\0" in part for part in identity):
        # Lago mistakes the database driver's complaint about NUL for one about the timestamp.
        raise invalid({"timestamp": BAD_FORMAT})
    now = world.now()
    row = _shape(item, new_ids(1)[0], now, world, check_id=world.store.flavour == "postgres")
    if not isinstance(row, tuple):
        raise invalid(row)
    if not world.store.add_events([row]):
        world.duplicates_refused += 1
        raise invalid({"transaction_id": DUPLICATE})
    return ok({"event": _created([row], world)[0]})


def create_batch(call: Call, world: World) -> Answer:
    """``POST /events/batch``: all or nothing."""
    rows = _plain_rows(call, world)
    if rows is None:
        rows = _shaped_rows(call, world)
    if world.store.flavour == "postgres":
        _store_unique(rows, world)
    else:
        world.store.add_events(rows)
    return ok({"events": _created(rows, world)})


def new_ids(count: int) -> list[str]:
    """Random UUIDs, cheaper by the hundred than uuid4."""
    text = os.urandom(16 * count).hex()
    return [
        f"{text[i : i + 8]}-{text[i + 8 : i + 12]}-4{text[i + 13 : i + 16]}"
        f"-a{text[i + 17 : i + 20]}-{text[i + 20 : i + 32]}"
        for i in range(0, 32 * count, 32)
    ]


def _created(rows: Sequence[Row], world: World) -> list[EventOut]:
    """The echo of what was stored; a ClickHouse store has no ids to tell yet."""
    if world.store.flavour == "postgres":
        created = iso(rows[0][7])
        return [
            EventOut(lago_id, txn, None, code, iso_ms(at), amount, msgspec.Raw(properties), None, sub, created)
            for lago_id, txn, sub, code, at, amount, properties, _ in rows
        ]
    return [
        EventOut(None, txn, None, code, iso_ms(at), amount, msgspec.Raw(properties), None, sub, None)
        for _, txn, sub, code, at, amount, properties, _ in rows
    ]


def _plain_rows(call: Call, world: World) -> list[Row] | None:
    """Shape a batch of well-formed events quickly; None if anything in it needs Lago's finer rules."""
    body = call.body
    if not call.is_json or b"\\u0000" in body:
        return None
    try:
        items = _plain_batch.decode(body).events
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    call.events = len(items)
    if not 0 < len(items) <= world.max_batch:
        return None
    now, expressions, nulls = world.now(), world.expressions, b"null" in body
    rows: list[Row] = []
    for item, lago_id in zip(items, new_ids(len(items)), strict=True):
        txn, code, properties = item.transaction_id, item.code, bytes(item.properties)
        if not txn or not code or txn.isspace() or code.isspace() or code in expressions:
            return None
        if properties[:1] != b"{" or (nulls and b"null" in properties and b"[" in properties):
            return None
        if len(properties) > 200 and properties.count(b"{") + properties.count(b"[") > 90:
            return None
        try:
            at = timestamp(item.timestamp, now)
        except (InvalidFormat, Refusal):
            return None
        amount = item.precise_total_amount_cents
        if amount is not None:
            amount = precise_amount(amount)
        rows.append((lago_id, txn, item.external_subscription_id, code, at, amount, properties, now))
    return rows


def _shaped_rows(call: Call, world: World) -> list[Row]:
    """Shape a batch item by item; report every item that is wrong, keyed by its index."""
    events = call.params.get("events")
    # Anything but an object is dropped before the items are numbered, so later indexes shift.
    items = [item for item in events if isinstance(item, dict)] if isinstance(events, list) else []
    call.events = len(items)
    if not items:
        raise invalid({"events": ["no_events"]})
    if len(items) > world.max_batch:
        raise invalid({"events": ["too_many_events"]})
    now, rows, errors = world.now(), [], dict[str, Details]()
    for index, (item, lago_id) in enumerate(zip(items, new_ids(len(items)), strict=True)):
        row = _shape(item, lago_id, now, world, check_id=True)
        if isinstance(row, tuple):
            rows.append(row)
        else:
            errors[str(index)] = row
    if errors:
        raise invalid(errors)
    if any("\0" in row[1] or "\0" in row[3] for row in rows):
        raise crash()
    return rows


def _shape(item: dict[str, Any], lago_id: str, now: int, world: World, *, check_id: bool) -> Row | Details:
    """One event's row, or what is wrong with it."""
    try:
        at = timestamp(item.get("timestamp"), now)
    except InvalidFormat:
        return {"timestamp": BAD_FORMAT}
    code = scalar_text(item.get("code"))
    missing = [
        name
        for name, checked in (("transaction_id", check_id), ("code", True))
        if checked and (is_blank(item.get(name)) or scalar_text(item.get(name)) is None)
    ]
    if missing or code is None:
        return dict.fromkeys(missing, MANDATORY)
    properties = item.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if _holds_nul(properties):
        raise crash()
    if code in world.expressions:
        field_name, expression = world.expressions[code]
        seen = {"code": code, "timestamp": at // 1_000_000, "properties": properties}
        try:
            properties = {**properties, field_name: evaluate(expression, seen)}
        except EvaluationFailed as failed:
            return f"expression_evaluation_failed: {failed}"
    return (
        lago_id,
        scalar_text(item.get("transaction_id")) or "",
        scalar_text(item.get("external_subscription_id")),
        code,
        at,
        precise_amount(item.get("precise_total_amount_cents")),
        msgspec.json.encode(properties),
        now,
    )


def _holds_nul(value: object) -> bool:
    """Postgres refuses NUL in jsonb."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(_holds_nul(item) for item in value)


def _store_unique(rows: list[Row], world: World) -> None:
    """Store a batch, or refuse it naming every duplicate in it."""
    ids = {row[1] for row in rows}
    # Lago maps the result of its INSERT by transaction_id alone: within one batch a second use of an id is
    # refused even for another subscription, although two requests would be accepted.
    if len(ids) == len(rows) and world.store.add_events(rows):
        return
    seen: set[str] = set()
    errors: dict[str, Details] = {}
    for index, row in enumerate(rows):
        if row[1] in seen or world.store.has_event(row[1], row[2]):
            errors[str(index)] = {"transaction_id": DUPLICATE}
        seen.add(row[1])
    world.duplicates_refused += len(errors)
    raise invalid(errors)


def stored(row: EventRow, world: World, owner: tuple[str | None, str | None] = (None, None)) -> EventOut:
    """
    A stored event as the reads answer it.

    :param owner: customer and subscription, which only a ClickHouse store resolves.
    """
    properties, lago_id = row.properties, row.lago_id
    if world.store.flavour == "clickhouse":
        held: dict[str, Any] = msgspec.json.decode(properties)
        # The column is a Map(String, String).
        texts = {
            key: value if isinstance(value, str) else msgspec.json.encode(value).decode() for key, value in held.items()
        }
        properties = msgspec.json.encode(texts)
        parts = (world.organization_id, row.external_subscription_id or "", row.code, row.transaction_id)
        lago_id = "-".join((*parts, str(row.timestamp // 1000)))
    return EventOut(
        lago_id,
        row.transaction_id,
        owner[0],
        row.code,
        iso_ms(row.timestamp),
        row.precise_total_amount_cents,
        msgspec.Raw(properties),
        owner[1],
        row.external_subscription_id,
        iso(row.created_at),
    )
