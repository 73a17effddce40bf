"""The control API under ``/_sandbox`` and the page at ``/``: no part of Lago."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from airflow_provider_lago.sandbox.app import SandboxApp
from airflow_provider_lago.sandbox.dump import dump
from airflow_provider_lago.sandbox.faults import Fault
from airflow_provider_lago.sandbox.journal import as_dicts
from airflow_provider_lago.sandbox.page import render
from airflow_provider_lago.sandbox.store import EventRow, Store
from airflow_provider_lago.sandbox.times import iso, iso_ms

_CHUNK = 5_000
_FAULT_ARGUMENTS = {item.name for item in fields(Fault) if item.init}

View = Callable[[Request], Awaitable[Response]]


def event_dict(row: EventRow) -> dict[str, Any]:
    """A stored event for people and tests: the API's names, and the exact timestamp in microseconds."""
    return {
        "lago_id": row.lago_id,
        "transaction_id": row.transaction_id,
        "external_subscription_id": row.external_subscription_id,
        "code": row.code,
        "timestamp": iso_ms(row.timestamp),
        "timestamp_us": row.timestamp,
        "precise_total_amount_cents": row.precise_total_amount_cents,
        "properties": msgspec.json.decode(row.properties),
        "created_at": iso(row.created_at),
    }


def state(app: SandboxApp) -> dict[str, Any]:
    """All counts."""
    store = app.world.store
    return {
        "store": store.flavour,
        "events": store.event_count,
        "duplicates_refused": app.world.duplicates_refused,
        "customers": store.count("customer"),
        "subscriptions": store.count("subscription"),
        "billable_metrics": store.count("billable_metric"),
        "plans": store.count("plan"),
        "wallets": store.count("wallet"),
        "invoices": store.count("invoice"),
        **app.journal.totals(),
        "faults": [rule.summary() for rule in app.faults.rules],
    }


def make_fault(arguments: dict[str, Any]) -> Fault:
    """
    A fault from a JSON object.

    :raises ValueError: for unknown kinds and arguments.
    """
    unknown = arguments.keys() - _FAULT_ARGUMENTS
    if unknown or "kind" not in arguments:
        raise ValueError(
            f"A fault has kind and some of {', '.join(sorted(_FAULT_ARGUMENTS - {'kind'}))}; "
            f"not {', '.join(sorted(unknown)) or 'nothing'}."
        )
    return msgspec.convert(arguments, Fault)


def desk(app: SandboxApp) -> Starlette:
    """The application behind ``/_sandbox`` and the page."""

    async def show_page(_request: Request) -> Response:
        return HTMLResponse(render(app.world.store, state(app), app.journal.errors))

    async def show_state(_request: Request) -> Response:
        return _json(state(app))

    async def show_requests(_request: Request) -> Response:
        return _json({"requests": as_dicts(app.journal.requests)})

    async def show_events(request: Request) -> Response:
        store = app.world.store
        if request.query_params.get("format") == "jsonl":
            return StreamingResponse(_lines(store), media_type="application/x-ndjson")
        return _json({"events": [event_dict(row) for row in store.events()]})

    async def show_dump(_request: Request) -> Response:
        return Response(dump(app.world), media_type="application/x-ndjson")

    async def list_faults(_request: Request) -> Response:
        return _json({"faults": [rule.summary() for rule in app.faults.rules]})

    async def install_faults(request: Request) -> Response:
        given = msgspec.json.decode(await request.body())
        rules = [make_fault(item) for item in (given if isinstance(given, list) else [given])]
        app.faults.rules.extend(rules)
        return _json({"faults": [rule.summary() for rule in app.faults.rules]})

    async def clear_faults(_request: Request) -> Response:
        app.faults.rules.clear()
        return _json({"faults": []})

    async def change_settings(request: Request) -> Response:
        given = msgspec.json.decode(await request.body())
        unknown = given.keys() - {"latency", "rate_limit", "rate_window"}
        if unknown:
            raise ValueError(f"Unknown settings: {', '.join(sorted(unknown))}.")
        app.latency = float(given.get("latency", app.latency))
        app.limit.limit = given.get("rate_limit", app.limit.limit)
        app.limit.window = float(given.get("rate_window", app.limit.window))
        return _json({"latency": app.latency, "rate_limit": app.limit.limit, "rate_window": app.limit.window})

    async def reset(_request: Request) -> Response:
        app.reset()
        return _json(state(app))

    routes = [
        Route("/", show_page, methods=["GET"]),
        Route("/_sandbox/state", show_state, methods=["GET"]),
        Route("/_sandbox/requests", show_requests, methods=["GET"]),
        Route("/_sandbox/events", show_events, methods=["GET"]),
        Route("/_sandbox/dump", show_dump, methods=["GET"]),
        Route("/_sandbox/faults", list_faults, methods=["GET"]),
        Route("/_sandbox/faults", _checked(install_faults), methods=["POST"]),
        Route("/_sandbox/faults", clear_faults, methods=["DELETE"]),
        Route("/_sandbox/settings", _checked(change_settings), methods=["PUT"]),
        Route("/_sandbox/reset", reset, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _checked(view: View) -> View:
    """Answer what is wrong with a request as 400."""

    async def run(request: Request) -> Response:
        try:
            return await view(request)
        except (ValueError, TypeError, AttributeError) as wrong:
            return _json({"error": str(wrong)}, 400)

    return run


def _lines(store: Store) -> Iterator[bytes]:
    offset = 0
    while rows := store.events(limit=f"LIMIT {_CHUNK} OFFSET {offset}"):
        yield b"".join(msgspec.json.encode(event_dict(row)) + b"\n" for row in rows)
        offset += _CHUNK
