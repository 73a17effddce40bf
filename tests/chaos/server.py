"""The sandbox and the proxy before it, in a process of their own that can be killed and started again."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import socket
import threading
from collections import Counter
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from support.deliveries import KEY
from support.proxy import Proxy

from airflow_provider_lago.sandbox import Sandbox
from airflow_provider_lago.sandbox.access import Keys
from chaos.records import CODES, EXPRESSION_CODE
from chaos.scenario import ELSEWHERE, Trigger

#: Ports below those that the system gives to outgoing connections, which could take one while it is not listened on.
_PORTS = range(12_000, 32_000)

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "interrupt": signal.SIGUSR1}


def free_port() -> int:
    """Return a port that nothing listens on."""
    start = os.getpid() * 7
    for step in range(len(_PORTS)):
        port = _PORTS[(start + step * 13) % len(_PORTS)]
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


def die_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class ServerDied(Exception):
    """The server's process is gone."""


class Server:
    """
    The server's process, seen from the one that controls it.

    :param db: File of the events; None keeps them in memory, to be used for many runs.
    """

    def __init__(self, db: Path | None = None) -> None:
        self.db = db
        self.port = free_port()
        self.counts: Counter[str] = Counter()
        self.requests = 0
        self._start()

    def _start(self) -> None:
        self.link, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self.link.close()
            _in_child(theirs, self.port, self.db)
        theirs.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, name: str, *arguments: Any) -> Any:
        """Have something done there, and return what comes of it."""
        try:
            self.link.send((name, arguments))
            while True:
                kind, value = self.link.recv()
                if kind == "answer":
                    return value
                self.note(value)
        except (EOFError, OSError):
            raise ServerDied from None

    def note(self, last_words: dict[str, Any]) -> None:
        """Keep what a crashing server counted."""
        self.requests = last_words["requests"]
        self.counts.update(last_words["counts"])

    def revive(self) -> None:
        """Start it again on the same port and file, after its death."""
        while True:
            try:
                kind, value = self.link.recv()
            except (EOFError, OSError):
                break
            if kind == "last words":
                self.note(value)
        self.link.close()
        os.waitpid(self.pid, 0)
        self._start()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.link.close()


def _in_child(link: Connection, port: int, db: Path | None) -> None:
    die_with_parent()
    status = 1
    try:
        with _Desk(link, port, db) as desk:
            desk.run()
        status = 0
    finally:
        os._exit(status)


class _Desk:
    """
    The server's process, from inside: takes commands, and acts at the requests that the triggers name.

    :param link: Where commands come from.
    :param port: Of the proxy.
    :param db: File of the events.
    """

    def __init__(self, link: Connection, port: int, db: Path | None) -> None:
        self._link = link
        self._db = db
        self._sandboxes: dict[str, Sandbox] = {}
        self._sandbox: Sandbox | None = None
        self._proxy = Proxy(0, port, self._watch)
        self._triggers: list[Trigger] = []
        self._lock = threading.Lock()
        self._before = 0
        self._target = 0
        self._counts: Counter[str] = Counter()
        self._chores: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __enter__(self) -> _Desk:
        self._proxy.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        for sandbox in self._sandboxes.values():
            sandbox.stop()

    def run(self) -> None:
        """Do what is asked until the other side is gone."""
        while True:
            while not self._chores.empty():
                self._chores.get()
                self._restart()
            if not self._link.poll(0.01):
                continue
            try:
                name, arguments = self._link.recv()
            except EOFError:
                return
            value = getattr(self, f"do_{name}")(*arguments)
            with self._lock:
                self._link.send(("answer", value))

    def do_prepare(
        self,
        store: str,
        sandbox_faults: list[dict[str, Any]],
        proxy_faults: list[dict[str, Any]],
        triggers: list[Trigger],
        elsewhere: str,
        before: int = 0,
    ) -> None:
        """Begin a run, or go on with it after a crash: ``before`` requests were there already."""
        sandbox = self._open(store)
        if self._db is None:
            sandbox.reset()
        self._sandbox = sandbox
        if before == 0:
            for code in CODES:
                sandbox.add_metric(code)
            sandbox.add_metric(EXPRESSION_CODE, "sum_agg", field_name="out", expression="event.properties.b * 2")
        for rule in sandbox_faults:
            sandbox.fault(**{**rule, **({"location": elsewhere} if rule.get("location") == ELSEWHERE else {})})
        self._restore()
        self._proxy.reset()
        self._proxy.target = sandbox.port
        for rule in proxy_faults:
            self._proxy.fault(**rule)
        self._triggers = [trigger for trigger in triggers if trigger.at > before]
        self._before = before
        self._counts = Counter()

    def do_hold_faults(self, held: bool) -> None:
        """Let requests pass unharmed and uncounted, for the delivery before the one that is tested."""
        assert self._sandbox is not None
        if held:
            self._kept = (list(self._sandbox.app.faults.rules), self._proxy.faults, self._triggers)
            self._sandbox.clear_faults()
            self._proxy.faults, self._triggers = [], []
        else:
            rules, self._proxy.faults, self._triggers = self._kept
            self._sandbox.app.faults.rules.extend(rules)
            self._proxy.requests = 0

    def do_target(self, pid: int) -> None:
        """Take note of the process that is to be killed; 0 for none."""
        self._target = pid

    def do_restore(self) -> None:
        """Give the key back."""
        self._restore()

    def do_held(self) -> list[tuple[Any, ...]]:
        """Return what is stored, once nothing is on its way any more."""
        assert self._sandbox is not None
        if not self._proxy.wait_until_quiet():
            raise RuntimeError("requests are on their way for ever")
        rows = self._sandbox.app.world.store.events()
        return [
            (row.transaction_id, row.external_subscription_id, row.code, row.timestamp, row.properties) for row in rows
        ]

    def do_counts(self) -> dict[str, int]:
        """Return how often each fault struck."""
        return dict(self._struck())

    def _open(self, store: str) -> Sandbox:
        if store not in self._sandboxes:
            self._sandboxes[store] = Sandbox(store=store, api_keys=[KEY], db=self._db, keep_requests=10).start()
        return self._sandboxes[store]

    def _restore(self) -> None:
        assert self._sandbox is not None
        self._sandbox.app.keys = Keys({KEY: None})

    def _restart(self) -> None:
        """Stop the sandbox in order and start it again with its file, on another port."""
        assert self._sandbox is not None
        store = self._sandbox.app.world.store.flavour
        rules = self._sandbox.app.faults.rules
        self._sandbox.stop()
        del self._sandboxes[store]
        self._sandbox = self._open(store)
        self._sandbox.app.faults.rules = rules
        self._proxy.target = self._sandbox.port

    def _struck(self) -> Counter[str]:
        struck = self._counts + self._proxy.fired
        for rule in self._sandbox.app.faults.rules if self._sandbox is not None else []:
            struck[_name(rule)] += rule.fired
        return +struck

    def _watch(self, phase: str, number: int) -> None:
        number += self._before
        due = [trigger for trigger in self._triggers if trigger.at <= number and trigger.phase == phase]
        for trigger in due:
            self._triggers.remove(trigger)
            self._act(trigger.action, number)

    def _act(self, action: str, number: int) -> None:
        if action in _SIGNALS:
            if self._target:
                self._counts[action] += 1
                os.kill(self._target, _SIGNALS[action])
                self._target = 0  # one try is killed once
            return
        self._counts[action] += 1
        if action == "revoke" and self._sandbox is not None:
            self._sandbox.app.keys = Keys({"another": None})
        elif action == "restart":
            self._proxy.refuse(0.1)
            self._chores.put(action)
        elif action == "crash":
            with self._lock:
                self._link.send(("last words", {"requests": number, "counts": dict(self._struck())}))
            os.kill(os.getpid(), signal.SIGKILL)


def _name(rule: Any) -> str:
    if rule.kind == "error":
        return f"error {rule.status}"
    return f"poison {rule.status}" if rule.kind == "poison" else str(rule.kind)
