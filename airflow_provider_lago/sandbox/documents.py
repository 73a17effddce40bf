"""Everything the sandbox keeps besides events: JSON documents in one SQLite table."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

Doc = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    lago_id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    owner TEXT,
    status TEXT,
    rank INTEGER,
    due INTEGER,
    revision INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS documents_by_key ON documents (kind, key);
CREATE INDEX IF NOT EXISTS documents_by_age ON documents (kind, seq);
CREATE INDEX IF NOT EXISTS documents_there ON documents (kind, seq) WHERE deleted = 0;
CREATE INDEX IF NOT EXISTS documents_by_owner ON documents (owner, kind) WHERE owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS documents_by_rank ON documents (kind, status, rank DESC, seq) WHERE deleted = 0;
CREATE INDEX IF NOT EXISTS documents_due ON documents (due) WHERE due IS NOT NULL;
"""

# Far behind every instant: what has not started yet is listed before all that has.
_NOT_STARTED = 2**61


class Kept(NamedTuple):
    """A document with what is known about it, as a dump shows it."""

    kind: str
    key: str
    deleted: bool
    revision: int
    body: bytes


class Documents:
    """
    Documents by kind: found by key, id, owner, status or due time, none of which reads them all.

    :param db: the database, shared with the events.
    :param lock: held during every access.
    """

    def __init__(self, db: sqlite3.Connection, lock: threading.RLock) -> None:
        self._db = db
        self.lock = lock

    def add(self, kind: str, key: str, doc: Doc) -> Doc:
        """Store a new document under a key; several may share one (subscriptions do). Sets ``lago_id``."""
        doc = {"lago_id": str(uuid.uuid4()), **doc}
        with self.lock:
            self._db.execute(
                "INSERT INTO documents (kind, lago_id, key, owner, status, rank, due, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (kind, doc["lago_id"], key, *_facts(doc), msgspec.json.encode(doc)),
            )
        return doc

    def save(self, doc: Doc, *, key: str | None = None) -> None:
        """
        Write a changed document back; one that did not change stays untouched, down to its revision.

        :param key: its new key, if that changed too.
        """
        body = msgspec.json.encode(doc)
        with self.lock:
            self._db.execute(
                "UPDATE documents SET key = ifnull(?, key), owner = ?, status = ?, rank = ?, due = ?, body = ?, "
                "revision = revision + 1 WHERE lago_id = ? AND body <> ?",
                (key, *_facts(doc), body, doc["lago_id"], body),
            )

    def remove(self, doc: Doc) -> None:
        """Hide a document; its key is free again."""
        with self.lock:
            self._db.execute("UPDATE documents SET deleted = 1 WHERE lago_id = ?", (doc["lago_id"],))

    def find(self, kind: str, key: str) -> Doc | None:
        """The newest document with this key."""
        return self._one("kind = ? AND key = ? AND deleted = 0 ORDER BY seq DESC", (kind, key))

    def get(self, kind: str, lago_id: str) -> Doc | None:
        """The document with this id, hidden ones too."""
        return self._one("lago_id = ? AND kind = ?", (lago_id, kind))

    def present(self, kind: str, lago_id: str) -> Doc | None:
        """The document with this id, unless it is hidden."""
        return self._one("lago_id = ? AND kind = ? AND deleted = 0", (lago_id, kind))

    def newest(self, kind: str) -> Doc | None:
        """The document of a kind that was added last, hidden ones too."""
        return self._one("kind = ? ORDER BY seq DESC", (kind,))

    def all(self, kind: str, *, key: str | None = None, owner: str | None = None) -> list[Doc]:
        """All documents of a kind, oldest first; those with a key, or of a customer."""
        where, values = _where(kind, (), key, owner)
        return self._many(f"{where} ORDER BY seq", values)

    def page(
        self,
        kind: str,
        *,
        statuses: Sequence[str] = (),
        key: str | None = None,
        owner: str | None = None,
        by_rank: bool = False,
        limit: int = -1,
        offset: int = 0,
    ) -> list[Doc]:
        """
        Some documents of a kind, newest first.

        :param by_rank: latest start first instead, and what has not started before all.
        """
        where, values = _where(kind, statuses, key, owner)
        order = "rank DESC, seq" if by_rank else "seq DESC"
        return self._many(f"{where} ORDER BY {order} LIMIT ? OFFSET ?", [*values, limit, offset])

    def count(
        self, kind: str, *, statuses: Sequence[str] = (), key: str | None = None, owner: str | None = None
    ) -> int:
        """How many documents of a kind there are."""
        where, values = _where(kind, statuses, key, owner)
        with self.lock:
            found = self._db.execute(f"SELECT count(*) FROM documents WHERE {where}", values).fetchone()
        return int(found[0])

    def due(self, now: int) -> Doc | None:
        """The document whose time came first, if it came."""
        return self._one("due <= ? AND deleted = 0 ORDER BY due, seq", (now,))

    def kept(self) -> Iterator[Kept]:
        """Every document ever stored, in an order that does not change."""
        with self.lock:
            rows = self._db.execute(
                "SELECT kind, key, deleted, revision, body FROM documents ORDER BY kind, key, seq"
            ).fetchall()
        for kind, key, deleted, revision, body in rows:
            yield Kept(kind, key, bool(deleted), revision, body)

    def _one(self, where: str, values: Sequence[object]) -> Doc | None:
        found = self._many(f"{where} LIMIT 1", values)
        return found[0] if found else None

    def _many(self, where: str, values: Sequence[object]) -> list[Doc]:
        with self.lock:
            rows = self._db.execute(f"SELECT body FROM documents WHERE {where}", values).fetchall()
        return [msgspec.json.decode(body) for (body,) in rows]


def _facts(doc: Doc) -> tuple[str | None, str | None, int | None, int | None]:
    """What documents are looked up by, taken out of them: owner, status, rank, due."""
    rank = None
    if "started_at" in doc:
        rank = doc["created_at"] + _NOT_STARTED if doc["started_at"] is None else doc["started_at"]
    return doc.get("lago_customer_id"), doc.get("status"), rank, doc.get("due_at")


def _where(kind: str, statuses: Sequence[str], key: str | None, owner: str | None) -> tuple[str, list[object]]:
    clauses, values = ["kind = ?", "deleted = 0"], list[object]([kind])
    # A plus keeps SQLite off an index: of two, it would take the one by status, which finds thousands.
    unless_narrower = "" if key is None and owner is None else "+"
    for column, value in (("key", key), ("owner", owner)):
        if value is not None:
            clauses.append(f"{column} = ?")
            values.append(value)
    if statuses:
        clauses.append(f"{unless_narrower}status IN ({', '.join('?' * len(statuses))})")
        values.extend(statuses)
    return " AND ".join(clauses), values
