"""
What a usage event must be before it is sent.

Lago's own checks are few: it answers 200 to events that it will never bill (no subscription, a time in the year
55,000, properties that are not an object, money that is not a number). What it would lose, change or let time out in
silence is refused here.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.timestamps import EARLIEST, LATEST, InvalidTime, to_epoch_seconds

#: The six fields of an event; Lago drops any other key without a word.
EVENT_FIELDS = (
    "transaction_id",
    "external_subscription_id",
    "code",
    "timestamp",
    "precise_total_amount_cents",
    "properties",
)

_KNOWN = frozenset(EVENT_FIELDS)

#: Lago's column for money is decimal(40,15): what is longer is rounded or makes the whole batch fail.
_MONEY = re.compile(r"-?[0-9]{1,25}(\.[0-9]{1,15})?")

#: More than its digits before and after the point: numbers beyond it are not even written out.
_MONEY_DIGITS = 50

#: Lago's JSON parser gives up at 100 levels; an event's properties begin at the fourth.
_DEEPEST = 90

_PLAIN = (bool, type(None), datetime, date, time, uuid.UUID)

_BACKSLASH = ord("\\")


class InvalidEvent(ValueError):
    """
    A record that is not an event Lago would bill.

    :param reason: Field and fault without any value, e.g. ``timestamp: not a time``; few distinct ones, to be counted.
    :param detail: What was found and how to mend it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Checked(msgspec.Struct, frozen=True, gc=False):
    """
    An event that may be sent.

    :param transaction_id: Its id.
    :param external_subscription_id: The subscription that it is billed to.
    :param payload: The event as JSON, as it goes into a request.
    """

    transaction_id: str
    external_subscription_id: str
    payload: bytes


class _ReadyEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    transaction_id: str
    external_subscription_id: str
    code: str
    timestamp: int
    precise_total_amount_cents: str | None = None
    properties: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


_decode_ready = msgspec.json.Decoder(_ReadyEvent).decode


def check_ready_line(line: bytes) -> Checked | None:
    """
    Return the event that a JSON text already is, byte for byte; None where it wants :func:`check_event`.

    Decoding into the typed event is the check, and the text itself the payload. All that is unusual (escapes, which
    may hide a NUL; text that is not ASCII; padding; deep nesting; other types) takes the thorough road.

    :param line: One JSON text without surrounding white space.
    """
    if _BACKSLASH in line or not line.isascii():
        return None
    if line.count(b"{") + line.count(b"[") > _DEEPEST:
        return None
    try:
        event = _decode_ready(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    transaction_id, subscription, code = event.transaction_id, event.external_subscription_id, event.code
    money = event.precise_total_amount_cents
    if (
        EARLIEST <= event.timestamp < LATEST
        and transaction_id.strip()
        and subscription
        and subscription.strip() == subscription
        and code.strip()
        and (money is None or _MONEY.fullmatch(money))
    ):
        return Checked(transaction_id, subscription, line)
    return None


def check_event(event: Mapping[str, Any], unit: str = "s", zone: tzinfo = UTC) -> Checked:
    """
    Check an event and return it as it is sent.

    :param event: The event, with Lago's field names.
    :param unit: Unit of epoch numbers in ``timestamp``: ``s``, ``ms``, ``us`` or ``ns``.
    :param zone: Time zone of timestamps that name none.
    :raises InvalidEvent: if Lago would refuse it, change it, or never bill it.
    """
    if not _KNOWN.issuperset(event):
        unknown = [str(name) for name in event if name not in _KNOWN]
        raise InvalidEvent(
            "unknown field",
            f"Lago would silently drop {', '.join(map(repr, unknown[:5]))}: nest it with properties=[...] "
            "or leave it out with exclude=[...]",
        )
    checked: dict[str, Any] = {
        "transaction_id": check_text(event, "transaction_id"),
        "external_subscription_id": _check_subscription(event),
        "code": check_text(event, "code"),
        "timestamp": _check_time(event.get("timestamp"), unit, zone),
    }
    money = event.get("precise_total_amount_cents")
    if money is not None:
        checked["precise_total_amount_cents"] = _check_money(money)
    properties = event.get("properties")
    if properties is not None:
        checked["properties"] = _check_properties(properties)
    return Checked(checked["transaction_id"], checked["external_subscription_id"], encode(checked))


def check_text(event: Mapping[str, Any], field: str) -> str:
    """Return a mandatory identifier as text; whole numbers are written out as Lago itself does."""
    value = event.get(field)
    if type(value) is str and value.strip() and "\0" not in value:
        return value
    if value is None or value == "":
        raise InvalidEvent(f"{field}: missing", f"give the record a {field}, or map a column with fields")
    if isinstance(value, bool) or not isinstance(value, (str, int, uuid.UUID)):
        raise InvalidEvent(f"{field}: not text", f"a {type(value).__name__} is not an identifier: make it text")
    try:
        text = str(value)
    except ValueError:
        raise InvalidEvent(f"{field}: not text", "a number of thousands of digits is not an identifier") from None
    if not text.strip():
        raise InvalidEvent(f"{field}: blank", "only white space: Lago refuses it")
    if "\0" in text:
        raise InvalidEvent(f"{field}: NUL character", "Lago's database cannot store a NUL: remove it")
    return text


def encode(payload: Any) -> bytes:
    """
    Encode a payload as JSON, decimals digit by digit.

    :raises InvalidEvent: if a text cannot be written as UTF-8, or a value has no JSON form.
    """
    try:
        return exact_json.encode(payload)
    except UnicodeEncodeError as error:
        raise InvalidEvent("not UTF-8", f"a text holds bytes that are not UTF-8 ({error.reason})") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidEvent("not JSON", str(error)[:200]) from None


def _check_subscription(event: Mapping[str, Any]) -> str:
    text = check_text(event, "external_subscription_id")
    if text.strip() != text:
        # Lago strips the ids of subscriptions when it creates them, but not those of events.
        raise InvalidEvent(
            "external_subscription_id: surrounding space",
            "no subscription can match it, it would never be billed",
        )
    return text


def _check_time(value: Any, unit: str, zone: tzinfo) -> int | str:
    if value is None or value == "":
        raise InvalidEvent(
            "timestamp: missing", "Lago would take the moment of arrival, and bill a repeated delivery twice"
        )
    try:
        return to_epoch_seconds(value, unit, zone)
    except InvalidTime as error:
        raise InvalidEvent("timestamp: not a time", str(error)) from None


def _check_money(value: Any) -> str:
    if isinstance(value, float):
        raise InvalidEvent(
            "precise_total_amount_cents: float", "binary floats are not exact: give text, an int or a Decimal"
        )
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _MONEY_DIGITS:
        value = f"{value:f}"
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 4 * _MONEY_DIGITS:
        value = str(value)
    if not isinstance(value, str) or not _MONEY.fullmatch(value):
        # Lago would turn it into 0 without an error.
        raise InvalidEvent(
            "precise_total_amount_cents: not a decimal",
            "write it like 1234.56, with up to 25 digits before and 15 after the point",
        )
    return value


def _check_properties(properties: Any) -> Mapping[str, Any]:
    if type(properties) is not dict and not isinstance(properties, Mapping):
        raise InvalidEvent(
            "properties: not an object",
            f"Lago would drop a {type(properties).__name__} and see no properties",
        )
    if not _is_flat_and_plain(properties):
        refuse_unsendable(properties, "properties")
    return properties


def _is_flat_and_plain(properties: Mapping[Any, Any]) -> bool:
    """Tell at a glance that properties are texts and whole numbers, as nearly all are."""
    for name, value in properties.items():
        kind = type(value)
        if type(name) is not str or "\0" in name or not (kind is int or (kind is str and "\0" not in value)):
            return False
    return True


def refuse_unsendable(value: Any, path: str) -> None:
    """
    Refuse what JSON or Lago's database cannot hold: NaN, infinities, NUL, bytes, other objects, too deep nesting.

    :param value: Any part of a payload.
    :param path: Where it stands, for the message.
    :raises InvalidEvent: naming the path.
    """
    try:
        _walk(value, 0)
    except _Unsendable as fault:
        trail = "".join(reversed(fault.trail))
        raise InvalidEvent(f"properties: {fault.reason}", f"{path}{trail} {fault.detail}") from None


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
    if depth >= _DEEPEST:
        raise _Unsendable("nested too deep", f"is nested deeper than the {_DEEPEST} levels that Lago reads")
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
