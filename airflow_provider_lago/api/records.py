"""What every payload must be before it is sent, whatever it is: identifiers, texts and values that JSON can hold."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from airflow_provider_lago.api import exact_json

#: Lago's JSON parser gives up at 100 levels; an event's properties begin at the fourth.
DEEPEST = 90

_PLAIN = (bool, type(None), datetime, date, time, uuid.UUID)


class InvalidRecord(ValueError):
    """
    A record that cannot become what Lago takes.

    :param reason: Field and fault without any value, e.g. ``timestamp: not a time``; few distinct ones, to be counted.
    :param detail: What was found and how to mend it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def check_text(event: Mapping[str, Any], field: str) -> str:
    """Return a mandatory identifier as text; whole numbers are written out as Lago itself does."""
    value = event.get(field)
    if type(value) is str and value.strip() and "\0" not in value:
        return value
    if value is None or value == "":
        raise InvalidRecord(
            f"{field}: missing", f"the record has no {field}: add it, or map a column to it with fields"
        )
    if isinstance(value, bool) or not isinstance(value, (str, int, uuid.UUID)):
        raise InvalidRecord(f"{field}: not text", f"a {type(value).__name__} is not an identifier: make it text")
    try:
        text = str(value)
    except ValueError:
        raise InvalidRecord(f"{field}: not text", "a number of thousands of digits is not an identifier") from None
    if not text.strip():
        raise InvalidRecord(f"{field}: blank", "only white space: Lago refuses it")
    if "\0" in text:
        raise InvalidRecord(f"{field}: NUL character", "Lago's database cannot store a NUL: remove it")
    return text


def encode(payload: Any) -> bytes:
    """
    Encode a payload as JSON, decimals digit by digit.

    :raises InvalidRecord: if a text cannot be written as UTF-8, or a value has no JSON form.
    """
    try:
        return exact_json.encode(payload)
    except UnicodeEncodeError as error:
        raise InvalidRecord("not UTF-8", f"a text holds bytes that are not UTF-8 ({error.reason})") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRecord("not JSON", str(error)[:200]) from None


def refuse_unsendable(value: Any, path: str) -> None:
    """
    Refuse what JSON or Lago's database cannot hold: NaN, infinities, NUL, bytes, other objects, too deep nesting.

    :param value: Any part of a payload.
    :param path: Where it stands, for the message; empty for a whole payload.
    :raises InvalidRecord: naming the path.
    """
    try:
        _walk(value, 0)
    except _Unsendable as fault:
        trail = "".join(reversed(fault.trail))
        reason = f"{path}: {fault.reason}" if path else fault.reason
        raise InvalidRecord(reason, f"{path}{trail} {fault.detail}".lstrip(".")) from None


class _Unsendable(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.trail: list[str] = []


def _walk(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is int or kind in _PLAIN:
        return
    if isinstance(value, str):
        if "\0" in value:
            raise _Unsendable("NUL character", "holds a NUL, which Lago's database cannot store: remove it")
    elif isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise _Unsendable("NaN or infinity", f"is {value}, which is not a JSON number")
    elif kind is dict or isinstance(value, Mapping):
        _walk_items(value.items(), depth, _walk_key)
    elif isinstance(value, (list, tuple)):
        _walk_items(enumerate(value), depth, str)
    elif not isinstance(value, (int, *_PLAIN)):
        raise _Unsendable("not JSON", f"is a {kind.__module__}.{kind.__qualname__}: convert it first")


def _walk_items(items: Iterable[tuple[Any, Any]], depth: int, read_key: Callable[[Any], str]) -> None:
    if depth >= DEEPEST:
        raise _Unsendable("nested too deep", f"is nested deeper than the {DEEPEST} levels that Lago reads")
    key: Any = None
    try:
        for key, item in items:
            read_key(key)
            _walk(item, depth + 1)
    except _Unsendable as fault:
        fault.trail.append(f".{key}")
        raise


def _walk_key(key: Any) -> str:
    if not isinstance(key, str):
        raise _Unsendable("key is not text", "is not a text key")
    if "\0" in key:
        raise _Unsendable("NUL character", "holds a NUL, which Lago's database cannot store: remove it")
    return key
