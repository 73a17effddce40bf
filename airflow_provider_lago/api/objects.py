"""Reading the fields of payloads that are not events: identifiers, choices, numbers, flags, lists. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from airflow_provider_lago.api.records import InvalidRecord, check_text, refuse_unsendable

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})

#: Lago's columns for names and codes are that wide.
LONGEST_TEXT = 255

#: Lago's columns for numbers end there; beyond it a request fails with 500.
LARGEST_WHOLE = 2_147_483_647


def check_id(payload: Mapping[str, Any], name: str) -> str:
    """
    Return a mandatory identifier.

    :raises InvalidRecord: if it is missing, no text, or one that Lago would change or a path cannot hold.
    """
    text = check_text(payload, name)
    if text.strip() != text:
        # Lago strips ids of customers and subscriptions, but not those of events: what is meant would never meet.
        raise InvalidRecord(f"{name}: surrounding space", "Lago would strip it, and events would not match: strip it")
    if any(character < " " or character == "\x7f" for character in text):
        raise InvalidRecord(f"{name}: control character", "no identifier holds a line break or the like")
    return text


def check_known(payload: Mapping[str, Any], known: Collection[str], within: str = "") -> None:
    """
    Refuse fields that Lago does not have: it would drop them without a word.

    :param within: What the payload is nested in, for the message.
    :raises InvalidRecord: naming them.
    """
    unknown = [f"{within}{name}" for name in payload if name not in known]
    if unknown:
        raise InvalidRecord(
            "unknown field",
            f"Lago would silently drop {', '.join(map(repr, unknown[:5]))}: map it with fields={{...}} or leave it out "
            "with exclude=[...]",
        )


def as_object(value: Any, name: str) -> dict[str, Any]:
    """
    Return an object.

    :raises InvalidRecord: if it is something else.
    """
    if not isinstance(value, Mapping):
        raise InvalidRecord(f"{name}: not an object", f"Lago would drop a {type(value).__name__}")
    return dict(value)


def as_text(value: Any, name: str, longest: int | None = LONGEST_TEXT) -> str:
    """
    Return a text; whole numbers are written out.

    :raises InvalidRecord: if it is something else, or too long for Lago.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            value = str(value)
        except ValueError:
            raise InvalidRecord(f"{name}: too long", "a number of thousands of digits") from None
    if not isinstance(value, str):
        raise InvalidRecord(f"{name}: not text", _no_text(value))
    if longest is not None and len(value) > longest:
        raise InvalidRecord(f"{name}: too long", f"{len(value)} characters; Lago takes {longest}")
    return str.__str__(value)  # an enum's or a template's text, as what Lago holds is compared by type too


def _no_text(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN, which a data frame puts where it has nothing: make it None, or leave it out"
    return f"Lago takes text here, not a {type(value).__name__}"


def as_choice(value: Any, name: str, choices: Collection[str]) -> str:
    """
    Return one of a few values.

    :raises InvalidRecord: if it is none of them.
    """
    if value not in choices:
        raise InvalidRecord(f"{name}: not a choice", f"{_short(value)} is none of {', '.join(sorted(choices))}")
    return str.__str__(value)


def as_flag(value: Any, name: str) -> bool:
    """
    Return a flag, which a table gives as text.

    :raises InvalidRecord: if it is none.
    """
    text = _short(value).strip("' ").lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise InvalidRecord(f"{name}: not true or false", f"{_short(value)} is neither")


def as_whole(value: Any, name: str) -> int:
    """
    Return a whole number of at least 0, which a table gives as text.

    :raises InvalidRecord: if it is none, or beyond what Lago's column holds.
    """
    number = -1
    with suppress(TypeError, ValueError, OverflowError, ArithmeticError):
        # A decimal of a million digits is looked at before it is written out.
        if isinstance(value, str) or (not isinstance(value, bool) and abs(value) <= LARGEST_WHOLE):
            read = int(value)
            number = read if read == value or str(read) == str(value).strip() else -1
    if not 0 <= number <= LARGEST_WHOLE:
        raise InvalidRecord(
            f"{name}: not a whole number", f"{_short(value)} is no whole number from 0 to {LARGEST_WHOLE}"
        )
    return number


def _short(value: Any) -> str:
    try:
        return repr(str(value)[:40])
    except ValueError:
        return "a number of thousands of digits"


def as_list(value: Any, name: str) -> list[Any]:
    """
    Return a list; a text holds its elements between commas, as a cell of a table does.

    :raises InvalidRecord: if it is something else.
    """
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise InvalidRecord(f"{name}: not a list", f"Lago would drop a {type(value).__name__}")
    return list(value)


def as_texts(value: Any, name: str) -> list[str]:
    """
    Return a list of texts, such as codes.

    :raises InvalidRecord: if it is something else, or one of them is.
    """
    return [as_text(item, f"{name}[]") for item in as_list(value, name)]


def as_objects(value: Any, name: str) -> list[dict[str, Any]]:
    """
    Return a list of objects, which no cell of a table can hold.

    :raises InvalidRecord: if it is something else, or one of them is.
    """
    items = value if isinstance(value, (list, tuple)) else as_list(None if isinstance(value, str) else value, name)
    return [as_object(item, f"{name}[]") for item in items]


def put(payload: MutableMapping[str, Any], path: str, value: Any) -> None:
    """
    Set a value under a dotted path where there is none yet, making the objects on the way.

    Where something that is not an object stands in the way, nothing is set: it is for the checks to refuse.
    """
    head, dot, rest = path.partition(".")
    below = payload.get(head)
    if not dot:
        payload[head] = value if below is None else below
    elif below is None or isinstance(below, Mapping):
        inner = dict(below or {})
        put(inner, rest, value)
        payload[head] = inner


def refuse_unsendable_parts(payload: Mapping[str, Any]) -> None:
    """
    Refuse what JSON or Lago's database cannot hold, naming the field.

    :raises InvalidRecord: see :func:`~airflow_provider_lago.api.records.refuse_unsendable`.
    """
    for name, value in payload.items():
        refuse_unsendable(value, name)
