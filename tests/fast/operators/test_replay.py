"""``files="rejected.jsonl"``: rejected records are delivered with a better shaping, under the same identity."""

import json

import pytest
from support import tasks
from support.deliveries import usage

from airflow_provider_lago.exceptions import LagoInputError, LagoRejectedError
from airflow_provider_lago.hooks.lago import LagoHook
from airflow_provider_lago.operators import LagoIngestEventsOperator, LagoUpsertCustomerOperator


@pytest.fixture(autouse=True)
def connection(lago_sandbox_connection):
    return lago_sandbox_connection


def execute(operator=LagoIngestEventsOperator, **arguments):
    return operator(task_id="deliver", **arguments).execute(tasks.context())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_better_mapping_delivers_what_was_rejected_once_and_under_the_same_ids(lago_sandbox, tmp_path):
    records = [
        {"account": "s", "kind": "c", "n": n, "at" if n % 10 else "when": 1_700_000_000 + n} for n in range(1_000)
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    shaping = {
        "fields": {"external_subscription_id": "account", "code": "kind", "timestamp": "at"},
        "properties": ["n"],
        "transaction_id": ["account", "n"],
    }
    first = execute(files=str(path), report_path=tmp_path / "first", max_rejected="10%", **shaping)
    assert (first["accepted"], first["rejected"]) == (900, 100)
    rejects = str(tmp_path / "first" / "rejected.jsonl")
    with pytest.raises(LagoRejectedError, match="100 of 100"):
        execute(files=rejects, report_path=tmp_path / "again", **shaping)
    better = {**shaping, "transform": lambda record: {"at": record.get("when"), **record}}
    second = execute(files=rejects, report_path=tmp_path / "second", **better)
    assert (second["read"], second["accepted"], second["rejected"]) == (100, 100, 0)
    assert {event["transaction_id"] for event in lago_sandbox.events()} == {f"s:{n}" for n in range(1_000)}
    whole = execute(files=str(path), **better)
    assert (whole["accepted"], whole["duplicate"]) == (0, 1_000)


def test_a_record_that_is_rejected_again_still_tells_where_it_came_from(tmp_path):
    records = usage(3)
    del records[1]["code"]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(["not JSON", *map(json.dumps, records)]))
    execute(files=str(path), report_path=tmp_path / "first", max_rejected=2)
    rejects = str(tmp_path / "first" / "rejected.jsonl")
    execute(files=rejects, report_path=tmp_path / "second", max_rejected=2)
    first, second = lines(tmp_path / "first" / "rejected.jsonl"), lines(tmp_path / "second" / "rejected.jsonl")
    same = ("origin", "line", "reason", "record", "payload")
    assert [[line[name] for name in same] for line in first] == [[line[name] for name in same] for line in second]
    assert [line["position"] for line in second] == [1, 2]


def test_values_are_what_they_were_to_the_last_digit(lago_sandbox, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"transaction_id": "t", "external_subscription_id": "s", "timestamp": 1700000000.5, '
                    '"properties": {"exact": 12345678901234567890.10, "text": "é\\u0000"}}\n'
                    '{"transaction_id": "u", "external_subscription_id": "s", "timestamp": 1700000000, '
                    '"properties": {"exact": 0.1000000000000000055511151231257827}}\n')  # fmt: skip
    execute(files=str(path), report_path=tmp_path / "first", max_rejected=2)
    rejects = tmp_path / "first" / "rejected.jsonl"
    execute(files=str(rejects), report_path=tmp_path / "second", constants={"code": "c"}, max_rejected=1)
    (event,) = lago_sandbox.events()
    assert "0.1000000000000000055511151231257827" in rejects.read_text()
    assert event["transaction_id"] == "u"
    (left,) = lines(tmp_path / "second" / "rejected.jsonl")
    assert left["record"]["transaction_id"] == "t"


def test_an_empty_cell_of_a_csv_stays_a_missing_value(lago_sandbox, tmp_path):
    """As null it would clear the customer's field in Lago."""
    execute(LagoUpsertCustomerOperator, records=[{"external_id": "a", "name": "Ann", "city": "Oslo"}])
    path = tmp_path / "customers.csv"
    path.write_text("external_id,name,city,currency\na,Ann B,,no currency\n")
    report = tmp_path / "first"
    execute(LagoUpsertCustomerOperator, files=str(path), report_path=report, max_rejected=1)
    execute(LagoUpsertCustomerOperator, files=str(report / "rejected.jsonl"), exclude=["currency"])
    customer = LagoHook().request("GET", "customers/a")["customer"]
    assert (customer["name"], customer["city"]) == ("Ann B", "Oslo")


def test_a_users_own_file_of_that_name_is_read_as_it_is(lago_sandbox, tmp_path):
    path = tmp_path / "rejected.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in usage(3)))
    assert execute(files=str(path))["accepted"] == 3


def test_the_file_of_the_tasks_own_report_is_refused_before_it_is_moved(tmp_path):
    records = usage(1)
    del records[0]["code"]
    execute(records=records, report_path=tmp_path, max_rejected=1)
    before = (tmp_path / "rejected.jsonl").read_bytes()
    with pytest.raises(LagoInputError, match="own report_path"):
        execute(files=str(tmp_path / "rejected.jsonl"), report_path=tmp_path)
    assert (tmp_path / "rejected.jsonl").read_bytes() == before
