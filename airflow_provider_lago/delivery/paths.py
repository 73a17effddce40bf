"""Dotted paths into records: reading, leaving out, nesting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: What a path that leads nowhere gives.
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "missing", "__bool__": lambda self: False})()

Getter = Callable[[Mapping[str, Any]], Any]


def getter(path: str) -> Getter:
    """
    Return a function that reads a column, or a dotted path into nested objects, of a record.

    A column whose own name has dots is found under that name.

    :param path: Column name or dotted path.
    """
    steps = path.split(".")
    if len(steps) == 1:
        return lambda record: record.get(path, MISSING)

    def read(record: Mapping[str, Any]) -> Any:
        value = record.get(path, MISSING)
        if value is not MISSING:
            return value
        value = record
        for step in steps:
            if type(value) is not dict and not isinstance(value, Mapping):  # an abstract class is slow to ask
                return MISSING
            value = value.get(step, MISSING)
            if value is MISSING:
                return MISSING
        return value

    return read


def without(record: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Return a copy of a record that lacks some columns or nested attributes; the record itself stays whole."""
    copy = dict(record)
    for path in paths:
        if path in copy:
            del copy[path]
            continue
        head, dot, rest = path.partition(".")
        if dot and isinstance(copy.get(head), Mapping):
            copy[head] = without(copy[head], (rest,))
    return copy


def nest(target: dict[str, Any], path: str, value: Any) -> None:
    """
    Set a value under a dotted path, making the objects on the way.

    :raises TypeError: if something that is not an object stands in the way.
    """
    *parents, last = path.split(".")
    for parent in parents:
        below = target.get(parent)
        if below is None:
            below = {}
        elif not isinstance(below, Mapping):
            raise TypeError(f"{parent!r} is a {type(below).__name__}, nothing can be nested in it")
        target[parent] = target = dict(below)
    target[last] = value
