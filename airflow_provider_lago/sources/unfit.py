"""Values that a file has and Python has not: each costs its record, and no other."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sources.rows import Unreadable

#: What a report keeps of such a record, in characters.
_KEPT = 2_000


class Unfit:
    """
    Stands where a value could not be had.

    :param reason: Why not.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"<{self.reason}>"


def whole(record: dict[str, Any]) -> dict[str, Any] | Unreadable:
    """Return a record, or why it is none: the first column that holds such a value, however deep."""
    for name, value in record.items():
        unfit = _find(value)
        if unfit is not None:
            text = str(record)[:_KEPT].encode("utf-8", "backslashreplace").decode()
            return Unreadable("a value cannot be read", f"column {name!r}: {unfit.reason}", text)
    return record


def _find(value: Any) -> Unfit | None:
    if isinstance(value, Unfit):
        return value
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for found in map(_find, within) if found is not None), None)
