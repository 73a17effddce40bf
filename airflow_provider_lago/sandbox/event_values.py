"""The values of an event, read as Lago reads them."""

from __future__ import annotations

import re
from decimal import Decimal

from airflow_provider_lago.sandbox.answers import crash
from airflow_provider_lago.sandbox.expressions import plain
from airflow_provider_lago.sandbox.times import SECOND

# Ruby's BigDecimal(): spaces around, single underscores between digits, an exponent.
_BIG_DECIMAL = re.compile(r"\s*([+-]?)(\d+(?:_\d+)*)?(?:\.(\d+(?:_\d+)*)?)?(?:[eEdD]([+-]?\d{1,4}))?\s*", re.ASCII)
_LEADING_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)", re.ASCII)
_NOT_FINITE = frozenset({"NaN", "Infinity", "+Infinity", "-Infinity"})
# Postgres begins in 4713 BC; its upper end, year 294276, is about that of 64 bits of microseconds.
_EARLIEST, _LATEST = -210_866_803_200 * SECOND, 2**63 - 1


class InvalidFormat(ValueError):
    """The timestamp is no number."""


def scalar_text(value: object) -> str | None:
    """A scalar as Rails casts it to text; arrays and objects were never permitted and read as null."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    return None


def is_blank(value: object) -> bool:
    """Ruby's ``blank?`` for a scalar."""
    return value is None or value is False or (isinstance(value, str) and not value.strip())


def timestamp(value: object, now: int) -> int:
    """
    Microseconds of an event's timestamp.

    :param value: what the request holds; null, false, arrays and objects mean now.
    :raises InvalidFormat: for a text that is no number; an out-of-range number crashes Lago.
    """
    if value is None or value is False or isinstance(value, (dict, list)):
        return now
    if isinstance(value, int) and value is not True:
        micros = value * SECOND
    else:
        micros = _parsed(repr(value) if isinstance(value, float) else str(value))
    if not _EARLIEST <= micros <= _LATEST:
        raise crash()
    return micros


def _parsed(text: str) -> int:
    whole, _, fraction = text.partition(".")
    if len(whole) < 13 and text.isascii() and whole.isdigit() and fraction.isdigit():
        return int(whole) * SECOND + int((fraction + "00000")[:6])
    if text.strip() in _NOT_FINITE:
        raise crash()
    match = _BIG_DECIMAL.fullmatch(text)
    if match is None or not (match.group(2) or match.group(3)):
        raise InvalidFormat(text)
    sign, whole, fraction, exponent = match.groups()
    number = Decimal(f"{sign}{whole or '0'}.{fraction or '0'}e{exponent or '0'}".replace("_", ""))
    if abs(number.adjusted()) > 40 and number:
        if number.adjusted() > 0:
            raise crash()
        return 0
    return int((number * SECOND).to_integral_value(rounding="ROUND_FLOOR"))


def precise_amount(value: object) -> str | None:
    """``precise_total_amount_cents`` as Lago echoes it; a text that is no number counts as 0."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = str(value)
    if not text.strip():
        return None
    match = _LEADING_NUMBER.match(text)
    return plain(Decimal(match.group(1))) if match else "0.0"
