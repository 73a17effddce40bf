"""The sandbox as an object: a server in a background thread, and its controls."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from airflow_provider_lago.sandbox import customers, invoices
from airflow_provider_lago.sandbox.access import DEFAULT_KEY, Keys, Permissions, RateLimit
from airflow_provider_lago.sandbox.app import TRANSPORT, SandboxApp
from airflow_provider_lago.sandbox.control import desk, event_dict, state
from airflow_provider_lago.sandbox.dump import dump
from airflow_provider_lago.sandbox.faults import Fault
from airflow_provider_lago.sandbox.journal import KEPT_REQUESTS, SeenRequest
from airflow_provider_lago.sandbox.lifecycle import run_due
from airflow_provider_lago.sandbox.releases import parse_release
from airflow_provider_lago.sandbox.seeds import Seeds
from airflow_provider_lago.sandbox.store import Doc, Store
from airflow_provider_lago.sandbox.subscription_views import GET, serialized
from airflow_provider_lago.sandbox.times import Clock
from airflow_provider_lago.sandbox.world import ORGANIZATION_ID, World

_START_SECONDS = 10.0
STORES = ("postgres", "clickhouse")


class _Protocol(HttpToolsProtocol):
    """Hands the transport to the application, which has to drop connections on demand."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[literal-required]


def _listen(host: str, port: int) -> socket.socket:
    """
    A listening socket that says it is TCP.

    asyncio turns Nagle's algorithm off only for those: with it, every answer waits 40 ms for an ACK.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening


class Sandbox(Seeds):
    """
    A server that behaves like Lago, on a loopback port, for the length of a ``with`` block.

    :param host: address to listen on.
    :param port: 0 for a free one.
    :param store: ``postgres`` or ``clickhouse``: how Lago's two stores treat duplicates.
    :param db: an SQLite file that survives a restart; None keeps everything in memory.
    :param api_keys: keys with their permissions (resource to some of ``read``, ``write``; None allows all),
        or just keys.
    :param rate_limit: requests of the organization per ``rate_window`` seconds; None for no limit.
    :param rate_window: seconds.
    :param latency: seconds that every answer of the API takes, the work on it included.
    :param max_batch: the longest batch of events that is taken.
    :param premium: as with a premium licence: overrides of plans, customers' timezones and grace periods.
    :param release: behave as an older release of Lago, such as ``1.48.0``, where clients can tell.
    :param keep_requests: how many requests ``requests`` remembers.
    :param clock: what time it is, in seconds since the epoch.
    :param organization_id: ``lago_id`` of the organization.
    :param ssl_certfile: with ``ssl_keyfile``, serve HTTPS.
    :param ssl_keyfile: the certificate's key.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        store: str = "postgres",
        db: str | Path | None = None,
        api_keys: Mapping[str, Permissions | None] | Iterable[str] = (DEFAULT_KEY,),
        rate_limit: int | None = None,
        rate_window: float = 1.0,
        latency: float = 0.0,
        max_batch: int = 100,
        premium: bool = False,
        release: str | None = None,
        keep_requests: int = KEPT_REQUESTS,
        clock: Clock = time.time,
        organization_id: str = ORGANIZATION_ID,
        ssl_certfile: str | Path | None = None,
        ssl_keyfile: str | Path | None = None,
    ) -> None:
        if store not in STORES:
            raise ValueError(f"store must be one of {', '.join(STORES)}, not {store!r}.")
        keys = dict(api_keys) if isinstance(api_keys, Mapping) else dict.fromkeys(api_keys)
        if not keys:
            raise ValueError("The sandbox needs at least one API key.")
        self.api_key = next(iter(keys))
        self.host = host
        self.port = port
        self._tls = {"ssl_certfile": ssl_certfile, "ssl_keyfile": ssl_keyfile} if ssl_certfile else {}
        world = World(
            Store(":memory:" if db is None else str(db), store),
            clock,
            max_batch=max_batch,
            premium=premium,
            release=parse_release(release),
            organization_id=organization_id,
        )
        self.app = SandboxApp(world, Keys(keys), RateLimit(rate_limit, rate_window), latency, keep_requests)
        self.app.desk = desk(self.app)  # type: ignore[assignment]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    # Life

    def start(self) -> Sandbox:
        """Listen; returns when connections are accepted."""
        listening = _listen(self.host, self.port)
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            **self._tls,  # type: ignore[arg-type]
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="lago-sandbox", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"The sandbox did not start on {self.host}:{self.port}.")
            time.sleep(0.002)
        return self

    def stop(self) -> None:
        """Stop listening, close the connections and the database."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_START_SECONDS)
        self._server = self._thread = None
        self.app.world.store.close()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def reset(self) -> None:
        """Forget all data, requests, counts and faults."""
        self.app.reset()

    # Address

    @property
    def url(self) -> str:
        """The origin, such as ``http://127.0.0.1:45123``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def connection_json(self) -> str:
        """The value of ``AIRFLOW_CONN_LAGO_DEFAULT``."""
        fields = {"conn_type": "lago", "host": self.url, "password": self.api_key}
        return msgspec.json.encode(fields).decode()

    # Faults

    def fault(self, kind: str, **rule: Any) -> Fault:
        """
        Install a fault; the arguments are those of :class:`~airflow_provider_lago.sandbox.faults.Fault`.

        :return: the rule, whose ``fired`` counts how often it struck.
        """
        installed = Fault(kind, **rule)
        self.app.faults.rules.append(installed)
        return installed

    def clear_faults(self) -> None:
        """Remove all faults."""
        self.app.faults.rules.clear()

    @property
    def latency(self) -> float:
        """Seconds added to every answer of the API; may be set at any time."""
        return self.app.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self.app.latency = seconds

    # What happened

    def events(self) -> list[dict[str, Any]]:
        """All stored events, in the order of their arrival."""
        return [event_dict(row) for row in self.app.world.store.events()]

    def customers(self) -> list[dict[str, Any]]:
        """All customers that are not deleted, oldest first, as the API shows them."""
        return self._held("customer", customers.shown)

    def subscriptions(self) -> list[dict[str, Any]]:
        """All subscriptions in whatever status, oldest first, as the API shows them."""
        return self._held("subscription", lambda doc, world: serialized(doc, world, GET))

    def wallets(self) -> list[dict[str, Any]]:
        """All wallets, terminated ones too, oldest first, as the API shows them."""
        return self._held("wallet")

    def wallet_transactions(self) -> list[dict[str, Any]]:
        """All transactions of all wallets, oldest first, as the API shows them."""
        return self._held("wallet_transaction")

    def applied_coupons(self) -> list[dict[str, Any]]:
        """All coupons that customers were given, oldest first, as the API shows them."""
        return self._held("applied_coupon")

    def invoices(self) -> list[dict[str, Any]]:
        """All invoices, oldest first, as the API shows them."""
        return self._held("invoice", invoices.shown)

    def _held(self, kind: str, shown: Callable[[Doc, World], Doc] = lambda doc, _: doc) -> list[dict[str, Any]]:
        world = self.app.world
        with world.store.lock:
            run_due(world)
            return [shown(doc, world) for doc in world.store.all(kind)]

    def count(self) -> int:
        """How many events are stored."""
        return self.app.world.store.event_count

    def dump(self) -> bytes:
        """
        Everything stored, deleted things too, one JSON object a line.

        Two dumps are equal, byte for byte, exactly when nothing changed between them.
        """
        return dump(self.app.world)

    @property
    def requests(self) -> list[SeenRequest]:
        """The last requests, oldest first."""
        return self.app.journal.requests

    def state(self) -> dict[str, Any]:
        """All counts, as ``GET /_sandbox/state`` answers them."""
        return state(self.app)
