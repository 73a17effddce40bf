"""Rows become events, or get their outcome at once."""

import json
import logging

import pytest

from airflow_provider_lago.delivery.events.preparing import prepare
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import Row, Unreadable

EVENT = {"transaction_id": "t", "external_subscription_id": "s", "code": "c", "timestamp": 1_790_000_000}
LINE = json.dumps(EVENT).encode()


def prepared(*records, **settings):
    """Return the payloads, and the counts."""
    ledger = Ledger(Tally(), NoReport(), logging.getLogger("test"))
    rows = [Row(number, "f", number, record) for number, record in enumerate(records, 1)]
    events = list(prepare(rows, EventShaping(**settings), ledger))
    return [event.checked.payload for event in events], ledger.tally


def test_a_line_that_is_an_event_already_goes_out_as_it_stands():
    payloads, _ = prepared(LINE)
    assert payloads[0] is LINE


def test_a_line_is_read_where_constants_change_it():
    (payload,), _ = prepared(LINE, constants={"code": "other"})
    assert json.loads(payload) == {**EVENT, "code": "other"}


def test_a_line_is_read_where_its_time_is_in_another_unit():
    payloads, tally = prepared(LINE, LINE.replace(b"1790000000", b"1790000000000"), timestamp_unit="ms")
    assert [json.loads(payload) for payload in payloads] == [EVENT]
    assert tally.reasons == {"timestamp: not a time": 1}


@pytest.mark.parametrize("record", [b'{"a"', b"[1]", b"null", None, [1], "text", Unreadable("not CSV", "why", "text")])
def test_what_is_no_record_is_rejected_and_the_next_one_is_not(record):
    payloads, tally = prepared(record, LINE, EVENT)
    assert len(payloads) == 2
    assert (tally.read, tally.rejected) == (3, 1)


def test_a_transform_cannot_change_what_the_report_shows():
    def spoil(record):
        record["properties"]["a"] = 2
        return record

    record = {**EVENT, "properties": {"a": 1}}
    (payload,), _ = prepared(record, transform=spoil)
    assert json.loads(payload)["properties"] == {"a": 2}
    assert record["properties"] == {"a": 1}


def test_what_the_transform_makes_of_records_is_what_counts():
    def some(record):
        return None if record["n"] % 2 else {**EVENT, "transaction_id": str(record["n"])}

    payloads, tally = prepared(*({"n": n} for n in range(5)), b'{"n":7}', b'{"n":8}', transform=some)
    assert [json.loads(payload)["transaction_id"] for payload in payloads] == ["0", "2", "4", "8"]
    assert (tally.read, tally.skipped) == (7, 3)


def test_an_error_of_the_users_code_costs_the_record_alone():
    class Strange(dict):
        def __getitem__(self, *name):
            raise OSError("no")

        get = items = __getitem__

    payloads, tally = prepared(Strange(EVENT), EVENT)
    assert len(payloads) == 1
    assert tally.reasons == {"cannot be shaped": 1}


def test_wrong_settings_are_told_before_the_first_row_is_read():
    with pytest.raises(ValueError, match="names 'nonsense'"):
        prepare(iter(()), EventShaping(fields={"nonsense": "a"}), Ledger(Tally(), NoReport(), logging.getLogger()))
