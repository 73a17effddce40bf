"""An event's time, as Lago takes it: seconds since the epoch, at most microseconds."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, tzinfo
from decimal import ROUND_DOWN, Decimal
from typing import Any

#: What one second is in each unit that an epoch number may be given in.
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

#: Lago accepts any number, also milliseconds as the year 55,000. Seconds outside of these two centuries' turns are
#: not usage but another unit, a year or a compact date, so they are refused: 2000-01-01 up to 2100-01-01, UTC.
EARLIEST = 946_684_800
LATEST = 4_102_444_800

#: Digits of the longest number that is looked at: more than nanoseconds need.
_LONGEST = 40

#: Bits of a whole number that no float can hold, nor a message should.
_LONGEST_INT = 1_000

#: Digits of the present seconds since the epoch.
_SECONDS_DIGITS = 10

#: Characters of a day in ISO 8601.
_DAY = len("2026-11-22")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_MICROSECOND = Decimal("0.000001")


class InvalidTime(ValueError):
    """A value that is not a time, with a text that says what is wrong and how to mend it."""


def to_epoch_seconds(value: Any, unit: str = "s", zone: tzinfo = UTC) -> int | str:
    """
    Return a time as Lago takes it: an int, or a decimal string where there is a fraction of a second.

    A fraction goes as text because Lago reads it as an exact decimal; digits below a microsecond, which Lago's
    column does not hold, are cut off. The same value always gives the same result: on Lago's ClickHouse store the
    time is part of an event's identity.

    :param value: A datetime or date, an ISO 8601 text, or an epoch number (int, float, Decimal or text).
    :param unit: Unit of epoch numbers: ``s``, ``ms``, ``us`` or ``ns``.
    :param zone: Time zone of datetimes and texts that name none.
    :raises InvalidTime: if it is not a time, or not one between 2000 and 2100.
    """
    if type(value) is int and unit == "s" and EARLIEST <= value < LATEST:
        return value
    if isinstance(value, str):
        if unit == "s" and len(value) == _SECONDS_DIGITS and value.isascii() and value.isdigit():
            seconds = int(value)  # CSV holds millions of them, and a Decimal takes ten times as long
            if EARLIEST <= seconds < LATEST:
                return seconds
        value = _read(value)
    if isinstance(value, datetime):
        return _of_datetime(value, zone)
    if isinstance(value, date):
        return _of_datetime(datetime.combine(value, time()), zone)
    return _of_number(value, unit)


def to_iso(value: Any, zone: tzinfo = UTC) -> str:
    """
    Return a time as Lago takes it for subscriptions: ISO 8601, and a day where only a day is given.

    :param value: A datetime or date, or an ISO 8601 text. Numbers are refused, as Lago refuses them.
    :param zone: Time zone of times that name none.
    :raises InvalidTime: if it is none of these.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = date.fromisoformat(text) if len(text) <= _DAY else datetime.fromisoformat(text)
        except ValueError:
            raise InvalidTime(f"{_short(text)} is not ISO 8601, such as 2026-11-22 or 2026-11-22T10:00:00Z") from None
    if isinstance(value, datetime):
        if value != value:  # noqa: PLR0124 - pandas' NaT, which is a datetime
            raise InvalidTime("NaT is no time: make it None, or leave it out")
        aware = value if value.utcoffset() is not None else value.replace(tzinfo=zone)
        try:
            return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except OverflowError:
            raise InvalidTime(f"{value.isoformat()} is before the year 1 or after 9999 in UTC") from None
    if isinstance(value, date):
        return value.isoformat()
    raise InvalidTime(f"a {type(value).__name__} is not a time: give a datetime, a date or ISO 8601 text")


def _read(text: str) -> Decimal | datetime:
    text = text.strip()
    if text[4:5] != "-" and _NUMBER.fullmatch(text):
        return Decimal(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidTime(f"{_short(text)} is neither ISO 8601 nor a number of seconds") from None


def _of_datetime(moment: datetime, zone: tzinfo) -> int | str:
    if moment.tzinfo is None or moment.utcoffset() is None:
        moment = moment.replace(tzinfo=zone)
    past = moment - _EPOCH
    seconds = past.days * 86_400 + past.seconds
    if not EARLIEST <= seconds < LATEST:
        raise InvalidTime(f"{moment.isoformat()} is not between the years 2000 and 2100")
    return f"{seconds}.{past.microseconds:06d}".rstrip("0") if past.microseconds else seconds


def _of_number(value: Any, unit: str) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise InvalidTime(f"a {type(value).__name__} is not a time")
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
        raise InvalidTime(f"a whole number of {value.bit_length()} bits is not a time")
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise InvalidTime(f"{value} is not a time")
    number = Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value)
    if number.adjusted() > _LONGEST:
        raise InvalidTime(f"a number of {number.adjusted()} digits is not a time")
    seconds = number / UNITS[unit]
    if not EARLIEST <= seconds < LATEST:
        raise InvalidTime(_explain(number, unit))
    whole = int(seconds)
    if seconds == whole:
        return whole
    cut = seconds.quantize(_MICROSECOND, rounding=ROUND_DOWN)
    return whole if cut == whole else f"{cut.normalize():f}"


def _explain(number: Decimal, unit: str) -> str:
    for other, factor in UNITS.items():
        if other != unit and EARLIEST <= number / factor < LATEST:
            return (
                f"{_short(str(number))} {unit} is not between the years 2000 and 2100; it looks like {other}: set "
                f"timestamp_unit={other!r}"
            )
    return f"{_short(str(number))} {unit} since 1970 is not between the years 2000 and 2100"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
