"""JSON that keeps every digit."""

import datetime as dt
from collections import OrderedDict
from decimal import Decimal
from types import MappingProxyType

import pendulum
import pytest

from airflow_provider_lago.api.exact_json import canonical, decode, encode


class Number(int):
    pass


class Text(str):
    pass


@pytest.mark.parametrize("text", [b"1.10", b"0.1000000000000000055511151231257827", b"12345678901234567890.5"])
def test_a_number_with_a_fraction_keeps_every_digit(text):
    assert decode(text) == Decimal(text.decode())
    assert encode(decode(text)) == text
    assert canonical(decode(text)) == text


def test_whole_numbers_stay_whole():
    assert decode(b"7") == 7
    assert type(decode(b"7")) is int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pendulum.datetime(2026, 1, 2), b'"2026-01-02T00:00:00+00:00"'),
        (pendulum.date(2026, 1, 2), b'"2026-01-02"'),
        (pendulum.time(3, 4), b'"03:04:00"'),
        (dt.date(2026, 1, 2), b'"2026-01-02"'),
        (MappingProxyType({"a": 1}), b'{"a":1}'),
        (OrderedDict(a=Number(1)), b'{"a":1}'),
        ([Text("x")], b'["x"]'),
    ],
)
def test_what_is_like_a_plain_value_is_written_as_one(value, text):
    assert encode(value) == text


def test_what_has_no_json_form_is_named():
    with pytest.raises(TypeError, match="values of type object have no JSON form"):
        encode({"a": object()})


def test_the_canonical_form_does_not_depend_on_the_order_of_keys():
    assert canonical({"b": 1, "a": {"d": 1, "c": 2}}) == canonical({"a": {"c": 2, "d": 1}, "b": 1})
    assert canonical([1, 2]) != canonical([2, 1])
