"""Instants as integer microseconds since the epoch: to and from the texts Lago uses."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

Clock = Callable[[], float]

SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The Gregorian calendar repeats every 400 years. Lago takes milliseconds for seconds and so writes years
# far beyond 9999, where Python's datetime ends.
_CYCLE_YEARS, _CYCLE_SECONDS = 400, 146_097 * 86_400

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?\d\d)?)?"
)


def instant(seconds: float) -> int:
    """Microseconds of a clock's reading."""
    return round(seconds * SECOND)


@lru_cache(maxsize=8192)
def _to_the_second(seconds: int) -> str:
    cycles = 0
    if not -62_135_596_800 <= seconds < 253_402_300_800:
        cycles = (seconds // _CYCLE_SECONDS) - 1
        seconds -= cycles * _CYCLE_SECONDS
    moment = _EPOCH + timedelta(seconds=seconds)
    year = moment.year + cycles * _CYCLE_YEARS
    return f"{year:04d}{moment.strftime('-%m-%dT%H:%M:%S')}"


def iso(micros: int) -> str:
    """Lago's usual form, to the second: ``2026-11-22T15:17:05Z``."""
    return _to_the_second(micros // SECOND) + "Z"


def iso_ms(micros: int) -> str:
    """The form of event timestamps and ``started_at``, cut (not rounded) to the millisecond."""
    return f"{_to_the_second(micros // SECOND)}.{micros % SECOND // 1000:03d}Z"


def maybe_iso(micros: int | None) -> str | None:
    """:func:`iso`, or None for no instant."""
    return None if micros is None else iso(micros)


def parse_iso(text: object) -> int | None:
    """Read a strict ISO 8601 date or datetime; None for anything else (numbers, spaces, other orders)."""
    match = _ISO.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
        if zone and zone != "Z":
            sign = -1 if zone[0] == "-" else 1
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
            moment = moment.replace(tzinfo=timezone(sign * offset))
    except ValueError:
        return None
    return of_datetime(moment) + int((fraction or "0").ljust(6, "0")[:6])


def of_datetime(moment: datetime) -> int:
    """Microseconds of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_datetime(micros: int) -> datetime:
    """The UTC datetime of an instant between the years 1 and 9999."""
    return _EPOCH + timedelta(microseconds=micros)


def day_of(micros: int) -> date:
    """The UTC day of an instant."""
    return to_datetime(micros).date()
