"""Record -> payload: transform, leave out, map, nest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.delivery.paths import MISSING, Getter, getter, nest, without
from airflow_provider_lago.sources.rows import Cells

Record = Mapping[str, Any]
Transform = Callable[[dict[str, Any]], Record | None]


class StartOfTry(datetime):
    """The time at which a try of a delivery began: a constant that another try of the same delivery has otherwise."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """
    How records become payloads.

    :param fields: Payload field (dotted to nest) -> column or dotted path of the record.
    :param constants: Payload field (dotted to nest) -> value.
    :param exclude: Attributes of the record to leave out, dotted paths allowed.
    :param transform: Callable record -> record, or None to skip the record; applied first.
    :param edits: Payload field (dotted to nest) -> value, set last, whatever else gave the field a value.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    exclude: Sequence[str] = ()
    transform: Transform | None = None
    edits: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """
        Check the types of the settings.

        :raises ValueError: naming the one that is wrong.
        """
        check_columns("exclude", self.exclude)
        for argument, values in (("fields", self.fields), ("constants", self.constants)):
            if not isinstance(values, Mapping):
                raise ValueError(f"{argument} must be a dict, not a {type(values).__name__}")
        check_paths(self.fields.values())
        check_paths(self.exclude)
        if self.transform is not None and not callable(self.transform):
            raise ValueError(f"transform must be a function, not {self.transform!r}")
        both = next((target for target in self.fields if target in self.constants), None)
        if both is not None:
            raise ValueError(f"{both!r} is given twice by fields and constants: keep one")


class RecordShaper:
    """
    Shapes records whose payload has the columns' own names where nothing is mapped. Dotted names nest.

    :param shaping: The settings.
    :param known: Fields that a payload may have; None for any.
    :param what: What the payload is, for messages.
    :raises ValueError: if the settings contradict each other or name what a payload does not have.
    """

    def __init__(self, shaping: Shaping, known: Collection[str] | None, what: str) -> None:
        shaping.check()
        self._known = known
        self._shaping = shaping
        self._exclude = list(shaping.exclude)
        self._columns: list[tuple[str, str, Getter, bool]] = []
        for target, path in sorted(shaping.fields.items(), key=_is_nested):
            bare = path.removesuffix("?")
            # A payload of known fields is checked as a whole, so that a column may be missing where a field may.
            self._columns.append((target, bare, getter(bare), path.endswith("?") or known is not None))
        for target in (*shaping.fields, *shaping.constants, *shaping.edits):
            root = target.partition(".")[0]
            if known is not None and root not in known:
                raise ValueError(f"{target!r} is nothing that {what} has: {', '.join(sorted(known))}")
        self._given = frozenset((*shaping.fields, *shaping.constants))
        self._constants = sorted(shaping.constants.items(), key=_is_nested)
        self.never_found = {path: target for target, path, _, _ in self._columns}

    def record(self, data: Any) -> dict[str, Any] | None:
        """
        Return the record after the transform, as a dict of its own; None where the transform skips it.

        :raises InvalidRecord: if it is not an object, or the transform fails.
        """
        if not isinstance(data, Mapping):
            raise InvalidRecord("not an object", f"a record must be an object, not a {kind_of(data)}")
        record: Record | None = data
        if self._shaping.transform is not None:
            record = apply_transform(self._shaping.transform, data)
        if record is None:
            return None
        # An empty cell says nothing, also where a transform hands it on; a null in JSON or from a task says "empty".
        return {k: v for k, v in record.items() if v is not None} if isinstance(data, Cells) else dict(record)

    def payload(self, record: Record) -> dict[str, Any]:
        """
        Return the payload of a record.

        :raises InvalidRecord: if the record lacks a column that must be there.
        """
        source = without(record, self._exclude) if self._exclude else record
        payload: dict[str, Any] = {}
        nested = []
        for name, value in source.items():
            if not self._takes(name):
                continue
            if "." in name:
                nested.append((name, value))
            else:
                payload[name] = value
        for name, value in nested:  # after the objects that they are nested in, which would replace them
            place(payload, name, value)
        for target, path, read, optional in self._columns:
            value = read(source)
            if value is not MISSING:
                self.never_found.pop(path, None)
                place(payload, target, value)
            elif not optional:
                raise InvalidRecord(
                    "column missing",
                    f"the record has no {path!r}, which fields maps to {target!r}; write {path + '?'!r} where it may "
                    "be missing",
                )
        for target, value in self._constants:
            place(payload, target, value)
        for target, value in self._shaping.edits.items():
            place(payload, target, value)
        return payload

    def _takes(self, name: object) -> bool:
        """Tell whether a column goes into the payload under its own name."""
        if not isinstance(name, str):
            raise InvalidRecord("column is not text", f"the name of a column is a {kind_of(name)}, not a text")
        if name in self._given:
            return False
        if not self._columns:
            return True
        return self._known is not None and name.partition(".")[0] in self._known


def _is_nested(item: tuple[str, Any]) -> bool:
    return "." in item[0]


def apply_transform(transform: Transform, record: Record) -> Record | None:
    """
    Return what the user's function makes of a record.

    :raises InvalidRecord: if it fails, or returns something else than a record or None.
    """
    try:
        result = transform(dict(record))
    except Exception as error:
        raise InvalidRecord("transform failed", f"{type(error).__name__}: {error}") from error
    if result is not None and not isinstance(result, Mapping):
        raise InvalidRecord("transform: not a record", f"it returned a {kind_of(result)}, not a dict or None")
    return result


def place(payload: dict[str, Any], name: str, value: Any, within: str = "") -> None:
    """
    Set a value under a dotted name.

    :param within: What the payload itself is nested in, for the message.
    :raises InvalidRecord: if something that is not an object stands in the way.
    """
    if "." not in name:
        payload[name] = value
        return
    try:
        nest(payload, name, value)
    except TypeError as error:
        raise InvalidRecord(f"{within}{name}: cannot be nested", str(error)) from None


def check_columns(argument: str, columns: Any) -> None:
    """
    Check that an argument is a list of columns, or a mapping to columns.

    :raises ValueError: if not.
    """
    if isinstance(columns, str):
        raise ValueError(f"{argument} must be a list of columns: write [{columns!r}]")
    if not isinstance(columns, (Sequence, Mapping)):
        raise ValueError(f"{argument} must be a list of columns, not a {type(columns).__name__}")


def check_paths(paths: Collection[Any]) -> None:
    """
    Check that columns are named by text.

    :raises ValueError: if not.
    """
    for path in paths:
        if not isinstance(path, str) or not path.removesuffix("?"):
            raise ValueError(f"fields, properties and exclude name columns by text, not by {path!r}")


def kind_of(value: Any) -> str:
    """Return what a value is, for a message."""
    return "null" if value is None else type(value).__name__
