"""What every operator that delivers promises of the arguments they share, over the sandbox."""

import json

import pytest
from support.deliveries import usage
from support.front import Front
from support.tasks import context

from airflow_provider_lago import operators
from airflow_provider_lago.exceptions import LagoInputError

CASES = {
    "LagoIngestEventsOperator": ({"batch_size": 1}, usage),
    "LagoUpsertCustomerOperator": ({}, lambda n: [{"external_id": f"new{i}", "name": "N"} for i in range(n)]),
    "LagoCreateSubscriptionOperator": (
        {},
        lambda n: [{"external_id": f"new{i}", "external_customer_id": "acme", "plan_code": "basic"} for i in range(n)],
    ),
    "LagoTerminateSubscriptionOperator": ({}, lambda n: [{"external_id": f"s{i}"} for i in range(n)]),
    "LagoGenericRequestOperator": (
        {"endpoint": "billable_metrics", "root": "billable_metric"},
        lambda n: [{"name": f"m{i}", "code": f"m{i}", "aggregation_type": "count_agg"} for i in range(n)],
    ),
}


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def lago(lago_sandbox, lago_sandbox_connection):
    """A Lago with a customer, a plan, and five subscriptions."""
    lago_sandbox.add_plan("basic")
    lago_sandbox.add_customer("acme")
    for n in range(5):
        lago_sandbox.add_subscription(f"s{n}", "acme", "basic")
    return lago_sandbox


def execute(name, count=5, records=None, **arguments):
    fixed, make = CASES[name]
    records = make(count) if records is None else records
    made = getattr(operators, name)(task_id="t", records=records, **{**fixed, **arguments})
    return made.execute(context())


def writes(seen):
    return [request for request in seen if request.method not in ("GET", "HEAD")]


def test_the_books_balance_and_the_summary_is_small(name, lago):
    summary = execute(name)
    assert summary["read"] == summary["accepted"] == 5
    assert summary["read"] == sum(summary[outcome] for outcome in ("accepted", "duplicate", "rejected", "skipped"))
    assert len(json.dumps(summary)) < 1_000


def test_limit_delivers_the_first_records_only(name, lago):
    before = len(writes(lago.requests))
    assert execute(name, limit="2")["read"] == 2
    assert len(writes(lago.requests)) == before + 2


def test_exclude_leaves_attributes_out_of_every_kind_of_payload(name, lago):
    """A body that holds the attribute would be refused, and so would a record with a field that Lago does not have."""
    lago.fault("poison", contains="left-out", status=400)
    _, make = CASES[name]
    records = [{**record, "note": "left-out", "deep": {"note": "left-out"}} for record in make(5)]
    summary = execute(name, records=records, exclude=["note", "deep"])
    assert (summary["accepted"], summary["rejected"]) == (5, 0)


def test_a_transform_changes_and_skips_records(name, lago):
    summary = execute(name, transform=lambda record: None if "0" in str(record) else record, limit=2)
    assert (summary["read"], summary["skipped"]) in {(2, 1), (2, 2)}


def test_receipts_name_every_record_with_lagos_own_ids(name, lago, tmp_path):
    execute(name, report_path=str(tmp_path), receipts=True)
    lines = [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_text().splitlines()]
    assert sorted(line["position"] for line in lines) == [1, 2, 3, 4, 5]
    assert {line["outcome"] for line in lines} == {"accepted"}
    assert len({line["lago_id"] for line in lines} - {None}) == 5
    assert all(line["request_id"] for line in lines)


def test_receipts_without_a_folder_are_refused(name, lago):
    with pytest.raises(LagoInputError, match="report_path"):
        execute(name, receipts=True)


def test_the_preview_is_byte_for_byte_what_is_then_sent(name, lago, monkeypatch, tmp_path):
    with Front(lago) as front:
        address = json.loads(lago.connection_json)
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({**address, "host": front.url, "port": None}))
        shown = execute(name, dry_run=True, report_path=str(tmp_path))
        assert writes(front.requests) == []
        kept = [json.loads(line) for line in (tmp_path / "preview.jsonl").read_text().splitlines()]
        assert kept == shown["preview"]
        assert len(kept) == 3
        execute(name, limit=3, concurrency=1)
        sent = [
            (request.method, f"{front.url}{request.path}", request.body.decode()) for request in writes(front.requests)
        ]
    assert [(request["method"], request["url"], request["body"]) for request in kept] == sent


def test_a_source_is_asked_for_exactly_once(name, lago):
    with pytest.raises(LagoInputError, match=r"exactly one of records, files and sql|give records"):
        execute(name, records=[{}], files="x.jsonl")
