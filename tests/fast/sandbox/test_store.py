"""Documents are found without reading them all, and written by one request at a time."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_lago.sandbox import Sandbox
from airflow_provider_lago.sandbox.store import Store


@pytest.fixture
def traced():
    """A store, and the statements it ran."""
    store = Store()
    statements: list[str] = []
    for number in range(200):
        doc = {"lago_customer_id": f"c{number}", "status": "active", "started_at": number, "created_at": number}
        store.add("subscription", f"s{number}", doc)
    store._db.set_trace_callback(statements.append)
    yield store, statements
    store.close()


LOOKUPS = [
    lambda store: store.find("subscription", "s7"),
    lambda store: store.all("subscription", key="s7"),
    lambda store: store.all("subscription", owner="c7"),
    lambda store: store.page("subscription", statuses=["active", "pending"], key="s7", by_rank=True, limit=5),
    lambda store: store.page("subscription", statuses=["active"], owner="c7", by_rank=True, limit=5),
    lambda store: store.count("subscription", statuses=["active"], key="s7"),
    lambda store: store.newest("subscription"),
    lambda store: store.due(10),
]


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_lookup_goes_by_the_narrowest_index(traced, lookup):
    store, statements = traced
    lookup(store)
    (statement,) = statements
    (step, *_) = [row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert step.startswith("SEARCH documents USING")
    assert "documents_by_rank" not in step


@pytest.mark.parametrize("by_rank", [True, False])
def test_a_page_is_not_sorted_from_all(traced, by_rank):
    store, statements = traced
    statuses = ["active"] if by_rank else []
    found = store.page("subscription", statuses=statuses, by_rank=by_rank, limit=3, offset=1)
    assert [doc["started_at"] for doc in found] == [198, 197, 196]
    steps = [row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {statements[0]}")]
    assert not [step for step in steps if "TEMP B-TREE" in step]


def test_saving_what_did_not_change_writes_nothing():
    store = Store()
    doc = store.add("plan", "p", {"name": "P"})
    for name in ("P", "Q", "Q"):
        store.save({**doc, "name": name})
    assert [kept.revision for kept in store.kept()] == [1]
    store.close()


def test_many_threads_make_one_customer(sandbox):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: sandbox.add_customer("c1", name="Ada")["lago_id"], range(40)))
    assert len(set(made)) == len(sandbox.customers()) == 1


def test_a_file_of_an_earlier_version_is_refused(tmp_path):
    path = tmp_path / "lago.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE documents (seq INTEGER PRIMARY KEY, body BLOB)")
    with pytest.raises(ValueError, match="earlier version"):
        Sandbox(db=path)
