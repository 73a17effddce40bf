"""CSV: a header line, then one record a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator, Sequence
from typing import BinaryIO

from airflow_provider_lago.sources.rows import Row, SourceError, Unreadable


def read_csv(stream: BinaryIO, origin: str, position: int) -> Generator[Row, None, int]:
    """
    Yield a row for each line below the header; an empty cell is a missing value.

    Bytes that are not UTF-8 are carried along as they are and refused where they would be sent, so that they cost
    only the records, and the columns, that hold them.

    :param stream: The open file.
    :param origin: Its name.
    :param position: Number of records before this file.
    :return: Number of records up to the end of this file.
    :raises SourceError: if the header is empty, or names a column twice or not at all.
    """
    text = _as_text(stream)
    lines = csv.reader(text, strict=True)
    try:
        header = _read_header(lines, origin)
        if not header:
            return position
        width = len(header)
        while True:
            line = lines.line_num + 1
            try:
                cells = next(lines)
            except StopIteration:
                return position
            except csv.Error as error:
                position += 1
                yield Row(position, origin, line, _unreadable(error, line, lines.line_num))
                continue
            if not cells:
                continue
            position += 1
            if len(cells) == width:
                record = {name: cell or None for name, cell in zip(header, cells, strict=True)}
                yield Row(position, origin, line, record)
            else:
                yield Row(position, origin, line, _ragged(cells, width))
    finally:
        text.detach()  # the stream is closed by whoever opened it


def check_csv_header(stream: BinaryIO, origin: str) -> None:
    """
    Check the header of a file.

    :raises SourceError: as :func:`read_csv`.
    """
    text = _as_text(stream)
    try:
        _read_header(csv.reader(text, strict=True), origin)
    finally:
        text.detach()


def _as_text(stream: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _read_header(lines: Iterator[list[str]], origin: str) -> Sequence[str]:
    try:
        header = [name.strip() for name in next(lines, [])]
    except csv.Error as error:
        raise SourceError(f"{origin!r}: the header line is not CSV: {error}") from None
    for number, name in enumerate(header, 1):
        if not name:
            raise SourceError(f"{origin!r}: column {number} of the header has no name")
        if name in header[: number - 1]:
            raise SourceError(
                f"{origin!r}: the header names {name!r} twice (columns {header.index(name) + 1} and {number}): which "
                "one is meant cannot be known"
            )
    return header


def _ragged(cells: Sequence[str], width: int) -> Unreadable:
    return Unreadable("wrong number of cells", f"{len(cells)} cells under a header of {width}", ",".join(cells)[:2_000])


def _unreadable(error: csv.Error, first: int, last: int) -> Unreadable:
    return Unreadable("not CSV", f"lines {first} to {max(first, last)}: {error}; is a quotation mark not closed?", "")
