"""Arguments of operators that may come from a template, and so as text."""

from __future__ import annotations

import math
from typing import Any

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


class Threshold:
    """
    How many records may be rejected: a count, or a share of those that were read.

    :param value: An int or text of one (a count), a float below 1 or text with ``%`` (a share).
    :raises ValueError: if it is none of these, or negative.
    """

    def __init__(self, value: Any) -> None:
        self._count: float = math.inf
        self._share: float = 1.0
        self._text = str(value)
        try:
            if isinstance(value, str) and value.strip().endswith("%"):
                self._share = float(value.strip()[:-1]) / 100
            elif isinstance(value, bool):
                raise ValueError
            elif isinstance(value, float) or (isinstance(value, str) and "." in value):
                self._share = float(value)
            else:
                self._count = int(value)
        except (TypeError, ValueError):
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
