"""Lago's answers reach a file and a webhook from every operator, and neither can harm the delivery."""

from __future__ import annotations

import json
import logging
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException
from support.deliveries import KEY, usage
from support.scripted import CUT, Reply, ScriptedServer, as_json
from support.tasks import context

from airflow_provider_lago import operators
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.exceptions import LagoDeliveryError, LagoInputError


@pytest.fixture(autouse=True)
def connection(lago_sandbox_connection):
    return lago_sandbox_connection


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: 0.01)


@pytest.fixture
def hook(monkeypatch):
    """A webhook that answers as a test says; the connection 'hook' leads to it."""
    servers = []

    def start(answer=lambda request: Reply(204)):
        server = ScriptedServer(answer)
        server.__enter__()
        servers.append(server)
        connection = {"conn_type": "http", "host": server.url, "extra": {"timeout": 1}}
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(connection))
        return server

    yield start
    for server in servers:
        server.__exit__()


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def seed(lago):
    plan = {
        "name": "p",
        "code": "p",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "EUR",
        "pay_in_advance": False,
    }
    make("LagoGenericRequestOperator", endpoint="plans", root="plan", data=plan).execute(context())


def make(name, **arguments):
    return getattr(operators, name)(task_id="t", **arguments)


CUSTOMERS = [{"external_id": f"c{n}", "currency": "EUR"} for n in range(3)]
SUBSCRIPTIONS = [{"external_id": f"s{n}", "external_customer_id": f"c{n}", "plan_code": "p"} for n in range(3)]

EVERY = {
    "events in batches": ("LagoIngestEventsOperator", {"records": usage(3), "batch_size": 2}),
    "single events": ("LagoIngestEventsOperator", {"records": usage(3), "batch_size": 1}),
    "customers": ("LagoUpsertCustomerOperator", {"records": CUSTOMERS}),
    "subscriptions": ("LagoCreateSubscriptionOperator", {"records": SUBSCRIPTIONS}),
    "ends": ("LagoTerminateSubscriptionOperator", {"records": [{"external_id": f"s{n}"} for n in range(3)]}),
    "any endpoint": ("LagoGenericRequestOperator", {"endpoint": "taxes", "root": "tax", "records": [
        {"name": str(n), "code": str(n), "rate": 1} for n in range(3)]}),
    "groups": ("LagoGenericRequestOperator", {"endpoint": "events/batch", "envelope": "events", "records": usage(3)}),
}  # fmt: skip


def prepare(what, lago):
    if what in {"subscriptions", "ends"}:
        seed(lago)
        make("LagoUpsertCustomerOperator", records=CUSTOMERS).execute(context())
    if what == "ends":
        make("LagoCreateSubscriptionOperator", records=SUBSCRIPTIONS).execute(context())


@pytest.mark.parametrize("what", EVERY)
def test_each_answer_is_in_the_file_and_at_the_webhook_with_its_records(what, lago_sandbox, hook, tmp_path):
    prepare(what, lago_sandbox)
    server = hook()
    name, arguments = EVERY[what]
    summary = make(
        name,
        responses_path=str(tmp_path / "answers.jsonl"),
        response_webhook_conn_id="hook",
        response_webhook_path="lago/answers",
        **arguments,
    ).execute(context())
    assert (summary["accepted"], summary["rejected"]) == (3, 0)
    written = lines(tmp_path / "answers.jsonl")
    records = [record for line in written for record in line["records"]]
    assert sorted(record["position"] for record in records) == [1, 2, 3]
    named = next(
        arguments["records"][0][k] for k in ("transaction_id", "external_id", "code") if k in arguments["records"][0]
    )
    assert next(record["id"] for record in records if record["position"] == 1) == named
    assert all(line["status"] == 200 and line["body"] for line in written)
    assert all(("position" in line) is (len(line["records"]) == 1) for line in written)
    assert {request.path for request in server.requests} == {"/lago/answers"}
    sent = [json.loads(request.body) for request in server.requests]
    assert sorted(sent, key=str) == sorted(written, key=str)
    assert all("authorization" not in request.headers for request in server.requests), "Lago's key stays at home"
    assert summary["responses"]["written"] == summary["responses"]["forwarded"] == len(written)


def test_the_answer_to_one_request_without_records_is_handed_on_too(lago_sandbox, hook, tmp_path):
    server = hook()
    answer = make(
        "LagoGenericRequestOperator",
        endpoint="taxes",
        data={"tax": {"name": "a", "code": "a", "rate": 1}},
        responses_path=str(tmp_path / "a.jsonl"),
        response_webhook_conn_id="hook",
    ).execute(context())
    (line,) = lines(tmp_path / "a.jsonl")
    assert line["body"] == answer
    assert json.loads(server.bodies[0])["body"] == answer


def test_a_filter_makes_what_is_handed_on(lago_sandbox, hook, tmp_path):
    server = hook()
    _, arguments = EVERY["any endpoint"]
    make(
        "LagoGenericRequestOperator",
        response_filter=lambda response, ti: {"code": response.json()["tax"]["code"], "task": ti.task_id},
        responses_path=str(tmp_path / "a.jsonl"),
        response_webhook_conn_id="hook",
        **arguments,
    ).execute(context())
    bodies = [line["body"] for line in lines(tmp_path / "a.jsonl")]
    assert sorted(body["code"] for body in bodies) == ["0", "1", "2"]
    assert {body["task"] for body in bodies} == {"t"}
    assert sorted(json.loads(body)["body"]["code"] for body in server.bodies) == ["0", "1", "2"]


TROUBLES = {
    "fails": lambda request: Reply(500),
    "refuses": lambda request: Reply(400),
    "breaks": lambda request: CUT,
    "redirects": lambda request: Reply(302, b"", {"Location": "http://127.0.0.1:1/"}),
    "is slow": lambda request: Reply(204, delay=5),
}


@pytest.mark.parametrize("what", ["events in batches", "single events", "customers", "any endpoint"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_webhook_in_trouble_neither_fails_nor_repeats_the_delivery(trouble, what, lago_sandbox, hook, tmp_path):
    hook(TROUBLES[trouble])
    name, arguments = EVERY[what]
    before = len(lago_sandbox.requests)
    summary = make(
        name, response_webhook_conn_id="hook", report_path=str(tmp_path), concurrency=1, **arguments
    ).execute(context())
    assert (summary["accepted"], summary["rejected"], summary["duplicate"]) == (3, 0, 0)
    assert len(lago_sandbox.requests) - before == summary["requests"]
    told = summary["responses"]
    answers = 2 if what == "events in batches" else 3
    assert (told["forwarded"], told["not_forwarded"]) == (0, answers)
    kept = lines(tmp_path / "unforwarded.jsonl")
    assert told["unforwarded"] == str(tmp_path / "unforwarded.jsonl")
    assert sorted(record["position"] for line in kept for record in line["records"]) == [1, 2, 3]
    assert all(line["reason"] and line["idempotency_key"] for line in kept)
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert saved["responses"] == told


def test_a_webhook_that_recovers_gets_every_answer(lago_sandbox, hook, tmp_path):
    seen = []

    def answer(request):
        seen.append(request)
        return Reply(503) if len(seen) <= 2 else Reply(204)

    hook(answer)
    name, arguments = EVERY["any endpoint"]
    summary = make(name, response_webhook_conn_id="hook", report_path=str(tmp_path), **arguments).execute(context())
    assert (summary["responses"]["forwarded"], summary["responses"]["not_forwarded"]) == (3, 0)
    assert lines(tmp_path / "unforwarded.jsonl") == []


def test_without_a_report_the_log_and_the_summary_tell(lago_sandbox, hook, capfd, caplog):
    caplog.set_level(logging.INFO)
    hook(TROUBLES["refuses"])
    name, arguments = EVERY["any endpoint"]
    summary = make(name, response_webhook_conn_id="hook", **arguments).execute(context())
    printed = capfd.readouterr()
    log = caplog.text + printed.out + printed.err
    assert "3 of 3 answers were not forwarded" in log
    assert "HTTP 400" in log
    assert summary["responses"]["not_forwarded"] == 3


def test_mapped_tasks_and_later_runs_overwrite_no_file(lago_sandbox, hook, tmp_path):
    hook(TROUBLES["refuses"])
    path = tmp_path / "answers" / "a.jsonl"
    arguments = {
        "responses_path": str(path),
        "response_webhook_conn_id": "hook",
        "report_path": str(tmp_path / "report"),
    }
    for map_index in (0, 1, 1):
        make("LagoIngestEventsOperator", records=usage(2), **arguments).execute(context(map_index=map_index))
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.jsonl") if "rejected" not in p.name) == [
        "answers/0/a.jsonl",
        "answers/1/a.1.jsonl",
        "answers/1/a.jsonl",
        "report/0/unforwarded.jsonl",
        "report/1/unforwarded.1.jsonl",
        "report/1/unforwarded.jsonl",
    ]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_webhook_conn_id": "missing"}, AirflowNotFoundException),
        ({"response_webhook_conn_id": "lago_default"}, AirflowFailException),
        ({"responses_path": "s3://bucket/answers.jsonl"}, LagoInputError),
        ({"responses_path": "/proc/nowhere/answers.jsonl"}, LagoInputError),
    ],
)
def test_what_cannot_take_answers_is_found_before_anything_is_sent(changes, error, lago_sandbox, tmp_path):
    name, arguments = EVERY["any endpoint"]
    with pytest.raises(error):
        make(name, **arguments, **changes, report_path=str(tmp_path)).execute(context())
    assert lago_sandbox.requests == []
    assert "running" not in json.loads((tmp_path / "summary.json").read_text())["halted"]


def test_a_delivery_that_ends_early_tells_what_became_of_its_answers(hook, tmp_path, monkeypatch):
    hook()
    calls = []

    def answer(request):
        calls.append(request)
        return (
            as_json(200, {"thing": {}}) if len(calls) <= 2 else as_json(401, {"status": 401, "error": "Unauthorized"})
        )

    with ScriptedServer(answer) as server:
        connection = {"conn_type": "lago", "host": server.url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(connection))
        task = make(
            "LagoGenericRequestOperator",
            endpoint="things",
            records=[{"n": n} for n in range(5)],
            concurrency=1,
            report_path=str(tmp_path),
            response_webhook_conn_id="hook",
        )
        with pytest.raises(LagoDeliveryError):
            task.execute(context())
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert (saved["accepted"], saved["responses"]["forwarded"]) == (2, 2)


def test_a_slow_webhook_holds_a_delivery_up_for_a_bounded_time(lago_sandbox, hook):
    hook(lambda request: Reply(204, delay=0.3))
    started = time.monotonic()
    summary = make(
        "LagoIngestEventsOperator", records=usage(40), batch_size=1, concurrency=8, response_webhook_conn_id="hook"
    ).execute(context())
    assert summary["accepted"] == 40
    assert summary["responses"]["forwarded"] == 40
    assert time.monotonic() - started < 15
