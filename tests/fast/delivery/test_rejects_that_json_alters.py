"""A record that JSON can only show altered must not be delivered so from ``rejected.jsonl``."""

from decimal import Decimal

import pytest

from airflow_provider_lago.delivery.report import FolderReport
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
    ["M\udcfcnchen", float("nan"), Decimal("Infinity"), 10**4_000, ["a", {"b": float("inf")}]],
    ids=["bytes that are no UTF-8", "nan", "infinity", "a huge number", "nested"],
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
