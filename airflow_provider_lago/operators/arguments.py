"""Arguments of operators that may come from a template, and so as text."""

from __future__ import annotations

import math
from datetime import tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off", "none", ""})


def as_bool(value: Any, name: str) -> bool:
    """
    Return a flag, which a template gives as text.

    :param value: A bool, or text such as ``True`` or ``no``.
    :param name: The argument's name, for the message.
    :raises ValueError: if it is neither.
    """
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{name} must be true or false, not {value!r}")


def as_count(value: Any, name: str) -> int | None:
    """
    Return a count of at least 1, which a template gives as text, or None where there is none.

    :param value: An int, text of one, or None or an empty text for none.
    :param name: The argument's name, for the message.
    :raises ValueError: if it is something else.
    """
    if value is None or value in {"", "None"}:
        return None
    try:
        count = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else 0
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    return count


class Threshold:
    """
    How many records may be rejected: a count, or a share of those that were read.

    :param value: An int or text of one (a count), a float below 1 or text with ``%`` (a share).
    :raises ValueError: if it is none of these, or negative.
    """

    def __init__(self, value: Any) -> None:
        self._count: float = math.inf
        self._share = Decimal(1)
        self._text = str(value)
        try:
            if isinstance(value, str) and value.strip().endswith("%"):
                self._share = Decimal(value.strip()[:-1]) / 100
            elif isinstance(value, bool):
                raise ValueError
            elif isinstance(value, float) or (isinstance(value, str) and "." in value):
                self._share = Decimal(str(value).strip())
            else:
                self._count = int(value)
        except (TypeError, ValueError, ArithmeticError):
            raise ValueError(f"max_rejected must be a count (10) or a share (0.01 or '1%'), not {value!r}") from None
        if not (0 <= self._share <= 1 and self._count >= 0):
            raise ValueError(f"max_rejected must be at least 0, and a share at most 1 (100%), not {value!r}")

    def __str__(self) -> str:
        return self._text

    def allows(self, rejected: int, read: int) -> bool:
        """Tell whether so many rejected records are fine."""
        return rejected <= self._count and rejected <= self._share * read


def check_whole(name: str, value: Any, least: int, most: int) -> int:
    """
    Return a whole number within bounds.

    :raises ValueError: naming the argument and its bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return value


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """
    Return a value that is one of a few.

    :raises ValueError: naming the argument and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
    return str(value)


def check_rate(name: str, value: Any) -> float | None:
    """
    Return a rate above 0, or None for no bound.

    :raises ValueError: naming the argument.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
    return float(value)


def check_zone(name: str, value: Any) -> tzinfo:
    """
    Return a time zone, given by itself or by its name.

    :raises ValueError: if it is not known.
    """
    if isinstance(value, tzinfo):
        return value
    try:
        return ZoneInfo(value)
    except (LookupError, ValueError, TypeError, OSError):
        raise ValueError(f"{name} {value!r} is not known: use a name such as 'Europe/Paris'") from None
