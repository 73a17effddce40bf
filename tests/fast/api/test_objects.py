import enum
import math
from decimal import Decimal

import pytest

from airflow_provider_lago.api.objects import (
    LARGEST_WHOLE,
    as_choice,
    as_flag,
    as_objects,
    as_text,
    as_texts,
    as_whole,
    check_id,
    check_known,
    put,
)
from airflow_provider_lago.api.records import InvalidRecord


class Tier(str, enum.Enum):  # noqa: UP042 - what users have
    GOLD = "gold"


HUGE = 10**5000


@pytest.mark.parametrize(
    "value", [True, 1.5, Decimal("1.5"), b"x", ["x"], {"x": 1}, math.nan, pytest.param(HUGE, id="huge"), "x" * 256]
)
def test_what_is_no_text_for_lago_is_refused_with_the_fields_name(value):
    with pytest.raises(InvalidRecord, match="zipcode"):
        as_text(value, "zipcode")


def test_a_text_is_as_long_as_lagos_column_and_no_longer():
    assert as_text("x" * 255, "name") == "x" * 255
    assert as_text("x" * 1000, "url", None) == "x" * 1000
    for value in ("x" * 256, HUGE):
        with pytest.raises(InvalidRecord) as caught:
            as_text(value, "name")
        assert caught.value.reason == "name: too long"


def test_a_data_frames_nan_is_named_as_what_it_is():
    with pytest.raises(InvalidRecord, match="make it None"):
        as_text(math.nan, "name")


@pytest.mark.parametrize(("value", "text"), [(75001, "75001"), ("", ""), ("é", "é"), (Tier.GOLD, "gold")])
def test_texts_and_whole_numbers_are_sent_as_plain_text(value, text):
    assert as_text(value, "zipcode") == text
    assert type(as_text(value, "zipcode")) is str


@pytest.mark.parametrize(
    "value",
    [
        True,
        -1,
        "-1",
        1.5,
        "1.5",
        "",
        None,
        "x",
        b"3",
        [3],
        math.nan,
        math.inf,
        Decimal("NaN"),
        Decimal("1e999999999"),
        pytest.param(HUGE, id="huge"),
        LARGEST_WHOLE + 1,
        "9" * 5000,
        "1_0",
        "+3",
        {},
    ],
)
def test_what_is_no_whole_number_that_lago_can_hold_is_refused_at_once(value):
    with pytest.raises(InvalidRecord, match="net_payment_term"):
        as_whole(value, "net_payment_term")


@pytest.mark.parametrize(("value", "number"), [(0, 0), ("30", 30), (" 30 ", 30), (3.0, 3), (Decimal("3.0"), 3)])
def test_whole_numbers_come_also_as_text_and_decimals(value, number):
    assert as_whole(value, "n") == number
    assert type(as_whole(value, "n")) is int


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        *((value, True) for value in (True, 1, "1", "Yes", "on", "TRUE", " true ")),
        *((value, False) for value in (False, 0, "0", "no", "Off", " false ")),
    ],
)
def test_flags_come_also_as_text(value, flag):
    assert as_flag(value, "sync") is flag


@pytest.mark.parametrize("value", ["", "x", None, 2, [], pytest.param(HUGE, id="huge")])
def test_what_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(InvalidRecord, match="sync"):
        as_flag(value, "sync")


@pytest.mark.parametrize("value", ["Gold", 1, None, [], {}, "x" * 10_000])
def test_a_choice_names_the_choices_and_not_a_long_value(value):
    with pytest.raises(InvalidRecord, match="gold, silver") as caught:
        as_choice(value, "tier", ("gold", "silver"))
    assert len(str(caught.value)) < 200


def test_a_list_of_codes_comes_also_from_a_cell():
    assert as_texts("a, b,,", "tax_codes") == ["a", "b"]
    assert as_texts(("a", 5), "tax_codes") == ["a", "5"]


@pytest.mark.parametrize("value", [{"a": 1}, 5, [None], [{"a": 1}], [["a"]], True])
def test_a_list_of_codes_holds_nothing_else(value):
    with pytest.raises(InvalidRecord, match="tax_codes"):
        as_texts(value, "tax_codes")


@pytest.mark.parametrize("value", ["a,b", [1], {"a": 1}, ["x"], None])
def test_a_list_of_objects_holds_nothing_else(value):
    with pytest.raises(InvalidRecord, match="links"):
        as_objects(value, "links")


@pytest.mark.parametrize(
    "value", [" a", "a\n", "a\tb", "", None, True, 1.5, [], {}, b"a", "a\0", pytest.param(HUGE, id="huge")]
)
def test_an_id_that_lago_would_change_or_a_path_cannot_hold_is_refused(value):
    with pytest.raises(InvalidRecord, match="external_id"):
        check_id({"external_id": value}, "external_id")


def test_a_number_is_an_id():
    assert check_id({"external_id": 7}, "external_id") == "7"


class TestPut:
    def test_a_value_is_set_only_where_there_is_none(self):
        payload = {"a": 1, "b": None}
        put(payload, "a", 2)
        put(payload, "b", 2)
        put(payload, "c.d", 2)
        assert payload == {"a": 1, "b": 2, "c": {"d": 2}}

    def test_what_is_no_object_is_not_replaced_by_one(self):
        payload = {"metadata": [{"key": "tier", "value": "gold"}]}
        put(payload, "metadata.old", None)
        assert payload == {"metadata": [{"key": "tier", "value": "gold"}]}

    def test_the_users_own_objects_stay_as_they_are(self):
        mine = {"city": "Rome"}
        payload = {"shipping_address": mine}
        put(payload, "shipping_address.state", None)
        assert mine == {"city": "Rome"}


def test_the_first_five_unknown_fields_are_named_with_what_they_are_nested_in():
    with pytest.raises(InvalidRecord) as caught:
        check_known({f"x{n}": 1 for n in range(9)} | {"a": 1}, ("a",), "part.")
    assert caught.value.reason == "unknown field"
    assert "drop 'part.x0', 'part.x1', 'part.x2', 'part.x3', 'part.x4': map" in caught.value.detail
    check_known({"a": 1}, ("a", "b"))


def test_the_name_of_a_list_says_that_one_of_its_elements_is_meant():
    with pytest.raises(InvalidRecord) as caught:
        as_texts([None], "tax_codes")
    assert caught.value.reason == "tax_codes[]: not text"
    with pytest.raises(InvalidRecord) as caught:
        as_objects([7], "links")
    assert caught.value.reason == "links[]: not an object"
