"""What the sandbox keeps, in SQLite: one table of events, one of everything else as JSON documents."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from airflow_provider_lago.sandbox.documents import SCHEMA, Doc, Documents

__all__ = ["Doc", "EventRow", "Store"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    lago_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    external_subscription_id TEXT,
    code TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    precise_total_amount_cents TEXT,
    properties BLOB NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
# The unique index of Lago's Postgres schema; NULL subscriptions are distinct in it, here as there.
_UNIQUE = "CREATE UNIQUE INDEX IF NOT EXISTS events_identity ON events (transaction_id, external_subscription_id)"
_NOT_UNIQUE = "CREATE INDEX IF NOT EXISTS events_identity ON events (transaction_id, external_subscription_id)"

_COLUMNS = (
    "lago_id, transaction_id, external_subscription_id, code, timestamp, "
    "precise_total_amount_cents, properties, created_at"
)


class EventRow(NamedTuple):
    """One stored event; times in microseconds, properties as JSON text."""

    lago_id: str
    transaction_id: str
    external_subscription_id: str | None
    code: str
    timestamp: int
    precise_total_amount_cents: str | None
    properties: bytes
    created_at: int


class Store(Documents):
    """
    The sandbox's state. Every method may be called from any thread.

    :param path: an SQLite file, or ``:memory:``.
    :param flavour: ``postgres`` or ``clickhouse``, which differ in what a duplicate is.
    """

    def __init__(self, path: str = ":memory:", flavour: str = "postgres") -> None:
        self.flavour = flavour
        super().__init__(sqlite3.connect(path, check_same_thread=False, isolation_level=None), threading.RLock())
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA cache_size = -200000")
        self._check_layout(path)
        self._db.executescript(_SCHEMA + SCHEMA)
        self._keep_flavour(path)
        self._db.execute(_UNIQUE if flavour == "postgres" else _NOT_UNIQUE)
        self._by_code = self._counted("code")
        self._by_subscription = self._counted("external_subscription_id")
        self._events = self._by_code.total()

    def _check_layout(self, path: str) -> None:
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(documents)")}
        if columns and "revision" not in columns:
            raise ValueError(f"{path} was made by an earlier version of the sandbox; delete it.")

    def _keep_flavour(self, path: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO settings VALUES ('store', ?)", (self.flavour,))
        kept = self._db.execute("SELECT value FROM settings WHERE name = 'store'").fetchone()[0]
        if kept != self.flavour:
            raise ValueError(f"{path} holds the events of a {kept} store; it cannot be opened as {self.flavour}.")

    def _counted(self, column: str) -> Counter[str | None]:
        return Counter(dict(self._db.execute(f"SELECT {column}, count(*) FROM events GROUP BY 1").fetchall()))

    def close(self) -> None:
        """Close the database."""
        with self.lock:
            self._db.close()

    def reset(self) -> None:
        """Forget everything."""
        with self.transaction():
            self._db.execute("DELETE FROM events")
            self._db.execute("DELETE FROM documents")
            self._by_code.clear()
            self._by_subscription.clear()
            self._events = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, for writes of several documents; an exception rolls back."""
        with self.lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Events

    @property
    def event_count(self) -> int:
        """How many events are stored."""
        return self._events

    def add_events(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Store all rows, or none if one of them is there already; False then."""
        with self.lock:
            self._db.execute("BEGIN")
            try:
                changed = self._db.executemany(
                    f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
                ).rowcount
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            if changed != len(rows):
                self._db.execute("ROLLBACK")
                return False
            self._db.execute("COMMIT")
            self._events += changed
            # Counted here, since the page asks every two seconds and grouping a million rows takes one.
            self._by_code.update([row[3] for row in rows])
            self._by_subscription.update([row[2] for row in rows])
            return True

    def has_event(self, transaction_id: str, external_subscription_id: str | None) -> bool:
        """Tell whether Lago's unique index would refuse this identity."""
        with self.lock:
            found = self._db.execute(
                "SELECT 1 FROM events WHERE transaction_id = ? AND external_subscription_id = ? LIMIT 1",
                (transaction_id, external_subscription_id),
            ).fetchone()
        return found is not None

    def events(
        self, where: Sequence[str] = (), values: Sequence[object] = (), *, order: str = "seq", limit: str = ""
    ) -> list[EventRow]:
        """Stored events; ``where`` and ``order`` are SQL written by this package, ``values`` the data."""
        clause = f" WHERE {' AND '.join(where)}" if where else ""
        with self.lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM events{clause} ORDER BY {order} {limit}", tuple(values)
            ).fetchall()
        return [EventRow(*row) for row in rows]

    def count_events(self, where: Sequence[str] = (), values: Sequence[object] = ()) -> int:
        """How many events match."""
        if not where:
            return self._events
        with self.lock:
            found = self._db.execute(
                f"SELECT count(*) FROM events WHERE {' AND '.join(where)}", tuple(values)
            ).fetchone()
        return int(found[0])

    def index_usage(self) -> None:
        """Prepare for usage queries: only on the first one, since the index slows every insert down."""
        with self.lock:
            self._db.execute("CREATE INDEX IF NOT EXISTS events_by_usage ON events (external_subscription_id, code)")

    def tallies(self, limit: int) -> tuple[list[tuple[str | None, int]], list[tuple[str | None, int]]]:
        """The codes and the subscriptions with the most events."""
        with self.lock:
            return self._by_code.most_common(limit), self._by_subscription.most_common(limit)
