"""Which of Lago's events say the same as ours: by the forms in which it shows them."""

from decimal import Decimal

import pytest

from airflow_provider_lago.api.events import check_event
from airflow_provider_lago.api.held_events import differences, second_of

EVENT = {
    "transaction_id": "t",
    "external_subscription_id": "s",
    "code": "c",
    "timestamp": "1795360628.7667875",
    "precise_total_amount_cents": "12.50",
    "properties": {"n": 12, "price": Decimal("7.10"), "region": "eu", "tags": ["a", 1], "deep": {"x": 1}},
}
#: As recorded of GET /events: times are cut to the millisecond.
HELD = {
    "lago_id": "375abd4c",
    "transaction_id": "t",
    "code": "c",
    "timestamp": "2026-11-22T15:17:08.766Z",
    "precise_total_amount_cents": "12.5",
    "properties": {"n": 12, "price": Decimal("7.1"), "region": "eu", "tags": ["a", 1], "deep": {"x": 1}},
    "external_subscription_id": "s",
    "created_at": "2026-11-22T15:17:08Z",
}


def differing(ours=None, theirs=None, **changes):
    event = {**EVENT, **(ours or {})}
    return differences(check_event(event).payload, {**HELD, **(theirs or {}), **changes})


def properties(ours, theirs):
    return differing({"properties": ours}, {"properties": theirs})


def test_lagos_form_of_the_same_event_is_the_same():
    assert differing() == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"code": "d"}, "code"),
        ({"timestamp": "2026-11-22T15:17:08.767Z"}, "timestamp"),
        ({"timestamp": "2026-11-22T15:17:09.766Z"}, "timestamp"),
        ({"timestamp": None}, "timestamp"),
        ({"timestamp": "58862-09-17T21:50:12.000Z"}, "timestamp"),
        ({"precise_total_amount_cents": "12.51"}, "precise_total_amount_cents"),
        ({"precise_total_amount_cents": None}, "precise_total_amount_cents"),
        ({"precise_total_amount_cents": "?"}, "precise_total_amount_cents"),
    ],
)
def test_each_field_that_is_billed_counts(changes, field):
    assert differing(**changes) == [field]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"n": 10}, {"n": 12}),
        ({"n": 10}, {}),
        ({}, {"n": 10}),
        ({"n": "a"}, {"n": "b"}),
        ({"n": 1}, {"n": True}),
        ({"n": "007"}, {"n": 7}),
        ({"n": "12 "}, {"n": 12}),
        ({"n": None}, {"n": 0}),
        ({"n": False}, {"n": 0}),
        ({"n": True}, {"n": "true"}),
        ({"n": "7.10"}, {"n": Decimal("7.1")}),
        ({"n": [1, 2]}, {"n": [1]}),
        ({"n": {"m": 1}}, {"n": 1}),
        ({"n": Decimal("0.1")}, {"n": Decimal("0.2")}),
        ({"n": 9_007_199_254_740_993}, {"n": 9_007_199_254_740_992}),
        ({"n": 10**400}, {"n": 10**401}),
        ({"n": 10**400}, {"n": Decimal("0.5")}),
    ],
)
def test_a_property_with_another_value_is_a_difference(ours, theirs):
    assert properties(ours, theirs) == ["properties.n"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"n": 12}, {"n": Decimal("12.0")}),
        ({"n": 12}, {"n": "12"}),
        ({"n": "7.1"}, {"n": Decimal("7.1")}),
        ({"n": None}, {}),
        ({}, {"n": None}),
        ({"n": Decimal("12345678901234567890.123")}, {"n": Decimal("12345678901234567000.0")}),
        ({"n": Decimal("0.10000000000000000001")}, {"n": Decimal("0.1")}),
    ],
)
def test_another_form_of_the_same_value_is_none(ours, theirs):
    assert properties(ours, theirs) == []


@pytest.mark.parametrize(
    ("sent", "shown", "same"),
    [
        ("1700000000.123", "2023-11-14T22:13:20.123Z", True),
        ("1700000000.123", "2023-11-14T22:13:20.122Z", True),
        ("1700000000.123", "2023-11-14T22:13:20.124Z", False),
        ("1700000000.123", "2023-11-14T22:13:20.121Z", False),
        ("1700000000.125", "2023-11-14T22:13:20.124Z", False),  # a float holds it exactly
        ("1700000000.002", "2023-11-14T22:13:20.001Z", False),
        (1_700_000_000, "2023-11-14T22:13:19.999Z", False),
    ],
)
def test_a_time_that_lago_once_read_as_a_float_is_the_same(sent, shown, same):
    assert differing({"timestamp": sent}, {"timestamp": shown}) == ([] if same else ["timestamp"])


def test_numbers_beyond_all_floats_are_not_the_same_infinity():
    payload = b'{"code":"c","timestamp":1700000000,"properties":{"n":1e400}}'
    held = {"code": "c", "timestamp": "2023-11-14T22:13:20.000Z", "properties": {"n": Decimal("1e401")}}
    assert differences(payload, held) == ["properties.n"]


def test_nested_values_are_named_by_their_path():
    assert properties({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}) == ["properties.a.b[1].c"]


def test_no_properties_and_no_money_are_the_same_as_lagos_empty_ones():
    plain = {name: EVENT[name] for name in ("transaction_id", "external_subscription_id", "code", "timestamp")}
    held = {**HELD, "properties": {}, "precise_total_amount_cents": None}
    assert differences(check_event(plain).payload, held) == []
    assert differences(check_event(plain).payload, {**held, "precise_total_amount_cents": "0.0"}) == []


def test_the_second_of_an_event_holds_it():
    assert second_of(check_event(EVENT).payload) == ("2026-11-22T15:17:08Z", "2026-11-22T15:17:09Z")


@pytest.mark.parametrize("shown", [None, [], {}, True, "soon", "2026-11-22T15:17:09Z"])
def test_a_time_that_is_another_or_none_differs(shown):
    assert differing(timestamp=shown) == ["timestamp"]


@pytest.mark.parametrize(("ours", "theirs"), [([1, 2], [1]), ([1], [1, 2]), ([1, 2], [1, 3])])
def test_lists_differ_in_their_length_or_in_a_place(ours, theirs):
    found = differing({"properties": {"tags": ours}}, properties={"tags": theirs})
    assert found == (["properties.tags"] if len(ours) != len(theirs) else ["properties.tags[1]"])
