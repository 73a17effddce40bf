"""The operator in Airflow's own hands: rendering, XComs, mapping, retries, timeouts."""

import json
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import task
from support.airflow_runs import ends_by_timeout, new_dag, run
from support.deliveries import KEY, usage
from support.scripted import Reply, ScriptedServer, echo

from airflow_provider_lago.operators import LagoIngestEventsOperator


def connect(monkeypatch, url):
    monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": url, "password": KEY}))


@pytest.fixture
def sandbox(lago_sandbox, lago_sandbox_connection):
    return lago_sandbox


def test_the_output_of_another_task_is_delivered(sandbox):
    with new_dag() as dag:

        @task
        def produce():
            return usage(120)

        LagoIngestEventsOperator(task_id="deliver", records=produce())
    outcome = run(dag)
    assert outcome.state == "success"
    assert outcome.returned("deliver")["accepted"] == 120
    assert sandbox.count() == 120


def test_the_outputs_of_mapped_tasks_are_delivered_together(sandbox):
    with new_dag() as dag:

        @task
        def produce(first):
            return usage(50, first)

        LagoIngestEventsOperator(task_id="deliver", records=produce.expand(first=[0, 100, 200]))
    outcome = run(dag)
    assert outcome.returned("deliver")["accepted"] == 150
    assert sandbox.count() == 150


def test_a_delivery_is_mapped_over_files_each_with_its_own_report(sandbox, tmp_path):
    files = []
    for n in range(3):
        path = tmp_path / f"{n}.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in usage(10, n * 10)))
        files.append(str(path))
    with new_dag() as dag:
        LagoIngestEventsOperator.partial(task_id="deliver", report_path=str(tmp_path / "report")).expand(files=files)
    outcome = run(dag)
    assert outcome.state == "success"
    assert [outcome.returned("deliver", n)["accepted"] for n in range(3)] == [10, 10, 10]
    assert sandbox.count() == 30
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["0", "1", "2"]


def test_arguments_are_rendered_for_the_run(sandbox, tmp_path):
    (tmp_path / "usage.jsonl").write_text("".join(json.dumps(event) + "\n" for event in usage(3)))
    with new_dag(params={"folder": str(tmp_path), "code": "calls"}) as dag:
        LagoIngestEventsOperator(
            task_id="deliver",
            files="{{ params.folder }}/*.jsonl",
            fields={"transaction_id": "transaction_id"},
            constants={"code": "{{ params.code }}"},
            report_path="{{ params.folder }}/report/{{ run_id }}",
        )
    outcome = run(dag)
    assert {event["code"] for event in sandbox.events()} == {"calls"}
    report = outcome.returned("deliver")["report"]["summary"]
    assert outcome.run.run_id in report
    with open(report) as saved:
        assert json.load(saved)["run"]["run_id"] == outcome.run.run_id


def test_a_retry_after_an_outage_doubles_nothing(sandbox, monkeypatch):
    """Try 1 stores events and loses the answers; try 2 finds them there."""
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.wait", lambda *_: 0.01)
    sandbox.fault("lost_response", path="/api/v1/events/batch", times=40)
    with new_dag() as dag:
        LagoIngestEventsOperator(
            task_id="deliver", records=usage(500), concurrency=2, retries=5, retry_delay=timedelta(0)
        )
    outcome = run(dag)
    assert outcome.state == "success"
    assert outcome.tries_of("deliver") > 1
    assert sandbox.count() == 500
    summary = outcome.returned("deliver")
    assert summary["accepted"] + summary["duplicate"] == 500


def test_what_no_retry_can_heal_is_not_retried(sandbox):
    with new_dag() as dag:
        LagoIngestEventsOperator(
            task_id="reject", records=[*usage(5), {"code": "x"}], retries=3, retry_delay=timedelta(0)
        )
        LagoIngestEventsOperator(task_id="missing", files="none-*.jsonl", retries=3, retry_delay=timedelta(0))
    outcome = run(dag)
    for name in ("reject", "missing"):
        assert outcome.state_of(name) == "failed"
        assert outcome.tries_of(name) == 1
    assert sandbox.count() == 5


def test_a_glob_without_files_skips_the_task_where_that_is_normal(sandbox):
    with new_dag() as dag:
        LagoIngestEventsOperator(task_id="deliver", files="none-*.jsonl", skip_on_empty=True)
    assert run(dag).state_of("deliver") == "skipped"


def test_execution_timeout_ends_a_delivery_that_waits_for_a_slow_server(monkeypatch, tmp_path):
    with ScriptedServer(lambda request: Reply(200, b"", delay=30)) as server:
        connect(monkeypatch, server.url)
        with new_dag() as dag:
            LagoIngestEventsOperator(
                task_id="deliver",
                records=usage(500),
                report_path=str(tmp_path),
                execution_timeout=timedelta(seconds=1),
            )
        assert ends_by_timeout(dag, "deliver")
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert "Timeout" in saved["halted"]
    assert saved["unsettled"] == 500


def test_execution_timeout_ends_a_delivery_that_is_busy(monkeypatch, tmp_path):
    def endless():
        n = 0
        while True:
            yield usage(100, n)
            n += 100

    with ScriptedServer(echo) as server:
        connect(monkeypatch, server.url)
        with new_dag() as dag:
            deliver = LagoIngestEventsOperator(
                task_id="deliver", records=[], report_path=str(tmp_path), execution_timeout=timedelta(seconds=2)
            )
        monkeypatch.setattr(deliver, "template_fields", ())
        deliver.records = endless()
        assert ends_by_timeout(dag, "deliver")
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert "Timeout" in saved["halted"]
    assert saved["accepted"] > 0


def test_the_key_is_in_nothing_that_a_run_prints(sandbox, capfd, caplog):
    caplog.set_level("INFO")
    with new_dag() as dag:
        LagoIngestEventsOperator(task_id="deliver", records=usage(3))
        LagoIngestEventsOperator(task_id="preview", records=usage(3), dry_run=True)
    outcome = run(dag)
    printed = capfd.readouterr()
    log = printed.out + printed.err + caplog.text
    assert "Delivery ended" in log
    assert sandbox.api_key not in log
    assert sandbox.api_key not in json.dumps(outcome.returned("preview"))
