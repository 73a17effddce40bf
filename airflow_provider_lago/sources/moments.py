"""Counts of nanoseconds since 1970 -> times, without the loss of a digit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1)
EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)

_BILLION = 1_000_000_000


def of_microseconds(count: int, *, is_utc: bool) -> datetime:
    """
    Return a datetime, aware where the count is of UTC.

    :raises OverflowError: if it is before the year 1 or after 9999.
    """
    return (EPOCH_UTC if is_utc else EPOCH) + timedelta(0, 0, count)


def of_nanoseconds(count: int, *, is_utc: bool) -> datetime | str:
    """
    Return a datetime; ISO 8601 text where there are digits below a microsecond, which a datetime does not hold.

    :raises OverflowError: if it is before the year 1 or after 9999.
    """
    if not count % 1_000:
        return of_microseconds(count // 1_000, is_utc=is_utc)
    seconds, rest = divmod(count, _BILLION)
    text = f"{(EPOCH + timedelta(0, seconds)).isoformat()}.{rest:09d}"
    return f"{text}Z" if is_utc else text
