"""
What a usage event must be before it is sent.

Lago's own checks are few: it answers 200 to events that it will never bill (no subscription, a time in the year
55,000, properties that are not an object, money that is not a number). What it would lose, change or let time out in
silence is refused here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_lago.api.records import DEEPEST, InvalidRecord, check_text, encode, refuse_unsendable
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

#: Decimals from about this power of ten on are infinite as floats: whoever reads the JSON may take them for that.
_DOUBTFUL = 308

_ALWAYS_PLAIN = frozenset({str, int, bool})

_BACKSLASH = ord("\\")


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


class _FlatEvent(_ReadyEvent, forbid_unknown_fields=True, gc=False):
    properties: dict[str, str | int | float | bool | None] | msgspec.UnsetType = msgspec.UNSET


_decode_ready = msgspec.json.Decoder(_ReadyEvent).decode
_decode_flat = msgspec.json.Decoder(_FlatEvent).decode


def check_ready_line(line: bytes) -> Checked | None:
    """
    Return the event that a JSON text already is, byte for byte; None where it wants :func:`check_event`.

    Decoding into the typed event is the check, and the text itself the payload. All that is unusual (escapes, which
    may hide a NUL; text that is not ASCII; padding; deep nesting; other types) takes the thorough road.

    :param line: One JSON text without surrounding white space.
    """
    if _BACKSLASH in line or not line.isascii():
        return None
    event: _ReadyEvent
    try:
        event = _decode_flat(line)
    except msgspec.DecodeError:
        # Something in the properties is nested. Counting brackets takes as long as decoding.
        if line.count(b"{") + line.count(b"[") > DEEPEST:
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
    :raises InvalidRecord: if Lago would refuse it, change it, or never bill it.
    """
    if not _KNOWN.issuperset(event):
        unknown = [str(name) for name in event if name not in _KNOWN]
        raise InvalidRecord(
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


def are_plain(values: Iterable[Any]) -> bool:
    """Tell at a glance that properties are texts and finite numbers, as nearly all are; a text may still hold a NUL."""
    for value in values:
        kind = type(value)
        if kind in _ALWAYS_PLAIN:
            continue
        if kind is float:
            if not math.isfinite(value):
                return False
        elif kind is not Decimal or not value.is_finite() or value.adjusted() >= _DOUBTFUL:
            return False
    return True


def _check_subscription(event: Mapping[str, Any]) -> str:
    text = check_text(event, "external_subscription_id")
    if text.strip() != text:
        # Lago strips the ids of subscriptions when it creates them, but not those of events.
        raise InvalidRecord(
            "external_subscription_id: surrounding space",
            "no subscription can match it, it would never be billed",
        )
    return text


def _check_time(value: Any, unit: str, zone: tzinfo) -> int | str:
    if value is None or value == "":
        raise InvalidRecord(
            "timestamp: missing", "Lago would take the moment of arrival, and bill a repeated delivery twice"
        )
    try:
        return to_epoch_seconds(value, unit, zone)
    except InvalidTime as error:
        raise InvalidRecord("timestamp: not a time", str(error)) from None


def _check_money(value: Any) -> str:
    if isinstance(value, float):
        raise InvalidRecord(
            "precise_total_amount_cents: float", "binary floats are not exact: give text, an int or a Decimal"
        )
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _MONEY_DIGITS:
        value = f"{value:f}"
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 4 * _MONEY_DIGITS:
        value = str(value)
    if not isinstance(value, str) or not _MONEY.fullmatch(value):
        # Lago would turn it into 0 without an error.
        raise InvalidRecord(
            "precise_total_amount_cents: not a decimal",
            "write it like 1234.56, with up to 25 digits before and 15 after the point",
        )
    return value


def _check_properties(properties: Any) -> Mapping[str, Any]:
    if type(properties) is not dict and not isinstance(properties, Mapping):
        raise InvalidRecord(
            "properties: not an object",
            f"Lago would drop a {type(properties).__name__} and see no properties",
        )
    refuse_unsendable(properties, "properties")
    return properties
