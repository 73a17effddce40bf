"""Record -> event: transform, leave out, map, nest, identify."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any, NamedTuple

from airflow_provider_lago.api.events import EVENT_FIELDS
from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.delivery.events.identity import Identify, identity
from airflow_provider_lago.delivery.paths import MISSING, Getter, getter, without
from airflow_provider_lago.delivery.shaping import (
    Record,
    Shaping,
    apply_transform,
    check_columns,
    check_paths,
    kind_of,
    place,
)

#: How targets under ``properties`` begin.
_NESTED = "properties."


class PropertyColumn(NamedTuple):
    """
    A column that becomes a property.

    :param name: Of the property; dotted to nest.
    :param path: Of the column.
    :param read: Reads it.
    :param optional: Whether it may be missing or null.
    """

    name: str
    path: str
    read: Getter
    optional: bool


@dataclass(frozen=True, slots=True)
class EventShaping(Shaping):
    """
    How records become events; see :class:`~airflow_provider_lago.delivery.shaping.Shaping` for the rest.

    :param properties: Columns to nest under ``properties``: a list of columns, or property name -> column. A trailing
        ``?`` lets a column be missing or null in some records; it is left out then.
    :param transaction_id: How to derive the id when the record has none, see :func:`.identity.identity`.
    :param timestamp_unit: Unit of epoch numbers.
    :param zone: Time zone of timestamps that name none.
    """

    properties: Sequence[str] | Mapping[str, str] = ()
    transaction_id: str | Sequence[str] | Callable[[Record], str] | None = None
    timestamp_unit: str = "s"
    zone: tzinfo = UTC

    @property
    def is_plain(self) -> bool:
        """Whether records are events already, so that a JSON text may be sent as it stands."""
        return not (self.fields or self.constants or self.properties or self.exclude or self.transform or self.edits)


class EventShaper:
    """
    Shapes records as a :class:`EventShaping` says, which it checks first.

    :param shaping: The settings.
    :raises ValueError: if they contradict each other or name what an event does not have.
    """

    def __init__(self, shaping: EventShaping) -> None:
        _check_targets(shaping)
        self.shaping = shaping
        constants = shaping.constants.items()
        self.constants = {target: value for target, value in constants if not target.startswith(_NESTED)}
        self.property_constants = {
            target.removeprefix(_NESTED): value for target, value in constants if target.startswith(_NESTED)
        }
        self.properties = _property_columns(shaping)
        #: Whether columns are picked from a record, which is not sent as a whole then.
        self.picks = bool(shaping.fields or shaping.properties)
        self.identify: Identify = identity(shaping.transaction_id, shaping.timestamp_unit, shaping.zone)
        self.identity_columns = _identity_columns(shaping.transaction_id)
        self._own_columns = _own_columns(shaping)
        self._columns = [(to, path, getter(path)) for to, path in shaping.fields.items() if not to.startswith(_NESTED)]

    def transformed(self, record: Any) -> Any:
        """
        Return what the transform makes of a record: another one, or None to skip it.

        :raises InvalidRecord: if it fails.
        """
        transform = self.shaping.transform
        return record if transform is None else apply_transform(transform, _an_object(record))

    def event(self, record: Any) -> dict[str, Any]:
        """
        Return the event of a record that has been transformed.

        :raises InvalidRecord: if the record lacks what the settings name.
        """
        exclude = self.shaping.exclude
        source: Record = without(_an_object(record), exclude) if exclude else _an_object(record)
        event = self._select(source)
        event.update(self.constants)
        if self.properties or self.property_constants:
            properties = self._nest_properties(event.get("properties"), source)
            if properties:
                event["properties"] = properties
        identifier = event.pop("transaction_id", None)
        if identifier is None or identifier == "":
            identifier = self.identify(record, event)
        event["transaction_id"] = identifier
        for target, value in self.shaping.edits.items():
            place(event, target, value)
        return event

    def _select(self, source: Record) -> dict[str, Any]:
        if not self.picks:
            # Whatever is left over is refused by the check: Lago would drop it without a word.
            return {name: value for name, value in source.items() if name not in self.identity_columns}
        event = {name: source[name] for name in self._own_columns if name in source}
        for target, path, read in self._columns:
            value = read(source)
            if value is not MISSING:
                event[target] = value
            else:
                raise InvalidRecord("column missing", f"the record has no {path!r}, which fields maps to {target!r}")
        return event

    def _nest_properties(self, own: Any, source: Record) -> dict[str, Any]:
        if own is not None and not isinstance(own, Mapping):
            raise InvalidRecord("properties: not an object", f"nothing can be nested in a {kind_of(own)}")
        properties = dict(own) if own else {}
        for name, path, read, optional in self.properties:
            value = read(source)
            if value is not MISSING and value is not None:
                if "." in name:
                    place(properties, name, value, _NESTED)
                else:
                    properties[name] = value
            elif not optional:
                found = "no" if value is MISSING else "an empty"
                raise InvalidRecord(
                    f"property missing: {path}",
                    f"the record has {found} {path!r}, and Lago does not bill an event without the property that its "
                    f"metric adds up; write {path + '?'!r} in properties where it may be missing",
                )
        for name, value in self.property_constants.items():
            place(properties, name, value, _NESTED)
        return properties


def needed_columns(shaping: EventShaping) -> frozenset[str] | None:
    """Return the columns of records that the settings can make use of; None where that is any of them."""
    strategy = shaping.transaction_id
    if shaping.transform is not None or callable(strategy) or not (shaping.fields or shaping.properties):
        return None
    paths = [*_own_columns(shaping), *shaping.fields.values(), *(path for _, path, _, _ in _property_columns(shaping))]
    paths += [] if strategy is None or isinstance(strategy, str) else strategy
    return frozenset(name for path in paths for name in (path, path.partition(".")[0]))


def _own_columns(shaping: EventShaping) -> list[str]:
    """Return the fields that nobody maps, which keep their own names."""
    given = {target.partition(".")[0] for target in (*shaping.fields, *shaping.constants) if "." not in target}
    return [name for name in EVENT_FIELDS if name not in given]


def _property_columns(shaping: EventShaping) -> list[PropertyColumn]:
    named = _named_properties(shaping.properties)
    named |= {target: path for target, path in shaping.fields.items() if target.startswith(_NESTED)}
    return [
        PropertyColumn(target.removeprefix(_NESTED), _bare(path), getter(_bare(path)), path.endswith("?"))
        for target, path in named.items()
    ]


def _named_properties(properties: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    named = properties if isinstance(properties, Mapping) else {_bare(path): path for path in properties}
    return {f"{_NESTED}{name}": path for name, path in named.items()}


def _an_object(record: Any) -> Record:
    if type(record) is not dict and not isinstance(record, Mapping):
        raise InvalidRecord("not an object", f"a record must be an object, not a {kind_of(record)}")
    return record


def _bare(path: str) -> str:
    return path.removesuffix("?")


def _check_targets(shaping: EventShaping) -> None:
    shaping.check()
    check_columns("properties", shaping.properties)
    check_paths(shaping.properties.values() if isinstance(shaping.properties, Mapping) else shaping.properties)
    targets = [*shaping.fields, *_named_properties(shaping.properties), *shaping.constants]
    for target in targets:
        root, dot, _ = target.partition(".")
        if root not in EVENT_FIELDS or (dot and root != "properties"):
            argument = "fields" if target in shaping.fields else "constants"
            raise ValueError(
                f"{argument} names {target!r}, which an event does not have: it has {', '.join(EVENT_FIELDS)}, "
                "and properties.<name>"
            )
        if targets.count(target) > 1:
            raise ValueError(f"{target!r} is given twice by fields, properties and constants: keep one")
    for longer in targets:
        for shorter in shaping.constants:
            if longer.startswith(f"{shorter}."):
                raise ValueError(
                    f"constants gives {shorter!r} as a whole, which would replace {longer!r}: write its parts, such as "
                    f"constants={{'{shorter}.name': value}}"
                )


def _identity_columns(strategy: Any) -> frozenset[str]:
    """Return the columns that only make up the id: they are used, not left over."""
    if strategy is None or isinstance(strategy, str) or callable(strategy):
        return frozenset()
    return frozenset(strategy) - frozenset(EVENT_FIELDS)
