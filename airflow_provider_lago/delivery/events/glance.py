"""
Records -> events at a glance: those whose columns only have to be put in their places, as nearly all.

What an event must be, and why a record is none, say :mod:`.shaping`, :mod:`.identity` and
:func:`~airflow_provider_lago.api.events.check_event`. What is found here is what they would find, in a third of the
time; where that is not plain to see, nothing is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

import msgspec

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.events import Checked, are_plain
from airflow_provider_lago.api.timestamps import EARLIEST, LATEST, to_epoch_seconds
from airflow_provider_lago.delivery.events.identity import HASH, digest, have_one_form, in_one_form
from airflow_provider_lago.delivery.events.shaping import EventShaper
from airflow_provider_lago.delivery.paths import MISSING, Getter, getter, without
from airflow_provider_lago.sources.rows import Cells

#: Makes an event of a record, or nothing of one that wants a closer look.
Glance = Callable[[Any], Checked | None]

#: Names, values, and an object that JSON shows as these; None where a closer look is wanted.
_Properties = tuple[Iterable[str], Iterable[Any], Any] | None
_ReadProperties = Callable[[Mapping[str, Any]], _Properties]

#: Events that give money take the thorough road.
_MONEY = "precise_total_amount_cents"
_FIELDS = frozenset({"transaction_id", "external_subscription_id", "code", "timestamp", "properties"})

#: How JSON says NUL. Where a text says it of itself, the thorough road finds that it is none.
_NUL = b"\\u0000"
_BACKSLASH = ord("\\")

_TEXT = frozenset({str})


class _Content(msgspec.Struct, gc=False):
    external_subscription_id: Any
    code: Any
    timestamp: Any
    properties: Any


class _Event(msgspec.Struct, gc=False):
    transaction_id: Any
    external_subscription_id: Any
    code: Any
    timestamp: Any
    properties: Any


def glance_of(shaper: EventShaper) -> Glance:
    """
    Return the function that looks at records. It never raises.

    :param shaper: How records become events, once they are transformed.
    """
    shaping = shaper.shaping
    given = {*shaping.fields, *shaping.constants}
    targets = [*(column.name for column in shaper.properties), *shaper.property_constants]
    if shaping.edits or _MONEY in given or any("." in name for name in targets) or (targets and "properties" in given):
        return lambda record: None

    read_id = _reader(shaper, "transaction_id") if "transaction_id" in given else _own_id
    read_subscription = _reader(shaper, "external_subscription_id")
    read_code, read_moment = _reader(shaper, "code"), _reader(shaper, "timestamp")
    read_properties = _nesting(shaper) if targets else _own_properties(shaper)
    fits = _fits(shaper, nests=bool(targets))
    exclude, unit, zone, identify = list(shaping.exclude), shaping.timestamp_unit, shaping.zone, shaper.identify
    hashes = shaping.transaction_id == HASH
    encode, encode_sorted = exact_json.encode, exact_json.canonical

    def glance(record: Any) -> Checked | None:
        if type(record) is not dict and type(record) is not Cells:
            return None
        source = without(record, exclude) if exclude else record
        if not fits(source):
            return None
        try:
            identifier, subscription, code = read_id(source), read_subscription(source), read_code(source)
            found = read_properties(source)
            seconds = moment = read_moment(source)
            if type(moment) is not int or unit != "s" or not EARLIEST <= moment < LATEST:
                seconds = to_epoch_seconds(moment, unit, zone)
        except (KeyError, TypeError, ValueError):
            return None
        if not (
            found is not None
            and type(subscription) is type(code) is str
            and subscription
            and subscription.strip() == subscription
            and code.strip()
            and (identifier is None or type(identifier) is str)
        ):
            return None
        names, values, properties = found
        try:
            if hashes and not identifier:
                identifier = digest(encode_sorted(_Content(subscription, code, seconds, _as_hashed(*found))))
            elif not are_plain(values):
                return None
            elif not identifier:
                event = {
                    "external_subscription_id": subscription,
                    "code": code,
                    "timestamp": moment,
                    "properties": dict(zip(names, values, strict=True)),
                }
                identifier = identify(record, event)
                if type(identifier) is not str:
                    return None
            payload = encode(_Event(identifier, subscription, code, seconds, properties))
        except ValueError:  # not plain, no id, half a surrogate pair, a number of thousands of digits
            return None
        if (_BACKSLASH in payload and _NUL in payload) or not identifier.strip():
            return None
        return Checked(identifier, subscription, payload)

    return glance


def _as_hashed(names: Iterable[str], values: Iterable[Any], properties: Any) -> Any:
    """
    Return properties as they are hashed.

    :raises ValueError: if they are not plain.
    """
    if have_one_form(values):
        return properties
    if not are_plain(values):
        raise ValueError("a closer look is wanted")
    return dict(zip(names, in_one_form(values), strict=True))


def _fits(shaper: EventShaper, *, nests: bool) -> Callable[[Mapping[str, Any]], bool]:
    """Return what tells that a record has no columns of its own that have to be looked at."""
    if not shaper.picks:  # it is sent whole: what is left over is for the thorough road to refuse
        return (_FIELDS - ({"properties"} if nests else set()) | shaper.identity_columns).issuperset
    if nests:
        return lambda source: _MONEY not in source and "properties" not in source
    return lambda source: _MONEY not in source


def _own_id(source: Mapping[str, Any]) -> Any:
    return source.get("transaction_id")


def _reader(shaper: EventShaper, target: str) -> Getter:
    if target in shaper.constants:
        value = shaper.constants[target]
        return lambda source: value
    path = shaper.shaping.fields.get(target, target)
    return getter(path) if "." in path else itemgetter(path)


def _own_properties(shaper: EventShaper) -> _ReadProperties:
    """Return what reads properties that are an object of their own in the record."""
    read = _reader(shaper, "properties")

    def own(source: Mapping[str, Any]) -> _Properties:
        properties = read(source)
        if type(properties) is not dict or not _TEXT.issuperset(map(type, properties)):
            return None
        return properties, properties.values(), properties

    return own


def _nesting(shaper: EventShaper) -> _ReadProperties:
    """Return what makes properties of columns and constants."""
    columns, constants = shaper.properties, shaper.property_constants
    if len(columns) > 1 and not constants and not any(column.optional or "." in column.path for column in columns):
        return _all_at_once([column.name for column in columns], itemgetter(*(column.path for column in columns)))

    def nest(source: Mapping[str, Any]) -> _Properties:
        properties = {}
        for name, _, read, optional in columns:
            value = read(source)
            if value is not None and value is not MISSING:
                properties[name] = value
            elif not optional:
                return None
        properties.update(constants)
        return (properties, properties.values(), properties) if properties else None

    return nest


def _all_at_once(names: list[str], read: Callable[[Any], tuple[Any, ...]]) -> _ReadProperties:
    fields = {f"field_{number}": name for number, name in enumerate(names)}
    try:
        hold = msgspec.defstruct("Properties", [(field, Any) for field in fields], rename=fields, gc=False)
    except ValueError:  # names that have to be escaped
        return lambda source: None

    def nest(source: Mapping[str, Any]) -> _Properties:
        values = read(source)
        return names, values, hold(*values)

    return nest
