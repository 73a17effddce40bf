from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lago.api.timestamps import EARLIEST, LATEST, InvalidTime, to_epoch_seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_700_000_000, 1_700_000_000),
        ("1700000000", 1_700_000_000),
        (" 1700000000.500 ", "1700000000.5"),
        (1_700_000_000.0, 1_700_000_000),
        (1_700_000_000.123456, "1700000000.123456"),
        (Decimal("1700000000.10"), "1700000000.1"),
        ("1.7e9", 1_700_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T22:13:20.25+00:00", "1700000000.25"),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000),
        ("2023-11-14 22:13:20", 1_700_000_000),
        ("2023-11-14", 1_699_920_000),
        (date(2023, 11, 14), 1_699_920_000),
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), 1_700_000_000),
        (datetime(2023, 11, 14, 22, 13, 20, 500_000), "1700000000.5"),
        (datetime(2023, 11, 15, tzinfo=timezone(timedelta(hours=2))), 1_699_999_200),
        (pendulum.datetime(2023, 11, 14, 22, 13, 20), 1_700_000_000),
    ],
)
def test_every_usual_form_of_a_time_becomes_exact_epoch_seconds(value, expected):
    assert to_epoch_seconds(value) == expected


@pytest.mark.parametrize("seconds", [EARLIEST, 1_234_567_890, LATEST - 1])
def test_ten_digits_are_the_seconds_that_they_are_in_any_other_form(seconds):
    assert to_epoch_seconds(f"{seconds:010d}") == to_epoch_seconds(f"{seconds}.0") == seconds


@pytest.mark.parametrize("text", [f"{EARLIEST - 1:010d}", str(LATEST), "٣٣٣٣٣٣٣٣٣٣", "170000000²"])
def test_ten_digits_outside_of_the_window_or_of_ascii_are_refused(text):
    with pytest.raises(InvalidTime):
        to_epoch_seconds(text)


def test_digits_below_a_microsecond_are_cut_off_not_rounded_into_the_next():
    assert to_epoch_seconds("1700000000.9999999") == "1700000000.999999"
    assert to_epoch_seconds(Decimal("1700000000.0000009")) == 1_700_000_000


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_700_000_000_123, "ms", "1700000000.123"),
        (1_700_000_000_000, "ms", 1_700_000_000),
        ("1700000000123456", "us", "1700000000.123456"),
        (1_700_000_000_123_456_789, "ns", "1700000000.123456"),
    ],
)
def test_other_units_are_taken_when_they_are_named(value, unit, expected):
    assert to_epoch_seconds(value, unit) == expected


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_seconds_are_no_other_unit(unit):
    with pytest.raises(InvalidTime, match="looks like s: set timestamp_unit='s'"):
        to_epoch_seconds(1_700_000_000, unit)


@pytest.mark.parametrize("value", [EARLIEST, LATEST - 1])
def test_the_first_and_the_last_second_are_taken_in_every_form(value):
    moment = datetime.fromtimestamp(value, UTC)
    forms = [value, str(value), float(value), Decimal(value), moment, moment.isoformat()]
    assert {to_epoch_seconds(form) for form in forms} == {value}


def test_a_time_without_zone_is_in_the_given_zone():
    assert to_epoch_seconds("2023-11-14T17:13:20", zone=ZoneInfo("America/New_York")) == 1_700_000_000


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1_700_000_000_123, "looks like ms"),
        ("1700000000123456", "looks like us"),
        (1_700_000_000_123_456_789, "looks like ns"),
        (-5, "2000 and 2100"),
        (0, "2000 and 2100"),
        ("20241210", "2000 and 2100"),
        (4_102_444_800, "2000 and 2100"),
        (1e30, "2000 and 2100"),
        (946_684_799, r"2000 and 2100$"),
        (946_684_800_000, "looks like ms"),
        (4_102_444_800_000 - 1, "looks like ms"),
        (4_102_444_800_000, r"2000 and 2100$"),
        (Decimal("1e41"), "a number of 41 digits"),
        (Decimal("1e40"), r"2000 and 2100$"),
        (float("nan"), "not a time"),
        (float("inf"), "not a time"),
        (Decimal("NaN"), "not a time"),
        ("NaN", "neither ISO 8601 nor"),
        ("Infinity", "neither ISO 8601 nor"),
        ("yesterday", "neither ISO 8601 nor"),
        ("", "neither ISO 8601 nor"),
        ("0x10", "neither ISO 8601 nor"),
        ("1_700_000_000", "neither ISO 8601 nor"),
        (True, "a bool is not a time"),
        ([1], "a list is not a time"),
        ("9999-12-31", "2000 and 2100"),
        (datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), "2000 and 2100"),
    ],
)
def test_what_lago_would_misread_is_refused_with_the_fix(value, says):
    with pytest.raises(InvalidTime, match=says):
        to_epoch_seconds(value)


def test_a_long_text_is_not_repeated_in_the_message():
    with pytest.raises(InvalidTime) as caught:
        to_epoch_seconds("x" * 10_000)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(10**400, id="400 digits"),
        pytest.param(-(10**400), id="minus 400 digits"),
        pytest.param(10**5_000, id="5000 digits"),
        Decimal("sNaN"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        Decimal("1E+5000"),
    ],
)
def test_a_number_that_no_float_can_hold_is_no_time(value):
    with pytest.raises(InvalidTime, match="is not a time"):
        to_epoch_seconds(value)


@given(st.integers(EARLIEST * 1_000_000, LATEST * 1_000_000 - 1))
def test_a_moment_gives_the_same_seconds_in_every_form(microseconds):
    exact = Decimal(microseconds) / 1_000_000
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    forms = [microseconds, str(microseconds)]
    results = {str(to_epoch_seconds(form, "us")) for form in forms}
    results |= {str(to_epoch_seconds(form)) for form in (moment, moment.isoformat(), exact, str(exact))}
    assert len(results) == 1
    assert Decimal(results.pop()) == exact
