"""From a request to Lago's answer: route, key, handler, ETag."""

from __future__ import annotations

import hashlib
import logging
import uuid

from airflow_provider_lago.sandbox.access import Keys
from airflow_provider_lago.sandbox.answers import HTML, Answer, Refusal, crash, not_found
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.lifecycle import run_due
from airflow_provider_lago.sandbox.routes import Route, find
from airflow_provider_lago.sandbox.world import World

log = logging.getLogger(__name__)


def answer(call: Call, world: World, keys: Keys) -> Answer:
    """Answer a request as Lago would."""
    if call.method == "OPTIONS" and call.header(b"access-control-request-method"):
        return _preflight(call)
    if call.path == "/":
        return Answer(404, content_type=HTML)
    try:
        found = find(call.method, call.path, world.release)
        if found is None:
            # Rendered before authentication: this code means a wrong address, never a missing object.
            raise not_found("resource")
        route, call.ids = found
        call.route = route.name
        given = _handled(call, route, world, keys)
    except Refusal as refusal:
        given = refusal.answer
    except Exception:
        log.exception("The sandbox failed on %s %s", call.method, call.path)
        given = crash().answer
    if call.header(b"origin"):
        given.headers["access-control-allow-origin"] = "*"
    given.headers["x-request-id"] = call.header(b"x-request-id") or str(uuid.uuid4())
    return _conditional(call, given)


def _handled(call: Call, route: Route, world: World, keys: Keys) -> Answer:
    if route.resource is not None:
        try:
            keys.check(call.header(b"authorization"), route.resource, call.method)
        except Refusal:
            _ = call.params  # Lago finds malformed JSON before it looks at the key.
            raise
    # One request at a time: tests call from their own thread while the server answers in another.
    with world.store.lock:
        run_due(world)
        return route.handler(call, world)


def _preflight(call: Call) -> Answer:
    return Answer(
        200,
        content_type=None,
        headers={
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS, HEAD",
            "access-control-allow-headers": call.header(b"access-control-request-headers"),
        },
    )


def _conditional(call: Call, given: Answer) -> Answer:
    """A weak ETag on every success, and 304 for a reader who has it."""
    if given.status != 200 or not given.body:
        return given
    given.headers["etag"] = etag = f'W/"{hashlib.sha256(given.body).hexdigest()[:32]}"'
    if call.method in ("GET", "HEAD") and call.header(b"if-none-match") == etag:
        return Answer(304, content_type=None, headers=given.headers)
    return given
