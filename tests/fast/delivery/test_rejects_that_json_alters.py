"""A record that JSON can only show altered must not be delivered so from ``rejected.jsonl``."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from airflow_provider_lago.delivery.decoding import decode
from airflow_provider_lago.delivery.events.shaping import EventShaper, EventShaping
from airflow_provider_lago.delivery.report import FolderReport, printable
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.rows import Row, Unreadable


def read_again(folder, data):
    report = FolderReport(folder, {"run_id": "r"})
    report.rejected(Row(1, "usage.csv", 2, data), reason="why", detail="what", code=None, payload=None)
    report.finish({})
    (row,) = FileSource(folder / "rejected.jsonl").rows()
    return row.data


@pytest.mark.parametrize(
    "value",
    [
        "M\udcfcnchen",
        float("nan"),
        Decimal("Infinity"),
        10**4_000,
        ["a", {"b": float("inf")}],
        b"5",
        [memoryview(b"5")],
        timedelta(hours=1),
        range(5),
        {1: "a"},
        {"a"},
    ],
    ids=[
        "bytes that are no UTF-8",
        "nan",
        "infinity",
        "a huge number",
        "nested",
        "bytes",
        "bytes of another kind",
        "a time span",
        "another object",
        "a name that is a number",
        "a set",
    ],
)
def test_it_stays_rejected_for_the_same_reason(tmp_path, value):
    again = read_again(tmp_path, {"id": "a", "value": value})

    assert isinstance(again, Unreadable)
    assert (again.reason, again.detail) == ("why", "what")
    assert '"id":"a"' in again.text


def test_so_does_one_with_an_altered_name(tmp_path):
    assert isinstance(read_again(tmp_path, {"caf\udce9": 1}), Unreadable)


def test_a_record_that_json_shows_as_it_is_is_delivered_again(tmp_path):
    assert (
        read_again(tmp_path, {"id": "\u00e9", "n": [1, 1.5, None, True]}) == b'{"id":"\xc3\xa9","n":[1,1.5,null,true]}'
    )


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 11, 1, 12, 30, tzinfo=UTC),
        datetime(2026, 11, 1, 12, 30, 0, 5, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 11, 1, 12, 30),
        date(2026, 11, 1),
        UUID("11111111-2222-4333-8444-555555555555"),
        Decimal("7.10"),
    ],
    ids=str,
)
@pytest.mark.parametrize("strategy", [["at", "n"], "hash"], ids=["columns", "hash"])
def test_an_id_that_is_made_of_the_record_is_the_same_when_it_comes_again(tmp_path, value, strategy):
    shaper = EventShaper(EventShaping(transaction_id=strategy, properties=["at", "n"]))
    record = {"external_subscription_id": "s", "code": "c", "timestamp": 1_700_000_000, "at": value, "n": 1}

    again = shaper.event(decode(read_again(tmp_path, record)))

    assert again["transaction_id"] == shaper.event(record)["transaction_id"]


def test_a_time_of_the_day_is_shown_as_it_is_sent(tmp_path):
    assert read_again(tmp_path, {"at": time(12, 30)}) == b'{"at":"12:30:00"}'


def test_a_line_that_is_not_utf_8_is_shown_with_its_bytes():
    assert printable(b'{"a":"\xff"}') == '{"a":"\\xff"}'
    assert printable(b"\xff") == "\\xff"
