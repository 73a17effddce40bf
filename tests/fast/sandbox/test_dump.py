"""A dump tells whether anything changed; the journal tells when requests came."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection

import pytest

from airflow_provider_lago.sandbox import Sandbox


@pytest.fixture
def filled(sandbox):
    sandbox.add_metric("calls")
    sandbox.add_plan("small", metrics=["calls"], amount_cents=1000)
    sandbox.add_plan("big", amount_cents=5000)
    sandbox.add_subscription("s1", "c1", "small")
    sandbox.post("/events", {"event": {"transaction_id": "t1", "code": "calls", "external_subscription_id": "s1"}})
    return sandbox


READS = [
    "/organizations",
    "/customers",
    "/customers/c1",
    "/subscriptions",
    "/subscriptions/s1",
    "/plans/small",
    "/events",
    "/billable_metrics",
    "/customers/c1/current_usage?external_subscription_id=s1",
    "/nope",
]


def test_reading_changes_nothing(lago, filled):
    before = filled.dump()
    for path in READS:
        lago.get(path)
    assert filled.dump() == before


CHANGES = [
    ("POST", "/customers", {"customer": {"external_id": "c2"}}),
    ("POST", "/customers", {"customer": {"external_id": "c1", "name": "Ada"}}),
    ("DELETE", "/customers/c1", None),
    (
        "POST",
        "/subscriptions",
        {"subscription": {"external_id": "s1", "external_customer_id": "c1", "plan_code": "big"}},
    ),
    ("PUT", "/subscriptions/s1", {"subscription": {"name": "x"}}),
    ("DELETE", "/subscriptions/s1", None),
    ("PUT", "/plans/small", {"plan": {"name": "x"}}),
    ("DELETE", "/plans/big", None),
    ("DELETE", "/billable_metrics/calls", None),
    ("PUT", "/organizations", {"organization": {"city": "Paris"}}),
    ("POST", "/events", {"event": {"transaction_id": "t2", "code": "calls", "external_subscription_id": "s1"}}),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]} {change[1]}")
def test_every_write_shows(lago, filled, change):
    before = filled.dump()
    assert lago.ask(*change).status == 200
    assert filled.dump() != before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/customers", {"customer": {"external_id": "c1", "email": "nope"}}),
        ("/customers", {"customer": {"external_id": "c3", "tax_codes": ["nope"]}}),
        ("/subscriptions", {"subscription": {"external_id": "s9", "external_customer_id": "c9", "plan_code": "nope"}}),
        ("/events", {"event": {"transaction_id": "t1", "code": "calls", "external_subscription_id": "s1"}}),
        ("/plans", {"plan": {"name": "x"}}),
    ],
)
def test_refusals_change_nothing(lago, filled, path, body):
    before = filled.dump()
    assert lago.post(path, body).status in (404, 422)
    assert filled.dump() == before


def test_a_change_and_its_reversal_show(sandbox):
    sandbox.add_customer("c1", name="Ada")
    before = sandbox.dump()
    sandbox.add_customer("c1", name="Eve")
    sandbox.add_customer("c1", name="Ada")
    assert sandbox.dump() != before


def test_the_dump_is_json_lines_with_the_deleted_in_it(lago, filled):
    lago.ask("DELETE", "/customers/c1")
    answer = lago.get("/_sandbox/dump")
    assert answer.text == filled.dump()
    rows = [json.loads(line) for line in answer.text.splitlines()]
    customers = [row for row in rows if row["kind"] == "customer"]
    assert [(row["key"], row["deleted"]) for row in customers] == [("c1", True)]
    assert [row["body"]["status"] for row in rows if row["kind"] == "subscription"] == ["terminated"]
    assert [row["body"]["transaction_id"] for row in rows if row["kind"] == "event"] == ["t1"]


def test_a_restart_changes_nothing(tmp_path):
    with Sandbox(db=tmp_path / "lago.sqlite") as first:
        first.add_customer("c1")
        before = first.dump()
    with Sandbox(db=tmp_path / "lago.sqlite") as second:
        assert second.dump() == before


def test_the_journal_knows_when_a_request_came_whatever_held_its_answer_up(lago, sandbox):
    sandbox.fault("slow", seconds=0.2)
    before = time.monotonic()
    lago.get("/customers")
    between = time.monotonic()
    lago.get("/customers")
    first, second = sandbox.requests
    assert before <= first.at <= between - 0.2
    assert between <= second.at <= time.monotonic() - 0.2
    assert "at" in lago.get("/_sandbox/requests").json["requests"][0]


def test_the_journal_keeps_as_many_requests_as_asked():
    with Sandbox(keep_requests=3) as sandbox:
        connection = HTTPConnection(sandbox.host, sandbox.port)
        for number in range(5):
            connection.request("GET", f"/nope/{number}")
            connection.getresponse().read()
        connection.close()
        assert [seen.path for seen in sandbox.requests] == ["/nope/2", "/nope/3", "/nope/4"]
        assert sandbox.state()["requests"] == 5
