"""The decorator in Airflow's own hands: the user's function is in the task's own thread, and may do what tasks do."""

import importlib.util
import itertools
import json
import re
import sys
import threading
import time
import types
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import BaseHook, get_current_context, task
from support.airflow_runs import ends_by_timeout, new_dag, run
from support.deliveries import KEY, usage
from support.scripted import ScriptedServer, echo

from airflow_provider_lago.decorators.events import lago_ingest_events_task
from airflow_provider_lago.hooks.lago import LagoHook


@pytest.fixture
def sandbox(lago_sandbox, lago_sandbox_connection):
    return lago_sandbox


def read(path):
    return json.loads(path.read_text())


def test_a_generator_is_delivered_with_the_arguments_of_the_operator(sandbox, tmp_path):
    with new_dag() as dag:

        @lago_ingest_events_task(
            constants={"code": "{{ task.task_id }}"},
            properties=["seats"],
            transaction_id=["account", "day"],
            fields={"external_subscription_id": "account", "timestamp": "day"},
            report_path=str(tmp_path / "{{ run_id }}"),
        )
        def seats(day, *, run_id=None):
            """Count seats."""
            for n in range(250):
                yield {"account": f"a{n}", "day": day, "seats": n, "run": run_id}

        seats("2026-11-02")
    outcome = run(dag)
    assert outcome.state == "success"
    assert outcome.returned("seats")["accepted"] == 250
    assert sandbox.events()[7]["transaction_id"] == "a7:2026-11-02"
    assert {event["code"] for event in sandbox.events()} == {"seats"}
    assert read(tmp_path / outcome.run.run_id / "summary.json")["run"]["task_id"] == "seats"
    assert dag.get_task("seats").doc_md == "Count seats."


@pytest.mark.parametrize("kind", ["function", "generator"])
def test_the_function_may_ask_airflow_for_anything_at_every_record(sandbox, kind):
    """On Airflow 2.11 only the main thread can, and on Airflow 3 the log and the context belong to it."""
    threads = set()

    def rows(first, ti):
        with LagoHook() as hook:
            for n in range(first, first + 120):
                threads.add(threading.current_thread())
                host = BaseHook.get_connection("lago_default").host
                before = ti.xcom_pull(task_ids="before", key=f"n{n % 3}")
                ti.xcom_push(key=f"seen{n % 3}", value=n)
                assert get_current_context()["ti"].task_id == "after"
                known = hook.get("events", params={"per_page": 1})["meta"]["total_count"] if n % 50 == 0 else 0
                yield {**usage(1, n)[0], "properties": {"host": host, "before": before, "known": known}}

    with new_dag() as dag:

        @task
        def before(ti=None):
            for n in range(3):
                ti.xcom_push(key=f"n{n}", value=f"pushed {n}")
            return 100

        @lago_ingest_events_task
        def after(first, ti=None):
            return rows(first, ti) if kind == "generator" else list(rows(first, ti))

        @task
        def check(ti=None):
            assert [ti.xcom_pull(task_ids="after", key=f"seen{n}") for n in range(3)] == [219, 217, 218]

        after(before()) >> check()
    outcome = run(dag)
    assert outcome.state == "success"
    assert threads == {threading.main_thread()}
    assert outcome.returned("after")["accepted"] == 120
    assert sandbox.events()[1]["properties"]["before"] == "pushed 2"
    assert sandbox.events()[0]["properties"]["host"] == sandbox.url


def test_it_is_mapped_made_partial_and_overridden_like_any_task(sandbox, tmp_path):
    @lago_ingest_events_task(report_path=str(tmp_path))
    def some(count, first):
        yield from usage(count, first)

    with new_dag() as dag:

        @task
        def firsts():
            return [0, 100, 200]

        some.partial(count=10).expand(first=firsts())
        some.override(task_id="more", report_path=str(tmp_path / "more"), batch_size=1)(3, 300)
        some.override(task_id="few", report_path=None).expand_kwargs([{"count": 1, "first": 400}])
    outcome = run(dag)
    assert outcome.state == "success"
    assert [outcome.returned("some", n)["accepted"] for n in range(3)] == [10, 10, 10]
    assert outcome.returned("more")["requests"] == 3
    assert outcome.returned("few", 0)["accepted"] == 1
    assert sandbox.count() == 34
    assert [read(tmp_path / str(n) / "summary.json")["run"]["map_index"] for n in range(3)] == [0, 1, 2]


def test_a_function_that_says_it_returns_a_dict_leaves_one_summary(sandbox):
    """Airflow would push each key of the summary as an XCom of its own."""
    with new_dag() as dag:

        @lago_ingest_events_task
        def one() -> dict:
            return usage(1)[0]

        @task
        def check(summary, ti=None):
            assert summary["accepted"] == 1
            assert ti.xcom_pull(task_ids="one", key="accepted") is None

        check(one())
    assert run(dag).state == "success"


def test_a_retry_of_a_generator_that_failed_doubles_nothing(sandbox, tmp_path):
    with new_dag() as dag:

        @lago_ingest_events_task(report_path=str(tmp_path), retries=2, retry_delay=timedelta(0))
        def flaky(ti):
            yield from usage(130)
            if ti.try_number == 1:
                raise ConnectionError("the warehouse is away")
            yield from usage(70, 130)

        flaky()
    outcome = run(dag)
    assert (outcome.state, outcome.tries_of("flaky")) == ("success", 2)
    summary = outcome.returned("flaky")
    assert (summary["accepted"], summary["duplicate"]) == (70, 130)
    first = read(tmp_path / "summary.1.json")
    assert (first["read"], first["accepted"], first["unsettled"]) == (130, 130, 0)
    assert first["halted"] == "interrupted by ConnectionError"
    assert sandbox.count() == 200


def test_execution_timeout_ends_a_generator_that_blocks(sandbox, tmp_path):
    closed = []
    with new_dag() as dag:

        @lago_ingest_events_task(report_path=str(tmp_path), execution_timeout=timedelta(seconds=1.5))
        def blocking():
            try:
                yield from usage(200)
                time.sleep(30)
            finally:
                closed.append(threading.current_thread())

        blocking()
    started = time.monotonic()
    assert ends_by_timeout(dag, "blocking")
    assert time.monotonic() - started < 20
    assert closed == [threading.main_thread()]
    saved = read(tmp_path / "summary.json")
    assert "Timeout" in saved["halted"]
    assert (saved["read"], saved["accepted"]) == (200, 200)


def test_execution_timeout_ends_a_generator_that_never_ends(monkeypatch, tmp_path):
    # Not the sandbox: what is in flight at the end would arrive there during the next test.
    with ScriptedServer(echo) as server:
        connection = {"conn_type": "lago", "host": server.url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(connection))
        with new_dag() as dag:

            @lago_ingest_events_task(report_path=str(tmp_path), execution_timeout=timedelta(seconds=2))
            def endless():
                for n in itertools.count():
                    yield usage(1, n)[0]

            endless()
        assert ends_by_timeout(dag, "endless")
    saved = read(tmp_path / "summary.json")
    assert "Timeout" in saved["halted"]
    assert saved["accepted"] > 0


def test_the_dag_of_the_guide_does_what_the_guide_says(sandbox, tmp_path, monkeypatch):
    guide = (Path(__file__).resolve().parents[2] / "docs" / "taskflow.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (path := tmp_path / "guide.py").write_text(block.replace("/reports/", f"{tmp_path}/"), encoding="utf-8")

    class HttpHook:
        def __init__(self, method, http_conn_id):
            assert (method, http_conn_id) == ("GET", "usage_api")

        def run(self, endpoint, data):
            first = data["page"] * 100
            calls = [
                {"account": "acme", "call_id": n, "called_at": f"{data['day']}T09:00:00Z", "endpoint": "/v1"}
                for n in range(first, first + 100)
            ]
            self.answer = {"calls": calls, "next_page": data["page"] + 1 if data["page"] < 3 else None}
            return self

        def json(self):
            return self.answer

    stand_in = types.ModuleType("airflow.providers.http.hooks.http")
    stand_in.HttpHook = HttpHook
    for name in ("airflow.providers.http", "airflow.providers.http.hooks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    # Airflow finds it by the entry point of the installed project; it is on the path only where this is run from a checkout.
    monkeypatch.setattr(type(task), "lago_ingest_events", staticmethod(lago_ingest_events_task), raising=False)
    spec = importlib.util.spec_from_file_location("guide", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "guide", module)
    spec.loader.exec_module(module)
    outcome = run(module.bill_calls())
    assert outcome.state == "success"
    assert outcome.returned("deliver_calls")["accepted"] == 300
    assert sandbox.events()[0]["transaction_id"] == "acme:100"
    assert (tmp_path / outcome.run.run_id / "summary.json").exists()
