"""Extracting in Airflow's own hands: rendering, retries, mapping, timeouts, the way back into Lago."""

import json
from datetime import timedelta

import pytest
from fast.extraction.recorder import Recorder
from support.airflow_runs import ends_by_timeout, new_dag, run
from support.deliveries import KEY, usage

from airflow_provider_lago.operators import LagoExtractOperator, LagoIngestEventsOperator


def connect(monkeypatch, url):
    monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": url, "password": KEY}))


def written(folder):
    return [
        json.loads(line)["transaction_id"]
        for part in sorted(folder.glob("part-*.jsonl"))
        for line in part.read_bytes().splitlines()
    ]


@pytest.fixture
def sandbox(lago_sandbox, lago_sandbox_connection, monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.wait", lambda *_: 0.0)
    lago_sandbox.post("/events/batch", {"events": usage(95)})
    return lago_sandbox


NEWEST_FIRST = [f"t{n}" for n in reversed(range(95))]


def test_airflows_retry_goes_on_with_the_page_that_failed(sandbox, monkeypatch, tmp_path):
    tries_of_a_call = 8
    sandbox.fault("error", path="/events", status=503, skip=5, times=tries_of_a_call)
    with Recorder(sandbox) as front:
        connect(monkeypatch, front.url)
        with new_dag() as dag:
            LagoExtractOperator(
                task_id="extract",
                endpoint="events",
                path=str(tmp_path / "{{ run_id }}"),
                per_page=10,
                pages_per_part=2,
                retries=2,
                retry_delay=timedelta(0),
            )
        outcome = run(dag)
    assert (outcome.state, outcome.tries_of("extract")) == ("success", 2)
    assert front.pages == [1, 2, 3, 4, 5, *[6] * tries_of_a_call, 6, 7, 8, 9, 10]
    summary = outcome.returned("extract")
    assert (summary["resumed_at_page"], summary["items"], summary["parts"]) == (6, 95, 6)
    assert written(tmp_path / outcome.run.run_id) == NEWEST_FIRST


def test_what_no_retry_heals_is_not_retried(sandbox, tmp_path):
    with new_dag() as dag:
        LagoExtractOperator(
            task_id="extract", endpoint="events", path=str(tmp_path), per_page=0, retries=3, retry_delay=timedelta(0)
        )
    outcome = run(dag)
    assert (outcome.state_of("extract"), outcome.tries_of("extract")) == ("failed", 1)


def test_arguments_are_rendered_for_the_run_and_the_files_go_to_the_next_task(sandbox, tmp_path):
    """Events of 15 seconds are read from Lago and sent again under another subscription."""
    times = {"start": "2023-11-14T22:13:25Z", "end": "2023-11-14 22:13:40+00:00", "folder": str(tmp_path)}
    with new_dag(params=times) as dag:
        extract = LagoExtractOperator(
            task_id="extract",
            endpoint="{{ 'events' }}",
            path="{{ params.folder }}/out",
            filters={"code": "{{ 'c' }}"},
            timestamp_from="{{ params.start }}",
            timestamp_to="{{ params.end }}",
            multiple_outputs=True,
        )
        LagoIngestEventsOperator(
            task_id="deliver",
            files=extract.output["files"],
            exclude=["lago_id", "lago_customer_id", "lago_subscription_id", "created_at"],
            constants={"external_subscription_id": "copy"},
        )
    outcome = run(dag)
    assert outcome.state == "success"
    assert outcome.returned("extract")["items"] == 15
    assert outcome.returned("deliver")["accepted"] == 15
    copies = [event for event in sandbox.events() if event["external_subscription_id"] == "copy"]
    assert {event["transaction_id"] for event in copies} == {f"t{n}" for n in range(5, 20)}


def test_one_task_is_mapped_over_lists(sandbox, tmp_path):
    sandbox.add_customer("a")
    with new_dag() as dag:
        LagoExtractOperator.partial(task_id="extract", path=str(tmp_path)).expand(endpoint=["events", "customers"])
    outcome = run(dag)
    assert [outcome.returned("extract", index)["items"] for index in (0, 1)] == [95, 1]


def test_an_empty_list_skips_the_task_where_that_is_asked_for(sandbox, tmp_path):
    with new_dag() as dag:
        LagoExtractOperator(task_id="extract", endpoint="plans", path=str(tmp_path), skip_on_empty=True)
    assert run(dag).state_of("extract") == "skipped"


def test_execution_timeout_leaves_what_was_read_for_a_retry(sandbox, tmp_path):
    sandbox.fault("slow", path="/events", seconds=30, skip=4)
    with new_dag() as dag:
        LagoExtractOperator(
            task_id="extract",
            endpoint="events",
            path=str(tmp_path),
            per_page=10,
            execution_timeout=timedelta(seconds=2),
        )
    assert ends_by_timeout(dag, "extract")
    manifest = json.loads((tmp_path / "extract.json").read_text())
    assert (manifest["state"], manifest["progress"]["next_page"]) == ("running", 5)
    assert written(tmp_path) == NEWEST_FIRST[:40]
