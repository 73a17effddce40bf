"""A small TCP proxy between a delivery and the sandbox, for what a server cannot do to a connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

#: What happens before the request reaches the server, and after its answer left it.
BEFORE = ("reset_before", "half_open", "reset_mid_request", "cut_request", "late_request", "refuse")
AFTER = (
    "drop_answer",
    "reset_mid_answer",
    "cut_answer",
    "slow_loris",
    "stall",
    "late_answer",
    "close_after",
)
KINDS = frozenset(BEFORE + AFTER)

#: Seconds after which a connection that nobody ends is ended.
_FORGOTTEN = 60.0

Watch = Callable[[str, int], None]


@dataclass
class ProxyFault:
    """
    A kind of fault, and the requests that meet it.

    :param kind: ``reset_before``: RST before the body is read. ``half_open``: the request is taken and never answered.
        ``reset_mid_request``: RST in the middle of the request. ``cut_request``: the server gets half of the request,
        then the connection ends. ``late_request``: the server gets the request after ``seconds``, when the client may
        have given up and sent it again. ``refuse``: all connections are reset and new ones refused for ``seconds``.
        With the server's work done: ``drop_answer`` (closed without a byte of the answer), ``reset_mid_answer`` (RST
        after half of it), ``cut_answer`` (closed after half), ``slow_loris`` (byte by byte, ``seconds`` apart),
        ``stall`` (half, then nothing), ``late_answer`` (after ``seconds``), ``close_after`` (the whole answer, then
        closed without notice).
    :param probability: Share of the requests, drawn with ``seed``.
    :param skip: Let the first so many requests pass.
    :param times: At most so many times; None for always.
    :param seconds: See the kinds.
    :param seed: Of the draw.
    """

    kind: str
    probability: float = 1.0
    skip: int = 0
    times: int | None = None
    seconds: float = 0.0
    seed: int = 0
    seen: int = 0
    fired: int = 0
    _draw: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of fault; there are {', '.join(sorted(KINDS))}")
        self._draw = random.Random(self.seed)

    def strikes(self) -> bool:
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.fired >= self.times):
            return False
        if self._draw.random() >= self.probability:
            return False
        self.fired += 1
        return True


class _Over(Exception):
    """This connection is done with."""


class Proxy:
    """
    ``with Proxy(sandbox.port) as proxy``: passes requests on to a port of this machine, with faults on the way.

    It reads HTTP/1.1 requests with a Content-Length, one after the other on a connection, as deliveries send them.

    :param target: Port of the server; may be changed at any time.
    :param port: Port to listen on; 0 for a free one.
    :param watch: Called in the proxy's thread with ``request`` and ``answer`` and the request's number, before each is
        passed on.
    """

    def __init__(self, target: int, port: int = 0, watch: Watch = lambda phase, number: None) -> None:
        self.target = target
        self.port = port
        self.faults: list[ProxyFault] = []
        self.requests = 0
        self.fired: Counter[str] = Counter()
        self._watch = watch
        self._pending = 0
        self._clients: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def fault(self, kind: str, **rule: object) -> ProxyFault:
        installed = ProxyFault(kind, **rule)  # type: ignore[arg-type]
        self.faults.append(installed)
        return installed

    def reset(self) -> None:
        """Forget all faults and counts."""
        self.faults = []
        self.requests = 0
        self.fired.clear()

    def refuse(self, seconds: float) -> None:
        """Reset all connections and refuse new ones for so long, as while a server restarts. From any thread."""
        self._loop.call_soon_threadsafe(self._refuse, seconds)

    def wait_until_quiet(self, seconds: float = 15.0) -> bool:
        """Wait until no request is on its way to the server or at work there; False where there still is one."""
        until = time.monotonic() + seconds
        while self._pending and time.monotonic() < until:
            time.sleep(0.005)
        return not self._pending

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        await self._listen()
        self._ready.set()
        await self._end.wait()
        self._close()

    async def _listen(self) -> None:
        while True:
            try:
                self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
            except OSError:  # somebody's outgoing connection has the port for a moment
                await asyncio.sleep(0.02)
            else:
                self.port = self._server.sockets[0].getsockname()[1]
                return

    def _close(self) -> None:
        self._server.close()
        for writer in tuple(self._clients):
            _reset(writer)

    def _refuse(self, seconds: float) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            await self._listen()

        if self._server.is_serving():
            self.fired["refuse"] += 1
            self._close()
            task = self._loop.create_task(later())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():  # it was accepted just before all were to be reset
            _reset(writer)
            return
        self._clients.add(writer)
        # asyncio forgets the task when the client leaves, although it may wait for the server's answer.
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if upstream is None:
                    upstream = await asyncio.open_connection("127.0.0.1", self.target)
                await self._exchange(head, reader, writer, *upstream)
        except (asyncio.IncompleteReadError, _Over):
            pass
        except OSError:
            _reset(writer)
        finally:
            self._clients.discard(writer)
            writer.close()
            if upstream is not None:
                upstream[1].close()

    async def _exchange(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self.requests += 1
        number = self.requests
        fault = self._pick()
        kind = fault.kind if fault else ""
        length = _length(head) or 0
        if kind == "reset_before":
            raise ConnectionResetError
        if kind == "reset_mid_request":
            await reader.readexactly(length // 2)
            raise ConnectionResetError
        body = await reader.readexactly(length)
        if fault is not None and kind == "refuse":
            self._refuse(fault.seconds)
            raise _Over
        if kind == "half_open":
            await _gone(reader)
            raise _Over
        self._pending += 1
        try:
            self._watch("request", number)
            if fault is not None and kind == "late_request":
                await asyncio.sleep(fault.seconds)
            if kind == "cut_request":
                server_writer.write(head + body[: length // 2])
                await server_writer.drain()
                raise _Over
            server_writer.write(head + body)
            answer, whole = await _read_answer(server_reader)
            self._watch("answer", number)
        finally:
            self._pending -= 1
        await self._answer(answer, fault, reader, writer)
        if not whole or kind == "close_after":
            raise _Over

    async def _answer(
        self, answer: bytes, fault: ProxyFault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        kind = fault.kind if fault else ""
        body_at = answer.index(b"\r\n\r\n") + 4
        half = answer[: (body_at + len(answer)) // 2]
        if kind == "drop_answer":
            raise _Over
        if kind in ("reset_mid_answer", "cut_answer", "stall"):
            writer.write(half)
            await writer.drain()
            if kind == "stall":
                await _gone(reader)
            if kind == "reset_mid_answer":
                raise ConnectionResetError
            raise _Over
        if fault is not None and kind == "slow_loris":
            for byte in answer:
                writer.write(bytes([byte]))
                await asyncio.sleep(fault.seconds)
                if writer.is_closing() or reader.at_eof():
                    raise _Over
            return
        if fault is not None and kind == "late_answer":
            await asyncio.sleep(fault.seconds)
        writer.write(answer)
        await writer.drain()

    def _pick(self) -> ProxyFault | None:
        for fault in tuple(self.faults):
            if fault.strikes():
                if fault.kind != "refuse":
                    self.fired[fault.kind] += 1
                return fault
        return None


def _length(head: bytes) -> int | None:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None


async def _read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """Return an answer and whether it is whole; raise where there is not even its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _length(head)
    if length is None:
        return head + await reader.read(), False
    try:
        return head + await reader.readexactly(length), True
    except asyncio.IncompleteReadError as error:
        return head + error.partial, False


async def _gone(reader: asyncio.StreamReader) -> None:
    """Wait until the client has left."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_FORGOTTEN):
            while await reader.read(1 << 16):
                pass


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST: without lingering, the kernel sends no FIN."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
