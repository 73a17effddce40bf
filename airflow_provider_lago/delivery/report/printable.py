"""Records as JSON can show them, also those that were rejected because it cannot."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_lago.sources.rows import Cells, Unreadable

#: Python refuses to write out whole numbers that are much longer.
_LONGEST_INT = 10_000


def printable(data: Any) -> Any:
    """
    Return a record, or what stands in its place, as JSON can show it: also one that was rejected because it cannot.

    :param data: What a row holds.
    """
    if isinstance(data, bytes):
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return data.decode("utf-8", "backslashreplace")
        return msgspec.Raw(data)
    if isinstance(data, Unreadable):
        return printable(data.text)
    if isinstance(data, str):
        return str(data) if data.isascii() else data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, (float, Decimal)) and not math.isfinite(data):
        return str(data)
    if isinstance(data, int) and data.bit_length() > _LONGEST_INT:
        return f"a whole number of {data.bit_length()} bits"
    if isinstance(data, Cells):  # an empty cell says nothing; null would, where the line is read as a record again
        return {printable(name): printable(value) for name, value in data.items() if value is not None}
    if isinstance(data, Mapping):
        return {printable(str(name)): printable(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [printable(value) for value in data]
    return data


def is_altered(data: Any) -> bool:
    """
    Tell whether :func:`printable` shows another record: read again it would pass for what the source never said.

    :param data: What a row holds.
    """
    return not isinstance(data, bytes) and _is_altered(data)  # as a whole, bytes are the JSON text of a record


def _is_altered(data: Any) -> bool:
    if isinstance(data, str):
        try:
            data.encode()
        except UnicodeEncodeError:
            return True
        return False
    if isinstance(data, (float, Decimal)):
        return not math.isfinite(data)
    if isinstance(data, int):
        return data.bit_length() > _LONGEST_INT
    if isinstance(data, Mapping):
        return any(not isinstance(name, str) or _is_altered(name) or _is_altered(value) for name, value in data.items())
    if isinstance(data, (list, tuple)):
        return any(map(_is_altered, data))
    # Times and UUIDs are sent as the text that a report shows. That of anything else, such as bytes and durations,
    # would be delivered in the place of what was refused.
    return data is not None and not isinstance(data, (date, time, uuid.UUID))


def as_text(data: Any) -> str:
    """
    Return what a person can read of a record that no JSON can show.

    :param data: What a row holds.
    """
    try:
        text = data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else repr(data)
    except Exception as error:  # noqa: BLE001 - the object's own code
        text = f"<{type(data).__name__} that has no text: {type(error).__name__}>"
    return text[:2_000].encode("utf-8", "backslashreplace").decode()
