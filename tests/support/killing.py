"""Deliveries under Airflow's real task runner whose task is killed, and what is left of them in the sandbox."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.standalone import PROJECT, Standalone, call, wait_for

TASK = "deliver"
DURABLE, PLAIN = "durable", "not_durable"

_DAGS = '''
"""Two DAGs of one delivery each, which tell their process, and how long the saving of a checkpoint takes."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lago.operators import LagoIngestEventsOperator


def tell(context):
    """Write down the process of this try; the supervisor is its parent."""
    ti = context["ti"]
    folder = Path(context["dag_run"].conf["notes"])
    note = folder / f"{ti.try_number}.json"
    note.with_suffix(".part").write_text(json.dumps({"task": os.getpid(), "supervisor": os.getppid()}))
    note.with_suffix(".part").rename(note)
    time_saves(folder / f"{ti.try_number}.saves", context["dag_run"].conf["slower"])


def time_saves(path, slower):
    try:
        from airflow.sdk.execution_time.context import TaskStateStoreAccessor as Accessor
    except ImportError:
        return
    save = Accessor.set

    def timed(self, *args, **kwargs):
        started = time.perf_counter()
        time.sleep(slower)
        try:
            return save(self, *args, **kwargs)
        finally:
            with path.open("a") as stream:
                stream.write(f"{time.perf_counter() - started}\\n")

    Accessor.set = timed


for name, durable in (("durable", True), ("not_durable", False)):
    with DAG(name, schedule=None) as dag:
        LagoIngestEventsOperator(
            task_id="deliver",
            files="{{ dag_run.conf['files'] }}",
            report_path="{{ dag_run.conf['report'] }}",
            lago_conn_id="{{ dag_run.conf['connection'] }}",
            durable=durable,
            retries=3,
            retry_delay=timedelta(seconds=1),
            on_execute_callback=tell,
        )
    globals()[name] = dag
'''


def write_dags(folder: Path) -> Path:
    """Write the DAG file and return its folder."""
    folder.mkdir()
    (folder / "deliveries.py").write_text(_DAGS)
    return folder


def write_usage(path: Path, count: int) -> Path:
    """Write a source."""
    with path.open("w") as stream:
        for n in range(count):
            event = {
                "transaction_id": f"t{n:09d}",
                "external_subscription_id": f"s{n % 997}",
                "code": "api_calls",
                "timestamp": 1_790_000_000 + n // 50,
                "properties": {"bytes": n * 37 % 10_000_000, "region": "eu-west-1"},
            }
            stream.write(json.dumps(event, separators=(",", ":")) + "\n")
    return path


class Lago:
    """
    The sandbox as a process of its own, with its events in a file.

    :param url: Its address.
    :param connection: The connection to it, as JSON.
    :param db: Its file.
    :param store: ``postgres`` or ``clickhouse``.
    """

    def __init__(self, url: str, connection: str, db: Path, store: str) -> None:
        self.url = url
        self.connection = connection
        self.store = store
        self._db = db

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = call("GET", f"{self.url}/_sandbox/state")
        return state

    def reset(self) -> None:
        call("POST", f"{self.url}/_sandbox/reset")

    def billed(self) -> Counter[tuple[str, str]]:
        """
        How often Lago would bill each identity.

        Its ClickHouse store bills rows of the same subscription, id, code and time once, and Postgres each row.
        """
        same = "" if self.store == "postgres" else "GROUP BY external_subscription_id, transaction_id, code, timestamp"
        query = f"SELECT external_subscription_id, transaction_id FROM events {same}"
        with contextlib.closing(sqlite3.connect(f"file:{self._db}?mode=ro", uri=True)) as db:
            return Counter(db.execute(query))


@contextlib.contextmanager
def lago(folder: Path, store: str) -> Iterator[Lago]:
    """Run the sandbox."""
    db = folder / f"{store}.sqlite"
    command = [sys.executable, "-m", "airflow_provider_lago.sandbox", "--port", "0", "--store", store, "--db", str(db)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline() + process.stdout.readline()
            found = re.search(r"(http://\S+).*AIRFLOW_CONN_LAGO_DEFAULT='(.*)'", said, re.DOTALL)
            assert found, f"the sandbox did not start: {said}"
            yield Lago(found[1], found[2], db, store)
        finally:
            process.terminate()


@dataclass
class Outcome:
    """
    What a delivery left.

    :param kept: What is left in the task's state store.
    :param received: Events in all requests of all tries, which the sandbox counts.
    :param lost: Events of the source that Lago would not bill.
    :param doubled: Events of the source that it would bill more than once.
    :param foreign: Events that it would bill and that are not in the source.
    :param saves: Seconds that each saving of a checkpoint took.
    """

    state: str
    tries: int
    summary: dict[str, Any] | None
    kept: dict[str, Any]
    received: int
    lost: int
    doubled: int
    foreign: int
    saves: list[float]


class Delivery:
    """
    A run of one of the DAGs.

    :param airflow: Runs it.
    :param lago: Gets it.
    :param source: What to deliver.
    :param run: Its name.
    :param dag: Which DAG.
    :param slower: Seconds that the saving of a checkpoint takes longer.
    """

    def __init__(
        self, airflow: Standalone, lago: Lago, source: Path, run: str, *, dag: str = DURABLE, slower: float = 0
    ) -> None:
        self._airflow = airflow
        self._lago = lago
        self._source = source
        self._at = (dag, run, TASK)
        self._notes = airflow.folder / "notes" / run
        self._notes.mkdir(parents=True)
        self._received_before = lago.state()["events_received"]
        conf = {
            "files": str(source),
            "connection": lago.store,
            "report": str(airflow.folder / "reports" / run),
            "notes": str(self._notes),
            "slower": slower,
        }
        airflow.trigger(dag, run, conf)

    def wait_for_events(self, count: int) -> int:
        """Wait until the sandbox holds so many events, and return how many it does."""
        return wait_for(f"{count:,} events", lambda: self._held(count), self._airflow.lives, every=0.01)

    def _held(self, count: int) -> int:
        held = int(self._lago.state()["events"])
        return held if held >= count else 0

    def processes(self, tries: int) -> dict[str, int]:
        """Return the ids of the processes of a try, as soon as it has begun."""
        note = self._notes / f"{tries}.json"
        wait_for(f"try {tries}", note.exists, self._airflow.lives)
        found: dict[str, int] = json.loads(note.read_text())
        return found

    def mark(self, state: str) -> None:
        self._airflow.mark(*self._at, state)

    def clear(self) -> None:
        self._airflow.clear(*self._at)

    def task(self) -> dict[str, Any]:
        return self._airflow.task(*self._at)

    def kept(self) -> dict[str, Any]:
        return self._airflow.kept(*self._at)

    def end(self, tries: int) -> Outcome:
        """Wait until a try or one after it has ended for good, and return what is left."""

        def ended() -> dict[str, Any] | None:
            task = self.task()
            return task if task["try_number"] >= tries and task["state"] in ("success", "failed") else None

        task = wait_for(f"the end of try {tries}", ended, self._airflow.lives)
        assert task is not None
        billed = self._lago.billed()
        lost = doubled = 0
        with self._source.open() as lines:
            for line in lines:
                event = json.loads(line)
                times = billed.pop((event["external_subscription_id"], event["transaction_id"]), 0)
                lost += times == 0
                doubled += times > 1
        return Outcome(
            state=task["state"],
            tries=task["try_number"],
            summary=self._airflow.returned(*self._at) if task["state"] == "success" else None,
            kept=self.kept(),
            received=self._lago.state()["events_received"] - self._received_before,
            lost=lost,
            doubled=doubled,
            foreign=len(billed),
            saves=self._saves(),
        )

    def _saves(self) -> list[float]:
        return [float(line) for path in sorted(self._notes.glob("*.saves")) for line in path.read_text().split()]
