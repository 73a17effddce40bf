"""Reading the fields of payloads that are not events: identifiers, choices, numbers, flags, lists. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

from airflow_provider_lago.api.records import InvalidRecord, check_text

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})

#: Lago's columns for names and codes are that wide.
LONGEST_TEXT = 255


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
        value = str(value)
    if not isinstance(value, str):
        raise InvalidRecord(f"{name}: not text", f"Lago takes text here, not a {type(value).__name__}")
    if longest is not None and len(value) > longest:
        raise InvalidRecord(f"{name}: too long", f"{len(value)} characters; Lago takes {longest}")
    return value


def as_choice(value: Any, name: str, choices: Collection[str]) -> str:
    """
    Return one of a few values.

    :raises InvalidRecord: if it is none of them.
    """
    if value not in choices:
        raise InvalidRecord(f"{name}: not a choice", f"{value!r} is none of {', '.join(sorted(choices))}")
    return str(value)


def as_flag(value: Any, name: str) -> bool:
    """
    Return a flag, which a table gives as text.

    :raises InvalidRecord: if it is none.
    """
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise InvalidRecord(f"{name}: not true or false", f"{str(value)[:40]!r} is neither")


def as_whole(value: Any, name: str) -> int:
    """
    Return a whole number of at least 0, which a table gives as text.

    :raises InvalidRecord: if it is none.
    """
    try:
        number = -1 if isinstance(value, bool) else int(value)
        whole = number == value or str(number) == str(value).strip()
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or number < 0:
        raise InvalidRecord(f"{name}: not a whole number", f"{str(value)[:40]!r} is no whole number of at least 0")
    return number


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


def put(payload: MutableMapping[str, Any], path: str, value: Any) -> None:
    """Set a value under a dotted path where there is none yet, making the objects on the way."""
    head, dot, rest = path.partition(".")
    if not dot:
        if payload.get(head) is None:
            payload[head] = value
        return
    below = payload.get(head)
    inner = dict(below) if isinstance(below, Mapping) else {}
    put(inner, rest, value)
    payload[head] = inner
