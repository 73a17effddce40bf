"""The ASGI application: reads a request, meets faults and limits, and writes Lago's answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_provider_lago.sandbox import api
from airflow_provider_lago.sandbox.access import Keys, RateLimit
from airflow_provider_lago.sandbox.answers import Answer
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.faults import BEFORE, Fault, Faults
from airflow_provider_lago.sandbox.journal import KEPT_REQUESTS, Journal, SeenRequest
from airflow_provider_lago.sandbox.world import World

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Put into the scope by the server's protocol: dropping a connection needs the transport itself.
TRANSPORT = "lago_sandbox.transport"


class SandboxApp:
    """
    Lago's API; everything else goes to another application.

    :param desk: the application behind ``/_sandbox`` and the HTML page.
    :param latency: seconds that every answer of the API takes, the work on it included.
    :param keep_requests: how many requests the journal remembers.
    """

    def __init__(
        self,
        world: World,
        keys: Keys,
        limit: RateLimit,
        latency: float = 0.0,
        keep_requests: int = KEPT_REQUESTS,
    ) -> None:
        self.world = world
        self.keys = keys
        self.limit = limit
        self.latency = latency
        self.faults = Faults()
        self.journal = Journal(keep_requests)
        self.desk: Application | None = None

    def reset(self) -> None:
        """Back to an empty organization without faults."""
        self.world.reset()
        self.faults.rules.clear()
        self.journal.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        path = scope["raw_path"].decode("ascii")
        wants_page = path == "/" and b"text/html" in headers.get(b"accept", b"")
        if self.desk is not None and (wants_page or path.startswith("/_sandbox")):
            await self.desk(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        arrived = time.monotonic()
        call = Call(scope["method"], path, scope["query_string"], headers, body)
        self.journal.enter()
        try:
            await self._serve(call, arrived, scope, receive, send)
        finally:
            self.journal.leave()

    async def _serve(self, call: Call, arrived: float, scope: Scope, receive: Receive, send: Send) -> None:
        seconds, fault = self.faults.pick(call.method, call.path, call.body, call.query_string)
        if seconds > 0:
            await asyncio.sleep(seconds)
        given = self._answer(call, fault)
        left = arrived + seconds + self.latency - time.monotonic()
        if self.latency > 0 and left > 0:
            await asyncio.sleep(left)
        dropped = fault is not None and fault.kind in ("lost_response", "reset")
        self.journal.note(
            SeenRequest(
                call.method,
                call.path,
                None if dropped else given.status,
                call.events,
                fault.kind if fault else call.fault,
                arrived,
            ),
            call.route,
            given.body,
        )
        if fault is not None and dropped:
            await _drop(scope, receive, reset=fault.kind == "reset")
        elif fault is not None and fault.kind == "cut_body":
            await _cut(given, scope, receive, send)
        else:
            await _write(given, send)

    def _answer(self, call: Call, fault: Fault | None) -> Answer:
        if fault is not None and fault.kind in BEFORE:
            return Answer(500) if fault.kind == "reset" else fault.answer()
        refused, headers = self.limit.take() if call.path.startswith("/api/") else (None, {})
        call.provider = lambda: self.faults.of_provider(call.method, call.path, call.body)
        given = refused or api.answer(call, self.world, self.keys)
        given.headers.update(headers)
        return given if fault is None else fault.spoil(given)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if the client left before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _start(given: Answer) -> dict[str, Any]:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.headers.items()]
    if given.content_type is not None:
        headers.append((b"content-type", given.content_type.encode("latin-1")))
    if given.status != 304:
        headers.append((b"content-length", b"%d" % len(given.body)))
    return {"type": "http.response.start", "status": given.status, "headers": headers}


async def _write(given: Answer, send: Send) -> None:
    await send(_start(given))
    await send({"type": "http.response.body", "body": given.body})


async def _drop(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """Close the connection without a byte of answer."""
    transport: asyncio.Transport = scope[TRANSPORT]
    if reset:
        # Without lingering, the kernel sends RST instead of FIN.
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _gone(receive)


async def _cut(given: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Promise the whole body and close the connection after half of it."""
    await send(_start(given))
    half = given.body[: len(given.body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})
    transport: asyncio.Transport = scope[TRANSPORT]
    transport.close()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until the server knows: returning earlier would make it answer 500."""
    while (await receive())["type"] != "http.disconnect":
        pass
