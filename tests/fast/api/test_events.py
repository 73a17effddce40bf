import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lago.api.events import check_event, check_ready_line
from airflow_provider_lago.api.records import InvalidRecord

GOOD = {
    "transaction_id": "t1",
    "external_subscription_id": "s1",
    "code": "calls",
    "timestamp": 1_700_000_000,
    "properties": {"bytes": 12},
}


def sent(event, **settings):
    return json.loads(check_event(event, **settings).payload, parse_float=Decimal)


def line(**changes):
    return json.dumps({**GOOD, **changes}).encode()


def test_a_good_event_is_sent_as_it_is():
    assert sent(GOOD) == GOOD


def test_identifiers_that_are_whole_numbers_or_uuids_are_written_out():
    some = uuid.uuid4()
    event = sent({**GOOD, "transaction_id": some, "external_subscription_id": 42, "code": 7})
    assert (event["transaction_id"], event["external_subscription_id"], event["code"]) == (str(some), "42", "7")


def test_padding_of_a_transaction_id_is_part_of_it_as_for_lago():
    assert sent({**GOOD, "transaction_id": " t "})["transaction_id"] == " t "


@pytest.mark.parametrize(
    ("money", "expected"),
    [
        ("12.50", "12.50"),
        (12, "12"),
        (Decimal("0.000000000000001"), "0.000000000000001"),
        ("-3", "-3"),
        (Decimal("1E+3"), "1000"),
        (10**24, "1" + "0" * 24),
        (Decimal("9" * 25 + ".1"), "9" * 25 + ".1"),
    ],
)
def test_money_is_sent_as_an_exact_decimal_text(money, expected):
    assert sent({**GOOD, "precise_total_amount_cents": money})["precise_total_amount_cents"] == expected


def test_decimals_in_properties_keep_every_digit():
    payload = check_event({**GOOD, "properties": {"x": Decimal("0.10000000000000000001")}}).payload
    assert b'{"x":0.10000000000000000001}' in payload


def test_absent_optional_fields_stay_absent():
    minimal = {name: GOOD[name] for name in ("transaction_id", "external_subscription_id", "code", "timestamp")}
    assert sent({**minimal, "properties": None, "precise_total_amount_cents": None}) == minimal


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"transaction_id": None}, "transaction_id: missing", "map a column"),
        ({"transaction_id": "  "}, "transaction_id: blank", "white space"),
        ({"transaction_id": ["t"]}, "transaction_id: not text", "list"),
        ({"transaction_id": 1.0}, "transaction_id: not text", "float"),
        ({"transaction_id": True}, "transaction_id: not text", "bool"),
        ({"transaction_id": "a\0b"}, "transaction_id: NUL character", "remove"),
        ({"code": ""}, "code: missing", "map a column"),
        ({"external_subscription_id": None}, "external_subscription_id: missing", "map a column"),
        ({"external_subscription_id": "s1 "}, "external_subscription_id: surrounding space", "never be billed"),
        ({"timestamp": None}, "timestamp: missing", "moment of arrival"),
        ({"timestamp": ""}, "timestamp: missing", "moment of arrival"),
        ({"timestamp": 1_700_000_000_123}, "timestamp: not a time", "timestamp_unit='ms'"),
        ({"precise_total_amount_cents": 12.5}, "precise_total_amount_cents: float", "Decimal"),
        ({"precise_total_amount_cents": "abc"}, "precise_total_amount_cents: not a decimal", "1234.56"),
        ({"precise_total_amount_cents": "1e3"}, "precise_total_amount_cents: not a decimal", "1234.56"),
        ({"precise_total_amount_cents": ""}, "precise_total_amount_cents: not a decimal", "1234.56"),
        ({"precise_total_amount_cents": True}, "precise_total_amount_cents: not a decimal", "1234.56"),
        ({"precise_total_amount_cents": 10**25}, "precise_total_amount_cents: not a decimal", "25 digits"),
        pytest.param(
            {"precise_total_amount_cents": 10**5000}, "precise_total_amount_cents: not a decimal", "1234.56", id="huge"
        ),
        ({"precise_total_amount_cents": Decimal("1e999999")}, "precise_total_amount_cents: not a decimal", "1234.56"),
        ({"precise_total_amount_cents": [1]}, "precise_total_amount_cents: not a decimal", "1234.56"),
        ({"precise_total_amount_cents": Decimal("NaN")}, "precise_total_amount_cents: not a decimal", "1234.56"),
        ({"precise_total_amount_cents": "0." + "1" * 16}, "precise_total_amount_cents: not a decimal", "15 after"),
        ({"precise_total_amount_cents": "1" * 26}, "precise_total_amount_cents: not a decimal", "25 digits"),
        ({"properties": "x"}, "properties: not an object", "drop a str"),
        ({"properties": [1]}, "properties: not an object", "drop a list"),
        ({"properties": {"a": [{"b": float("nan")}]}}, "properties: NaN or infinity", "properties.a.0.b is nan"),
        ({"properties": {"a": Decimal("Infinity")}}, "properties: NaN or infinity", "properties.a"),
        ({"properties": {"a": {"b": "x\0"}}}, "properties: NUL character", "properties.a.b"),
        ({"properties": {"a\0": 1}}, "properties: NUL character", "properties.a"),
        ({"properties": {1: 1}}, "properties: key is not text", "properties.1"),
        ({"properties": {"a": {1, 2}}}, "properties: not JSON", "properties.a is a builtins.set"),
        ({"properties": {"a": b"x"}}, "properties: not JSON", "builtins.bytes"),
        ({"properties": {"a": "\ud800"}}, "not UTF-8", "UTF-8"),
        ({"amount": 3}, "unknown field", "silently drop 'amount'"),
        ({"external_customer_id": "c"}, "unknown field", "external_customer_id"),
    ],
)
def test_what_lago_would_drop_change_or_never_bill_is_refused(change, reason, detail):
    with pytest.raises(InvalidRecord) as caught:
        check_event({**GOOD, **change})
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_nesting_beyond_what_lago_parses_is_refused():
    deep = {}
    for _ in range(95):
        deep = {"a": deep}
    with pytest.raises(InvalidRecord, match="nested too deep"):
        check_event({**GOOD, "properties": deep})


def test_a_json_text_that_is_an_event_is_sent_byte_for_byte():
    text = b'{"code":"c", "transaction_id":"t","external_subscription_id":"s","timestamp":1700000000,"properties": {"a":1.10}}'
    assert check_ready_line(text).payload == text


@pytest.mark.parametrize(
    "changes",
    [
        {"timestamp": 946_684_800},
        {"timestamp": 4_102_444_799},
        {"transaction_id": " t"},
        {"precise_total_amount_cents": "12.50"},
        {"precise_total_amount_cents": None},
        {"properties": {"a": [{"b": None}, 1, True, "x"]}},
        {"properties": {"a": json.loads("[" * 88 + "]" * 88)}},
    ],
)
def test_what_is_usual_takes_the_short_road(changes):
    text = line(**changes)
    ready = check_ready_line(text)
    assert ready is not None
    assert (ready.transaction_id, ready.external_subscription_id) == (changes.get("transaction_id", "t1"), "s1")
    assert check_event(json.loads(text)).transaction_id == ready.transaction_id


@pytest.mark.parametrize("properties", [{"a": "x\0"}, {"a": 1, "b\0": 1}, {"a": "x", "b": "\0"}])
def test_a_nul_is_found_also_where_all_else_is_flat_and_plain(properties):
    with pytest.raises(InvalidRecord, match="NUL character"):
        check_event({**GOOD, "properties": properties})


def test_properties_may_be_any_mapping():
    assert sent({**GOOD, "properties": MappingProxyType({"a": 1})})["properties"] == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        line(timestamp="1700000000"),
        line(timestamp=1_700_000_000.5),
        line(properties={"a": 0}).replace(b"0}", b"1e400}"),
        b'{"a":' * 100_000,
        line(timestamp=1_700_000_000_123),
        line(transaction_id=5),
        line(transaction_id=" "),
        line(external_subscription_id=" s"),
        line(external_subscription_id=""),
        line(timestamp=946_684_799),
        line(timestamp=4_102_444_800),
        line(properties={"a": "?"}).replace(b'"?"', b"[" * 89 + b"]" * 89),
        line(properties={"a": "?"}).replace(b'"?"', b'{"a":[' * 45 + b"]}" * 45),
        line(code=""),
        line(properties=[1]),
        line(properties=None),
        line(properties={"a": "x\0"}),
        line(properties={"a": "é"}),
        json.dumps({**GOOD, "properties": {"a": "é"}}, ensure_ascii=False).encode(),
        line(precise_total_amount_cents=5),
        line(precise_total_amount_cents="x"),
        line(other=1),
        b'{"transaction_id": "\xff"}',
        b"not json",
        b"[]",
        line() + b"x",
    ],
)
def test_whatever_is_unusual_takes_the_thorough_road(text):
    assert check_ready_line(text) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
IDS = st.text(max_size=6) | st.integers() | st.none()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "transaction_id": IDS,
            "external_subscription_id": IDS,
            "code": IDS,
            "timestamp": st.integers(-(10**13), 10**13) | st.floats() | st.text(max_size=12) | st.none(),
            "precise_total_amount_cents": st.text("0123456789.-e", max_size=8) | st.none(),
            "properties": st.dictionaries(st.text(max_size=5), JSON, max_size=3) | JSON,
        },
    )
)
def test_the_short_road_lets_nothing_through_that_the_thorough_one_refuses(event):
    text = json.dumps(event).encode()
    ready = check_ready_line(text)
    if ready is not None:
        thorough = check_event(json.loads(text))
        assert (ready.transaction_id, ready.external_subscription_id) == (
            thorough.transaction_id,
            thorough.external_subscription_id,
        )
        ours, theirs = json.loads(ready.payload), json.loads(thorough.payload)
        assert Decimal(str(ours.pop("timestamp"))) - Decimal(str(theirs.pop("timestamp"))) < Decimal("0.000001")
        assert {k: v for k, v in ours.items() if v is not None} == theirs


def test_the_time_of_an_event_does_not_depend_on_when_it_is_checked():
    event = {**GOOD, "timestamp": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}
    assert check_event(event).payload == check_event(dict(event)).payload


@pytest.mark.parametrize("number", ["1e308", "1e309", "-1e400", "NaN", "sNaN", "Infinity"])
def test_a_decimal_that_no_float_can_hold_is_judged_the_same_with_and_without_something_nested_beside_it(number):
    def judged(properties):
        event = {"transaction_id": "t", "external_subscription_id": "s", "code": "c", "timestamp": 1_790_000_000}
        try:
            check_event({**event, "properties": properties})
        except ValueError as error:
            return str(error)
        return "fine"

    assert judged({"n": Decimal(number)}) == judged({"n": Decimal(number), "o": {}})
