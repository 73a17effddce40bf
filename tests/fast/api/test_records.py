"""What no payload may hold, and that the message leads to the place."""

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest

from airflow_provider_lago.api.records import DEEPEST, InvalidRecord, check_text, encode, refuse_unsendable


def fault(value, path="properties"):
    with pytest.raises(InvalidRecord) as caught:
        refuse_unsendable(value, path)
    return caught.value.reason, caught.value.detail


def nested(levels, inner=1):
    for _ in range(levels):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize(
    ("value", "path", "reason", "place"),
    [
        ({"a": [1, {"b": float("nan")}]}, "properties", "properties: NaN or infinity", "properties.a.1.b is nan"),
        ({"a": Decimal("-Infinity")}, "properties", "properties: NaN or infinity", "properties.a is -Infinity"),
        ({"a": "x\0"}, "properties", "properties: NUL character", "properties.a holds a NUL"),
        ({"a\0": 1}, "properties", "properties: NUL character", "holds a NUL"),
        ({"a": {1: 2}}, "properties", "properties: key is not text", "properties.a.1 is not a text key"),
        ({"a": (1, b"x")}, "properties", "properties: not JSON", "properties.a.1 is a builtins.bytes"),
        ({"a": {1, 2}}, "", "not JSON", "a is a builtins.set"),
        ("x\0", "code", "code: NUL character", "code holds a NUL"),
    ],
)
def test_what_json_or_lagos_database_cannot_hold_is_refused_with_its_place(value, path, reason, place):
    told, detail = fault(value, path)
    assert told == reason
    assert place in detail


def test_nesting_is_taken_as_deep_as_lago_reads_it():
    refuse_unsendable(nested(DEEPEST), "properties")
    assert fault(nested(DEEPEST + 1))[0] == "properties: nested too deep"
    refuse_unsendable([[1]], "properties")
    assert fault(nested(DEEPEST - 1, [[1]]))[0] == "properties: nested too deep"


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        1,
        1.5,
        Decimal("1.50"),
        "x",
        datetime(2026, 1, 1, tzinfo=UTC),
        date(2026, 1, 1),
        time(1, 2),
        uuid.UUID(int=7),
        {"a": [1, (2, 3)]},
    ],
)
def test_what_has_a_json_form_passes(value):
    refuse_unsendable({"a": value}, "properties")
    assert encode({"a": value})


@pytest.mark.parametrize(
    ("value", "reason", "told"),
    [
        ({"a": "\ud800"}, "not UTF-8", "surrogates"),
        ({"a": object()}, "not JSON", "object"),
    ],
)
def test_what_cannot_be_encoded_is_the_records_fault(value, reason, told):
    with pytest.raises(InvalidRecord) as caught:
        encode(value)
    assert caught.value.reason == reason
    assert told in caught.value.detail
    assert len(caught.value.detail) <= 300


def test_a_payload_that_holds_itself_is_the_records_fault():
    loop = []
    loop.append(loop)
    with pytest.raises(InvalidRecord, match="not JSON"):
        encode(loop)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "code: missing"),
        ("", "code: missing"),
        (" \t", "code: blank"),
        ("a\0", "code: NUL character"),
        (True, "code: not text"),
        (1.0, "code: not text"),
        (b"a", "code: not text"),
        (["a"], "code: not text"),
        pytest.param(10**5000, "code: not text", id="huge"),
    ],
)
def test_what_is_no_identifier_is_refused_with_field_and_fault(value, reason):
    with pytest.raises(InvalidRecord) as caught:
        check_text({"code": value}, "code")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (" a ", " a "), (7, "7"), (0, "0"), (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001")],
)
def test_identifiers_are_text_as_lago_writes_it(value, text):
    assert check_text({"code": value}, "code") == text
    with pytest.raises(InvalidRecord, match="code: missing"):
        check_text({"kode": value}, "code")


def test_a_payload_may_be_nested_as_deep_as_lago_reads_and_no_level_deeper():
    assert DEEPEST == 90, "Lago's parser gives up at 100, and an event's properties begin at the fourth level"
    refuse_unsendable(nested(90), "properties")
    assert fault(nested(91))[0] == "properties: nested too deep"


def test_the_place_in_a_whole_payload_begins_with_its_field():
    assert fault({"a": {"b": float("nan")}}, "") == ("NaN or infinity", "a.b is nan, which is not a JSON number")


def test_a_number_that_cannot_be_written_is_a_fault_of_its_record():
    assert encode({"a": 2**70}) == b'{"a":1180591620717411303424}'
    with pytest.raises(InvalidRecord, match="not JSON"):
        encode({"a": 10**5_000})
