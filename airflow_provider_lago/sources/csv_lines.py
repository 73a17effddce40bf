"""CSV: a header line, then one record a row."""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, BinaryIO

from airflow_provider_lago.sources.rows import Cells, Row, SourceError, Start, Unreadable

#: The longest record, in bytes; beyond it the memory of a delivery would depend on its input.
LONGEST_RECORD = 4 << 20

#: What a report keeps of a line that is not a record, in characters.
_KEPT = 2_000

_BOM = b"\xef\xbb\xbf"


class _RecordTooLong(Exception):
    pass


class _Lines:
    """
    The lines of a file for :mod:`csv`, which is not told where a record begins.

    :param stream: The open file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = 0
        self.first = 1
        self.taken: list[str] = []

    def begin_record(self) -> None:
        """Forget the lines of the record before."""
        self.first += len(self.taken)
        self.taken = []
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(LONGEST_RECORD)
        if not line:
            raise StopIteration
        if self.first == 1 and line.startswith(_BOM):
            line = line.removeprefix(_BOM)
        # Bytes that are not UTF-8 are carried along, to cost only the records and columns that hold them.
        text = line.decode("utf-8", "surrogateescape")
        self.taken.append(text)
        self._size += len(line)
        if self._size >= LONGEST_RECORD:
            self._skip_line(line)
            raise _RecordTooLong
        return text

    def _skip_line(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(LONGEST_RECORD)


def read_csv(stream: BinaryIO, origin: str, start: Start, mark: Callable[[Start], None]) -> Generator[Row, None, int]:
    """
    Yield a row for each line below the header; an empty cell is a missing value.

    What is not CSV is reported line by line, with its text: a quotation mark that is never closed swallows lines that
    are records, and each of them must be found again.

    :param stream: The open file.
    :param origin: Its name.
    :param start: Where to begin: always with the header.
    :param mark: Not called.
    :return: Number of records up to the end of this file.
    :raises SourceError: if the header is ambiguous, or a quoted cell does not end within :data:`LONGEST_RECORD`.
    """
    position = start.position
    lines, reader = _open(stream)
    header = _read_header(lines, reader, origin)
    width = len(header)
    while True:
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return position
        except csv.Error as error:
            for number, text in enumerate(lines.taken, lines.first):
                position += 1
                yield Row(position, origin, number, Unreadable("not CSV", str(error), text.rstrip("\r\n")[:_KEPT]))
            continue
        except _RecordTooLong:
            position += 1
            yield Row(position, origin, lines.first, _too_long(lines, origin))
            continue
        if not cells:
            continue
        position += 1
        if len(cells) == width:
            record: dict[str, Any] = dict(zip(header, cells, strict=True))
            if "" in cells:
                record = Cells((name, cell or None) for name, cell in record.items())
            yield Row(position, origin, lines.first, record)
        else:
            detail = f"{len(cells)} cells under a header of {width}"
            yield Row(position, origin, lines.first, Unreadable("wrong number of cells", detail, _text(lines)))


def check_csv_header(stream: BinaryIO, origin: str) -> None:
    """
    Check the header of a file.

    :raises SourceError: as :func:`read_csv`.
    """
    _read_header(*_open(stream), origin)


def _open(stream: BinaryIO) -> tuple[_Lines, Iterator[list[str]]]:
    # The limit is the whole process's and by default so low that long texts look like broken quotation marks; ours is
    # held by counting bytes.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_RECORD))
    lines = _Lines(stream)
    return lines, csv.reader(lines, strict=True)


def _read_header(lines: _Lines, reader: Iterator[list[str]], origin: str) -> Sequence[str]:
    try:
        cells = next((cells for cells in reader if cells), [])
    except (csv.Error, _RecordTooLong) as error:
        raise SourceError(f"{origin!r}: the header line is not CSV: {error}") from None
    header = [name.strip() for name in cells]
    if header and (header[0].startswith(("\udcff", "\udcfe")) or "\0" in header[0]):
        raise SourceError(f"{origin!r} is not UTF-8 text; it looks like UTF-16: convert it")
    if len(header) == 1 and (sign := next((sign for sign in ";\t|" if sign in header[0]), None)):
        raise SourceError(f"{origin!r}: the columns seem to be separated by {sign!r}; only commas are read")
    for number, name in enumerate(header, 1):
        if not name:
            raise SourceError(f"{origin!r}: column {number} of the header has no name")
        if name in header[: number - 1]:
            raise SourceError(
                f"{origin!r}: the header names {name!r} twice (columns {header.index(name) + 1} and {number}): which "
                "one is meant cannot be known"
            )
    return header


def _too_long(lines: _Lines, origin: str) -> Unreadable:
    if len(lines.taken) > 1:
        # Going on here would read the inside of a text as records.
        raise SourceError(
            f"{origin} line {lines.first}: a quoted cell does not end within {LONGEST_RECORD:,} bytes; close its "
            "quotation mark"
        )
    return Unreadable("line too long", f"more than the {LONGEST_RECORD:,} bytes of the longest record", _text(lines))


def _text(lines: _Lines) -> str:
    return "".join(lines.taken).rstrip("\r\n")[:_KEPT]
