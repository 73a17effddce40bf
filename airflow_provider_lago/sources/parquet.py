"""Parquet: one record a row, read a few thousand rows at a time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from functools import partial
from itertools import accumulate, repeat
from typing import Any, BinaryIO

from airflow_provider_lago.sources.arrow_values import ArrowValues, as_dicts, as_uuids
from airflow_provider_lago.sources.rows import Row, SourceError, Start
from airflow_provider_lago.sources.unfit import whole

#: Rows that are held as Python objects at a time: at most, and what they may take as the file says.
_ROWS = 4_096
_BATCH_BYTES = 4 << 20

#: Packed row groups up to this size are read column by column, which suits object stores; of larger ones each column
#: has a window that moves on, as the memory of a delivery must not depend on how a file was written.
_WHOLE_GROUP = 32 << 20
_WINDOWS = 16 << 20
_SMALLEST_WINDOW = 64 << 10

_MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"


def read_parquet(
    stream: BinaryIO,
    origin: str,
    start: Start,
    mark: Callable[[Start], None],
    *,
    columns: Collection[str] | None = None,
    row_groups: tuple[int, int] | None = None,
) -> Generator[Row, None, int]:
    """
    Yield a row for each row of the table; see :meth:`.ArrowValues.of` for what values are.

    :param stream: The open file.
    :param origin: Its name.
    :param start: Where to begin: ``offset`` is the row group, ``line`` the number of rows before in the file.
    :param mark: Called with places at which reading may begin another time.
    :param columns: Top-level columns to read, others cost nothing; None for all. Those that the file lacks are not in
        the records.
    :param row_groups: Which row groups to read: the first one, and the one to stop before; None for all.
    :return: Number of records up to the end of this file.
    :raises SourceError: if it is not a Parquet file, or one that is damaged, encrypted or has two columns of a name.
    """
    table = _Table(stream, origin, columns)
    first, last = row_groups or (0, table.groups)
    if not 0 <= first <= last <= table.groups:
        raise SourceError(
            f"{origin!r} has {table.groups} row groups, and those from {first} up to {last} are to be read: the file "
            "is another one than when its parts were planned"
        )
    first = min(max(first, start.offset), last)
    position = start.position
    line = table.rows_before(first)
    for group in range(first, last):
        skipped = max(0, start.line - line) if group == start.offset else 0
        for count, records in table.records(group, skipped):
            if position != start.position:
                mark(Start(position, start.file, line + skipped, group))
            positions = range(position + 1, position + count + 1)
            lines = range(line + skipped + 1, line + skipped + count + 1)
            yield from map(Row, positions, repeat(origin), lines, records)
            position += count
            skipped += count
        line += table.rows(group)
        table.release()
    return position


def row_group_sizes(stream: BinaryIO, origin: str) -> list[tuple[int, int]]:
    """
    Return the number of rows, and about how many bytes they take in the file, of each row group.

    :param stream: The open file.
    :param origin: Its name.
    :raises SourceError: as :func:`read_parquet`.
    """
    table = _Table(stream, origin, None)
    return [(table.rows(group), table.packed_bytes(group)) for group in range(table.groups)]


class _Watched:
    """
    A file for Arrow that remembers its own fault: a store that cannot be reached does not make a file a damaged one.

    :param stream: The open file.
    """

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.fault: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException as fault:
            self.fault = fault
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._stream.seek(offset, whence)
        except BaseException as fault:
            self.fault = fault
            raise

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class _Table:
    """
    A Parquet file.

    :param stream: The open file.
    :param origin: Its name.
    :param columns: Top-level columns to read; None for all.
    :raises SourceError: if it cannot be read.
    """

    def __init__(self, stream: BinaryIO, origin: str, columns: Collection[str] | None) -> None:
        self._origin = origin
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError:
            raise SourceError(
                f"{origin!r}: reading Parquet needs pyarrow: pip install 'airflow-provider-lago[parquet]'"
            ) from None
        self._pa = pa
        self._watched = _Watched(stream)
        self._size = _check_frame(stream, origin)
        meta = self._try("its footer cannot be read", lambda: parquet.ParquetFile(self._watched).metadata)
        self._meta = meta
        self.groups: int = meta.num_row_groups
        self._rows = [int(meta.row_group(group).num_rows) for group in range(self.groups)]
        self._before = [0, *accumulate(self._rows)]
        self._unpacked = [max(1, int(meta.row_group(group).total_byte_size)) for group in range(self.groups)]
        self._all_unpacked = sum(self._unpacked)
        schema = self._try("its schema cannot be read", meta.schema.to_arrow_schema)
        self._check_names(schema)
        self._names = frozenset(name for name in schema.names if columns is None or name in columns)
        self._wanted = None if columns is None else list(self._names)
        self._uuids = _uuid_columns(meta.schema)
        self._file = self._try(
            "it cannot be read",
            lambda: parquet.ParquetFile(
                self._watched,
                metadata=meta,
                buffer_size=self._window(),
                pre_buffer=False,
                # Spark's old type of times: in nanoseconds, the year 9999 would become another one without a word.
                coerce_int96_timestamp_unit="us",
                page_checksum_verification=True,
            ),
        )

    def rows(self, group: int) -> int:
        """Return the number of rows of a row group."""
        return self._rows[group]

    def rows_before(self, group: int) -> int:
        """Return the number of rows before a row group."""
        return self._before[group]

    def packed_bytes(self, group: int) -> int:
        """Return about how many bytes a row group takes in the file: its share of what it takes when it is unpacked."""
        # The sizes of the columns would be exact, but asking for them ends the process where the footer is damaged.
        return self._size * self._unpacked[group] // self._all_unpacked

    def release(self) -> None:
        """Give back the memory that Arrow keeps for what it reads next."""
        self._pa.default_memory_pool().release_unused()

    def records(self, group: int, skipped: int) -> Iterator[tuple[int, Iterator[Any]]]:
        """
        Yield the records of a row group, a few thousand at a time with their number: dicts, or why there is none.

        :param group: Its number.
        :param skipped: Number of records to leave out at its beginning.
        :raises SourceError: if it is damaged.
        """
        seen = 0
        batches = self._try(
            self._damage(group, 0),
            lambda: self._file.iter_batches(
                batch_size=self._batch_size(group), row_groups=[group], columns=self._wanted, use_threads=False
            ),
        )
        while True:
            batch = self._try(self._damage(group, seen), lambda: next(batches, None))
            if batch is None:
                break
            seen += batch.num_rows
            new = min(batch.num_rows, seen - skipped)
            if new > 0:
                yield new, self._records(batch.slice(batch.num_rows - new))
        if seen != self.rows(group):
            raise SourceError(
                f"{self._origin!r}: row group {group} has {seen:,} rows, and {self.rows(group):,} in its footer: the "
                "file is damaged, write it again"
            )

    def _records(self, batch: Any) -> Iterator[Any]:
        values = ArrowValues()
        columns = {}
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if name in self._names:  # a column "a.b" comes along where "a" is asked for
                found = self._try(f"column {name!r} ({array.type}) cannot be read", partial(values.of, array))
                columns[name] = as_uuids(found) if name in self._uuids and _holds_bytes(found) else found
        if not columns:
            return ({} for _ in range(batch.num_rows))
        records = as_dicts(list(columns), list(columns.values()))
        return map(whole, records) if values.has_unfit else records

    def _batch_size(self, group: int) -> int:
        a_row = self._unpacked[group] // max(1, self.rows(group))
        return max(1, min(_ROWS, _BATCH_BYTES // max(1, a_row)))

    def _window(self) -> int:
        """Return how many bytes of a column are read at a time; 0 for the whole column of a row group."""
        if all(self.packed_bytes(group) <= _WHOLE_GROUP for group in range(self.groups)):
            return 0
        columns: int = max(1, self._meta.num_columns)
        return max(_SMALLEST_WINDOW, _WINDOWS // columns)

    def _check_names(self, schema: Any) -> None:
        if not schema.names:
            raise SourceError(f"{self._origin!r} has no columns")
        twice = _twice(schema.names) or next(filter(None, map(_twice_within, schema.types)), None)
        if twice is not None:
            raise SourceError(f"{self._origin!r} has two columns {twice!r}: which one is meant cannot be known")

    def _damage(self, group: int, seen: int) -> str:
        first, last = self._before[group] + seen + 1, self._before[group + 1]
        return f"row {first:,} and those behind it cannot be read (row group {group} ends with row {last:,})"

    def _try(self, problem: str, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except (self._pa.ArrowException, OSError, ValueError) as error:
            if self._watched.fault is not None:
                raise self._watched.fault from None
            encrypted = "encrypt" in str(error).lower() or "decrypt" in str(error).lower()
            fix = "it is encrypted, which is not read" if encrypted else "the file is damaged, write it again"
            raise SourceError(f"{self._origin!r}: {problem}: {_line(error)}; {fix}") from None


def _check_frame(stream: BinaryIO, origin: str) -> int:
    """Return the size of a file. What is no Parquet file is told from one that is damaged."""
    size = stream.seek(0, os.SEEK_END)
    if not size:
        raise SourceError(f"{origin!r} is empty: a Parquet file without rows is not; was it written to its end?")
    stream.seek(0)
    head = stream.read(len(_MAGIC))
    stream.seek(max(0, size - len(_MAGIC)))
    tail = stream.read(len(_MAGIC))
    stream.seek(0)
    if _ENCRYPTED in (head, tail):
        raise SourceError(f"{origin!r} is encrypted, which is not read: write it without encryption")
    if head != _MAGIC:
        raise SourceError(f"{origin!r} is not a Parquet file: it does not begin with {_MAGIC.decode()}")
    if tail != _MAGIC:
        raise SourceError(
            f"{origin!r} is cut off: it does not end with {_MAGIC.decode()}; was it written and copied to its end?"
        )
    return size


def _uuid_columns(schema: Any) -> frozenset[str]:
    """Return the columns that are UUIDs, which old versions of pyarrow give as bytes."""
    columns = map(schema.column, range(len(schema)))
    return frozenset(
        column.path for column in columns if column.path == column.name and column.logical_type.type == "UUID"
    )


def _holds_bytes(values: list[Any]) -> bool:
    return any(type(value) is bytes for value in values)


def _twice(names: list[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _twice_within(kind: Any) -> str | None:
    fields = [kind.field(number) for number in range(kind.num_fields)]
    own = _twice([field.name for field in fields])
    return own or next((found for found in (_twice_within(field.type) for field in fields) if found), None)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
