"""The items of a list: one line each, as Lago wrote them, and which of them came before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Head(msgspec.Struct, frozen=True, gc=False):
    """
    What an extraction has to know of an item.

    :param lago_id: Lago's own id of the object, as far as there is one.
    :param timestamp: An event's time.
    """

    lago_id: Any = None
    timestamp: Any = None


_NOTHING = Head()
_head = msgspec.json.Decoder(Head).decode


def head_of(line: bytes) -> Head:
    """Return what can be known of an item; nothing of one that is no object."""
    try:
        return _head(line)
    except msgspec.ValidationError:
        return _NOTHING


def line_of(item: msgspec.Raw) -> bytes:
    """Return an item in one line, its texts and numbers exactly as they came."""
    line = bytes(item)
    # Only white space between tokens can hold a line break: JSON escapes those within texts.
    return msgspec.json.format(line, indent=-1) if b"\n" in line or b"\r" in line else line


class RecentIds:
    """
    The ids that came last.

    :param most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def is_new(self, lago_id: Any) -> bool:
        """Keep an id, and tell whether it came for the first time. What has none is always new."""
        if not isinstance(lago_id, str):
            return True
        if lago_id in self._ids:
            return False
        if len(self._ids) >= self._most:
            del self._ids[next(iter(self._ids))]
        self._ids[lago_id] = None
        return True

    def recall(self, lines: Iterable[bytes]) -> None:
        """Keep the ids of lines that an earlier try wrote."""
        for line in lines:
            self.is_new(head_of(line).lago_id)
