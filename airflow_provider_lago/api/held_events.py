"""Whether an event that Lago holds says the same as one that it called a duplicate. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.timestamps import InvalidTime, to_epoch_seconds

_MONEY = "precise_total_amount_cents"


def differences(payload: bytes, held: Mapping[str, Any]) -> list[str]:
    """
    Return the fields in which an event differs from the one that Lago holds; empty where they bill the same.

    Lago shows times to the millisecond and cuts the rest off, keeps the numbers of properties as JSON numbers, and
    shows money as decimal text (recordings of ``GET /events``). A property that is null says as little as none.

    :param payload: The event as it was sent.
    :param held: The event as Lago returns it, its fractions being decimals.
    :return: Such as ``timestamp`` and ``properties.gigabytes``.
    """
    event = exact_json.decode(payload)
    found = []
    if event["code"] != held.get("code"):
        found.append("code")
    if not _is_same_time(event["timestamp"], held.get("timestamp")):
        found.append("timestamp")
    if _money(event.get(_MONEY)) != _money(held.get(_MONEY)):
        found.append(_MONEY)
    return found + _changed(event.get("properties") or {}, held.get("properties") or {}, "properties")


def second_of(payload: bytes) -> tuple[str, str]:
    """Return the second in which an event lies, as two times for a filter of ``GET /events``."""
    begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(Decimal(exact_json.decode(payload)["timestamp"])))
    return _iso(begin), _iso(begin + timedelta(seconds=1))


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_same_time(sent: int | str, shown: Any) -> bool:
    try:
        held = _milliseconds(Decimal(to_epoch_seconds(shown)))
    except (InvalidTime, TypeError):
        return False
    # Lago read times as binary floats before 1.48.0: what it took for .123 then is .122999, and shown as .122.
    return held in (_milliseconds(Decimal(sent)), _milliseconds(Decimal(float(sent))))


def _milliseconds(seconds: Decimal) -> int:
    return int(seconds * 1000)


def _money(value: Any) -> Decimal:
    """Return an amount; none counts as zero, which Lago's ClickHouse store makes of it."""
    try:
        return Decimal(value or 0)
    except (InvalidOperation, TypeError, ValueError):
        return Decimal("NaN")


def _changed(ours: Any, theirs: Any, name: str) -> list[str]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        names = dict.fromkeys((*ours, *theirs))
        return [path for key in names for path in _changed(ours.get(key), theirs.get(key), f"{name}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [path for at, (one, other) in pairs for path in _changed(one, other, f"{name}[{at}]")]
    return [] if _same(ours, theirs) else [name]


def _same(one: Any, other: Any) -> bool:
    numbers = _is_number(one) + _is_number(other)
    if numbers == 2:
        return bool(one == other) or _is_same_float(one, other)
    if numbers == 1 and isinstance(one, str) != isinstance(other, str):
        # Lago reads the text 12 and the number 12 alike when it adds up, and a CSV knows only the text.
        return _text(one) == _text(other)
    return type(one) is type(other) and bool(one == other)


def _is_same_float(one: Any, other: Any) -> bool:
    """Tell whether two numbers with a fraction are the same to Lago, whose own JSON keeps the digits of a float."""
    if isinstance(one, int) and isinstance(other, int):
        return False
    try:
        return math.isfinite(float(one)) and float(one) == float(other)
    except OverflowError:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else exact_json.encode(value).decode()
