"""What a source hands on: one row a record, with where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, Protocol

import msgspec


class SourceError(ValueError):
    """A source that cannot be read at all; the text says what to change."""


class NothingFound(SourceError):
    """A glob that matches no file: an error, unless the user said that it is normal."""


class BrokenOff(Exception):
    """A source that could not be read to its end; another try may. The text says why."""


class Unreadable(NamedTuple):
    """
    A piece of the source that is not a record.

    :param reason: The fault without any value, e.g. ``not JSON``; to be counted.
    :param detail: What exactly is wrong.
    :param text: The piece itself, cut to a length that a report can hold.
    """

    reason: str
    detail: str
    text: str


class Cells(dict[str, Any]):
    """A record of a table in which None stands for an empty cell, and not for the value null of JSON."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """
    One record of the source.

    :param position: Number of the record in the whole source, from 1.
    :param origin: Name of the file, or of the argument.
    :param line: Line (of a file) or element (of a list) at which it begins, from 1.
    :param data: The record: a mapping, or the JSON text of one, not decoded yet; or why there is none.
    """

    position: int
    origin: str
    line: int
    data: Any

    @property
    def where(self) -> str:
        """The place in words, as a person looks for it."""
        unit = _UNITS.get(self.origin)
        return f"{self.origin} line {self.line}" if unit is None else f"{unit} {self.line}"


#: The origins of rows that did not come from a file.
RECORDS, SQL = "records", "sql"

_UNITS = {RECORDS: "record", SQL: "row"}


class Start(NamedTuple):
    """
    Where reading a source begins.

    :param position: Number of records before it.
    :param file: Number of files before it.
    :param line: Number of lines before it in its file.
    :param offset: Number of bytes before it in its file.
    """

    position: int = 0
    file: int = 0
    line: int = 0
    offset: int = 0


BEGINNING = Start()


class Source(Protocol):
    """Where the records of a delivery come from. It can be read once."""

    #: Whether reading it runs the user's code, which has to stay in the task's own thread.
    is_foreign: bool

    def rows(self, start: Start = BEGINNING) -> Iterator[Row]:
        """
        Read the source, one row a record, holding no more than one.

        :param start: Where to begin: what :meth:`start_after` returned for a source of the same :meth:`fingerprint`.
        """

    def start_after(self, position: int) -> Start:
        """
        Return where to begin for the records after a position. Records before it may come again.

        Safe to call from another thread than the one that reads; positions must not go down from call to call.
        """

    def fingerprint(self) -> str | None:
        """Return what another source, or this one with another content, does not have; None where none can be told."""

    def share_done(self) -> float | None:
        """How much of the source has been read, between 0 and 1; None where its size is not known."""


class Limited:
    """
    The first records of a source.

    :param source: The source.
    :param most: How many records to read.
    """

    def __init__(self, source: Source, most: int) -> None:
        self.is_foreign = source.is_foreign
        self._source = source
        self._most = most

    def __str__(self) -> str:
        return f"the first {self._most:,} of {self._source}"

    def rows(self, start: Start = BEGINNING) -> Iterator[Row]:
        """Read the source as far as it is asked for."""
        return islice(self._source.rows(start), max(0, self._most - start.position))

    def start_after(self, position: int) -> Start:
        """Return where to begin for the records after a position."""
        return self._source.start_after(position)

    def fingerprint(self) -> str | None:
        """Return what another source does not have."""
        of_all = self._source.fingerprint()
        return None if of_all is None else f"{self._most} of {of_all}"

    def share_done(self) -> float | None:
        """Unknown: the source may be shorter."""
        return None
