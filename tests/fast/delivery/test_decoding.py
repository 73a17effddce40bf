"""What a line that is no record is said to be."""

import pytest

from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.delivery.decoding import decode


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b'{"a":"\xff"}', "not UTF-8", "byte 1 of the line"),
        (b'{"a":"xy\xff"}', "not UTF-8", "byte 3 of the line"),
        (b"[" * 5_000 + b"]" * 5_000, "not JSON", "nested too deep"),
        (b'{"a":1e99999999999999999999}', "not JSON", "a number is too long to be one"),
        (b'{"a":1', "not JSON", "truncated"),
    ],
    ids=["first byte", "third byte", "deep", "long", "cut"],
)
def test_a_line_that_is_no_json_is_told_with_what_is_wrong(line, reason, detail):
    with pytest.raises(InvalidRecord) as caught:
        decode(line)
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_what_is_an_object_already_stays_the_same_one():
    record = {"a": 1}
    assert decode(record) is record
    assert decode(None) is None
