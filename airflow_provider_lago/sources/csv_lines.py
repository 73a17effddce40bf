"""
CSV: a header line, then one record a row.

The file is read by blocks of whole lines, which :mod:`csv` takes apart. Where one holds something else than whole
records, its rest is read record by record.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, BinaryIO

from airflow_provider_lago.sources.csv_options import CellReader, CsvOptions, UnfitCell
from airflow_provider_lago.sources.rows import Cells, Row, SourceError, Start, Unreadable

#: The longest record, in bytes; beyond it the memory of a delivery would depend on its input.
LONGEST_RECORD = 4 << 20

#: Bytes that are read at a time. Behind each block is a place at which reading may begin another time.
_BLOCK = 1 << 16

#: What a report keeps of a line that is not a record, in characters.
_KEPT = 2_000

_BOM = b"\xef\xbb\xbf"

_DEFAULTS = CsvOptions()


class _RecordTooLong(Exception):
    pass


class _Lines:
    """
    The lines of a file for :mod:`csv`, which is not told where a record begins.

    :param stream: The open file.
    :param encoding: Of its text.
    """

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._size = 0
        self.first = 1
        self.taken: list[str] = []
        #: Lines that were read from the file already.
        self.ahead: deque[bytes] = deque()

    def begin_record(self) -> None:
        """Forget the lines of the record before."""
        self.first += len(self.taken)
        self.taken = []
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.ahead.popleft() if self.ahead else self._stream.readline(LONGEST_RECORD)
        if not line:
            raise StopIteration
        if self.first == 1:
            line = line.removeprefix(_BOM)
        text = self.decode(line)
        self.taken.append(text)
        self._size += len(line)
        if self._size >= LONGEST_RECORD:
            self._skip_line(line)
            raise _RecordTooLong
        return text

    def decode(self, data: bytes) -> str:
        """Return the text; bytes that are none are carried along, to cost only the records and columns they are in."""
        return data.decode(self._encoding, "surrogateescape")

    def block(self, end: int | None) -> bytes:
        """Return the next lines, of which none begins at or behind a place; none at the end."""
        size = _BLOCK if end is None else min(_BLOCK, end - self._stream.tell())
        block = self._stream.read(size) if size > 0 else b""
        if block and not block.endswith(b"\n"):
            block += self._stream.readline(LONGEST_RECORD)
        return block

    def skip(self) -> None:
        """Skip a line."""
        line = self._stream.readline(LONGEST_RECORD)
        self._skip_line(line)
        self.first += bool(line)

    def _skip_line(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(LONGEST_RECORD)


def read_csv(
    stream: BinaryIO,
    origin: str,
    start: Start,
    mark: Callable[[Start], None],
    *,
    options: CsvOptions | None = None,
    end: int | None = None,
) -> Generator[Row, None, int]:
    """
    Yield a row for each line below the header; an empty cell is a missing value.

    What is not CSV is reported line by line, with its text: a quotation mark that is never closed swallows lines that
    are records, and each of them must be found again.

    :param stream: The open file.
    :param origin: Its name.
    :param start: Where to begin. The header is read from the beginning of the file in any case.
    :param mark: Called now and then with a place at which reading may begin another time.
    :param options: How the file is written, and what its cells mean.
    :param end: Where to end: before the first record that begins at this byte or behind it.
    :return: Number of records up to the end of this file, or of this part of it.
    :raises SourceError: if the header is ambiguous, or a quoted cell does not end within :data:`LONGEST_RECORD`.
    """
    options = options or _DEFAULTS
    lines, reader = _open(stream, origin, options)
    header = _read_header(lines, reader, origin, options)
    table = _Table(header, options, origin)
    position = start.position
    if start.offset:
        stream.seek(start.offset)
        lines.first = start.line + 1
    while block := lines.block(end):
        if len(block) < LONGEST_RECORD:
            text = lines.decode(block.removeprefix(_BOM) if lines.first == 1 else block)
            plain = options.plain(text)
            if plain is not None:
                position = yield from _split_rows(plain, lines, table, position)
            else:
                position = yield from _block_rows(block, text, lines, table, position)
        else:
            lines.ahead.extend(io.BytesIO(block).readlines())
        if lines.ahead:
            position = yield from _rows_by_record(lines, reader, table, position)
        mark(Start(position, start.file, lines.first - 1, stream.tell()))
    return position


def record_ends(stream: BinaryIO, origin: str, options: CsvOptions) -> Iterator[int]:
    """
    Yield the offset behind the header, and behind each record: it is read as :func:`read_csv` reads it.

    :param stream: The open file, at its beginning.
    :param origin: Its name.
    :param options: How the file is written.
    :raises SourceError: as :func:`read_csv`.
    """
    lines, reader = _open(stream, origin, options)
    _read_header(lines, reader, origin, options)
    while True:
        yield stream.tell()
        lines.begin_record()
        try:
            next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue
        except _RecordTooLong:
            _too_long(lines, origin)


def check_csv_header(stream: BinaryIO, origin: str, options: CsvOptions | None = None) -> None:
    """
    Check the header of a file.

    :param stream: The open file, at its beginning.
    :param origin: Its name.
    :param options: How the file is written, and what its cells mean.
    :raises SourceError: as :func:`read_csv`.
    """
    options = options or _DEFAULTS
    _Table(_read_header(*_open(stream, origin, options), origin, options), options, origin)


class _Table:
    """
    What the cells of a file mean.

    :param header: The columns' names.
    :raises SourceError: if the options say something about a column that is not there.
    """

    def __init__(self, header: Sequence[str], options: CsvOptions, origin: str) -> None:
        self.header = header
        self.options = options
        self.origin = origin
        self.separator = options.separator(origin)
        self.convert = options.converter(header, origin)

    def record(self, cells: list[str], text: Callable[[], str]) -> dict[str, Any] | Unreadable:
        """
        Return the record of a line's cells.

        :param cells: The cells.
        :param text: Returns the line.
        """
        if len(cells) != len(self.header):
            detail = f"{len(cells)} cells under a header of {len(self.header)}"
            return Unreadable("wrong number of cells", detail, text()[:_KEPT])
        if self.convert is not None:
            try:
                return self.convert(cells)
            except UnfitCell as unfit:
                return Unreadable(unfit.reason, unfit.detail, text()[:_KEPT])
        record: dict[str, Any] = dict(zip(self.header, cells, strict=True))
        return Cells((name, cell or None) for name, cell in record.items()) if "" in cells else record


def _split_rows(text: str, lines: _Lines, table: _Table, position: int) -> Generator[Row, None, int]:
    """Yield the rows of whole lines in which each delimiter and line break is one."""
    origin, header, width, separator = table.origin, table.header, len(table.header), table.separator
    is_plain = table.convert is None
    for number, line in enumerate(text.split("\n"), lines.first):
        cells = line.split(separator)
        if is_plain and len(cells) == width and "" not in cells:
            position += 1
            yield Row(position, origin, number, dict(zip(header, cells)))  # noqa: B905 - counted
        elif line:
            position += 1
            yield Row(position, origin, number, table.record(cells, line.__str__))
    lines.first += text.count("\n")
    return position


def _block_rows(block: bytes, text: str, lines: _Lines, table: _Table, position: int) -> Generator[Row, None, int]:
    """Yield the rows of whole lines, up to one that is not the beginning of a whole record there."""
    first, origin, header, width = lines.first, table.origin, table.header, len(table.header)
    reader = table.options.cells(io.StringIO(text, newline="\n"), origin)
    done = 0
    is_plain = table.convert is None
    kept: list[str] = []

    def line() -> str:
        if not kept:
            kept.extend(io.StringIO(text, newline="\n"))
        return "".join(kept[done : reader.line_num]).rstrip("\r\n")

    try:
        for cells in reader:
            if cells:
                position += 1
                if is_plain and len(cells) == width and "" not in cells:
                    yield Row(position, origin, first + done, dict(zip(header, cells)))  # noqa: B905 - counted
                else:
                    yield Row(position, origin, first + done, table.record(cells, line))
            done = reader.line_num
    except csv.Error:
        lines.ahead.extend(io.BytesIO(block).readlines()[done:])
    lines.first = first + done
    return position


def _rows_by_record(lines: _Lines, reader: CellReader, table: _Table, position: int) -> Generator[Row, None, int]:
    """Yield the rows of the lines that were read ahead, and of those that their last record goes on in."""
    origin = table.origin
    while lines.ahead:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            for number, text in enumerate(lines.taken, lines.first):
                position += 1
                yield Row(position, origin, number, Unreadable("not CSV", str(error), text.rstrip("\r\n")[:_KEPT]))
        except _RecordTooLong:
            position += 1
            yield Row(position, origin, lines.first, _too_long(lines, origin))
        else:
            if cells:
                position += 1
                yield Row(position, origin, lines.first, table.record(cells, lambda: _text(lines)))
        lines.begin_record()
    return position


def _open(stream: BinaryIO, origin: str, options: CsvOptions) -> tuple[_Lines, CellReader]:
    # The limit is the whole process's and by default so low that long texts look like broken quotation marks; ours is
    # held by counting bytes.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_RECORD))
    lines = _Lines(stream, options.encoding)
    for _ in range(options.skip_lines):
        lines.skip()
    return lines, options.cells(lines, origin)


def _read_header(lines: _Lines, reader: CellReader, origin: str, options: CsvOptions) -> Sequence[str]:
    if options.header is not None:
        return options.header
    try:
        cells = next((cells for cells in reader if cells), [])
    except (csv.Error, _RecordTooLong) as error:
        raise SourceError(f"{origin!r}: the header line is not CSV: {error}") from None
    lines.begin_record()
    header = [name.strip() for name in cells]
    if header and (header[0].startswith(("\udcff", "\udcfe")) or "\0" in header[0]):
        raise SourceError(f"{origin!r} is not UTF-8 text; it looks like UTF-16: convert it")
    if len(header) == 1 and (sign := options.other_separator(header[0], origin)):
        raise SourceError(
            f"{origin!r}: the columns seem to be separated by {sign!r}: set csv_options={{'delimiter': {sign!r}}}"
        )
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
