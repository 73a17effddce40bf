"""A small HTTP server that answers as a test says: for what the sandbox cannot or should not do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 422: "Unprocessable Entity", 429: "Too Many Requests"}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        decoded = json.loads(self.body)
        return [decoded["event"]] if "event" in decoded else decoded["events"]


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    #: Close the connection instead of answering, after so many bytes of the answer.
    cut_after: int | None = None


CUT = Reply(cut_after=0)


def as_json(status: int, value: Any, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


def refused(details: Any, code: str = "validation_errors") -> Reply:
    return as_json(422, {"status": 422, "error": "Unprocessable Entity", "code": code, "error_details": details})


def echo(request: Request) -> Reply:
    """Lago's answer to events that it stored."""
    decoded = json.loads(request.body)
    if "event" in decoded:
        return as_json(200, {"event": decoded["event"]})
    return as_json(200, {"events": decoded["events"]})


class ScriptedServer:
    """``with ScriptedServer(answer) as server``: ``answer(request)`` gives the reply; requests are kept."""

    def __init__(self, answer: Callable[[Request], Reply], tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.host = "127.0.0.1"
        self._at_once = 0
        self._answer = answer
        self._tls = tls
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://{self.host}:{self._port}"

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self._tls)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if headers.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
        self.requests.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self._answer(request)
            if reply.delay:
                await asyncio.sleep(reply.delay)
        finally:
            self._at_once -= 1
        lines = [f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if "Content-Length" not in reply.headers:
            lines.append(f"Content-Length: {len(reply.body)}")
        message = "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body
        writer.write(message if reply.cut_after is None else message[: reply.cut_after])
        await writer.drain()
        return reply.cut_after is None
