"""Avro object container files: one record after the other, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, BinaryIO
from uuid import UUID

from airflow_provider_lago.sources.moments import of_microseconds, of_nanoseconds
from airflow_provider_lago.sources.rows import Row, SourceError, Start
from airflow_provider_lago.sources.unfit import Unfit, whole

_MAGIC = b"Obj\x01"

#: Blocks are some hundred KiB; a length beyond this is damage, and would be asked for in memory.
_LONGEST_BLOCK = 256 << 20

#: Logical types get names of our own in the schema, as fastavro's readers round decimals that are longer than they are
#: declared, do not know nanoseconds, and end the whole file at a value that Python does not have.
_OURS = "lago-"
_FAULTS = "lago-faults"

#: Marks parts of a schema that were seen: a record may hold itself.
_SEEN = "lago-seen"


def read_avro(stream: BinaryIO, origin: str, start: Start, mark: Callable[[Start], None]) -> Generator[Row, None, int]:
    """
    Yield a row for each record.

    Decimals keep their scale. Timestamps are datetimes, aware ones in UTC; ISO 8601 text where they have digits below a
    microsecond. Durations, which have months, are ISO 8601 text. Other bytes stay bytes.

    :param stream: The open file.
    :param origin: Its name.
    :param start: Where to begin: ``offset`` is that of a block, ``line`` the number of records before it in the file.
    :param mark: Called with each block at which reading may begin another time.
    :return: Number of records up to the end of this file.
    :raises SourceError: if it is not an Avro file, or a damaged one.
    """
    container = _Container(stream, origin)
    if start.offset:
        stream.seek(start.offset)
    position, line = start.position, start.line
    for block in container.blocks():
        if position != start.position:
            mark(Start(position, start.file, line, block.offset))
        for record in container.records(block, line):
            position += 1
            line += 1
            yield Row(position, origin, line, record)
    return position


class _Watched:
    """
    A file for fastavro that remembers its own fault: a store that cannot be reached does not make a file a damaged one.

    :param stream: The open file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.fault: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_BLOCK:
            raise ValueError(f"a length of {size:,} bytes")
        try:
            return self._stream.read(size)
        except BaseException as fault:
            self.fault = fault
            raise

    def tell(self) -> int:
        return self._stream.tell()


class _Container:
    """
    An Avro file.

    :param stream: The open file.
    :param origin: Its name.
    :raises SourceError: if it is none, or its header cannot be read.
    """

    def __init__(self, stream: BinaryIO, origin: str) -> None:
        self._origin = origin
        self._stream = stream
        self._watched = _Watched(stream)
        self._faults: list[Unfit] = []
        try:
            import fastavro
        except ImportError:
            raise SourceError(
                f"{origin!r}: reading Avro needs fastavro: pip install 'airflow-provider-lago[avro]'"
            ) from None
        self._size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        head = stream.read(len(_MAGIC))
        stream.seek(0)
        if not head:
            raise SourceError(f"{origin!r} is empty: an Avro file without records is not; was it written to its end?")
        if head != _MAGIC:
            raise SourceError(f"{origin!r} is not an Avro file: it does not begin with 'Obj' and 1")
        try:
            file: Any = self._watched
            self._blocks = fastavro.block_reader(file, handle_unicode_errors="surrogateescape")
        except Exception as error:  # noqa: BLE001 - whatever a damaged header makes of the schema
            raise self._damage("its header cannot be read", error) from None
        schema = self._blocks.writer_schema
        kind = schema.get("type") if isinstance(schema, dict) else schema
        if kind != "record" and not isinstance(kind, list):
            raise SourceError(f"{origin!r} has no records: the type of its values is {kind!r}")
        _register_readers()
        _use_own_readers(schema, self._faults)

    def blocks(self) -> Iterator[Any]:
        """
        Yield the blocks.

        :raises SourceError: if one is damaged, or the last one cut off.
        """
        end = self._stream.tell()
        while True:
            try:
                block = next(self._blocks, None)
            except Exception as error:  # noqa: BLE001 - every codec has exceptions of its own
                raise self._damage(f"the block at byte {end:,} and what follows cannot be read", error) from None
            if block is None:
                break
            if block.num_records < 0:
                raise self._damage(f"the block at byte {end:,} and what follows cannot be read", "a negative count")
            end = block.offset + block.size
            yield block
        if end != self._size:
            raise self._damage(f"the block at byte {end:,} cannot be read", "the file ends within it")

    def records(self, block: Any, before: int) -> Iterator[Any]:
        """
        Yield the records of a block: dicts, or why there is none.

        :param block: The block.
        :param before: Number of records before it in the file.
        :raises SourceError: if it is damaged.
        """
        faults = self._faults
        records = iter(block)
        for number in range(before + 1, before + 1 + block.num_records):
            try:
                record = next(records)
            except Exception as error:  # noqa: BLE001 - whatever reading the wrong bytes leads to
                where = f"record {number:,} and those behind it cannot be read (block at byte {block.offset:,})"
                raise self._damage(where, error) from None
            if faults:
                faults.clear()
                yield whole(record)
            else:
                yield record
        if block.bytes_.read(1):
            where = (
                f"what follows record {before + block.num_records:,} cannot be read (block at byte {block.offset:,})"
            )
            raise self._damage(where, "the block holds more than its records")

    def _damage(self, problem: str, error: BaseException | str) -> BaseException:
        if self._watched.fault is not None:
            return self._watched.fault
        text = " ".join(str(error).split())[:300] or type(error).__name__
        if "need to install" in text:
            return SourceError(f"{self._origin!r}: {text}: pip install 'airflow-provider-lago[avro]'")
        if "Unrecognized codec" in text:
            return SourceError(f"{self._origin!r}: {text}, which is not read: write it with deflate or snappy")
        return SourceError(f"{self._origin!r}: {problem}: {text}; the file is damaged, write it again")


def _use_own_readers(schema: Any, faults: list[Unfit]) -> None:
    """Change the names of the logical types that we read ourselves, everywhere in a schema."""
    if isinstance(schema, list):
        for branch in schema:
            _use_own_readers(branch, faults)
    if not isinstance(schema, dict) or schema.get(_SEEN):
        return
    schema[_SEEN] = True
    if isinstance(schema.get("type"), str) and f"{schema['type']}-{schema.get('logicalType')}" in _READERS:
        schema["logicalType"] = _OURS + schema["logicalType"]
        schema[_FAULTS] = faults
    for field in schema.get("fields", ()):
        _use_own_readers(field["type"], faults)
    for part in ("type", "items", "values"):
        _use_own_readers(schema.get(part), faults)


@cache
def _register_readers() -> None:
    from fastavro.read import LOGICAL_READERS

    for name, convert in _READERS.items():
        kind, _, logical = name.partition("-")
        LOGICAL_READERS[f"{kind}-{_OURS}{logical}"] = _guarded(logical, convert)


def _guarded(logical: str, convert: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def read(data: Any, writer_schema: Any, reader_schema: Any = None) -> Any:
        try:
            return convert(data, writer_schema)
        except (ValueError, ArithmeticError) as error:
            shown = data.hex() if isinstance(data, bytes) else data
            unfit = Unfit(f"{str(shown)[:100]} as {logical} has no value in Python: {error}")
            writer_schema[_FAULTS].append(unfit)
            return unfit

    return read


def _decimal(data: bytes, schema: Any) -> Decimal:
    return Decimal(f"{int.from_bytes(data, 'big', signed=True)}E-{schema.get('scale', 0)}")


def _date(data: int, schema: Any) -> date:
    return date.fromordinal(date(1970, 1, 1).toordinal() + data)


def _time(microseconds: int) -> time:
    if not 0 <= microseconds < 86_400_000_000:
        raise ValueError("not within a day")
    return (datetime.min + timedelta(0, 0, microseconds)).time()


def _uuid(data: str | bytes, schema: Any) -> UUID | str | bytes:
    try:
        return UUID(bytes=data) if isinstance(data, bytes) else UUID(data)
    except ValueError:  # something else under the name of one
        return data


def _duration(data: bytes, schema: Any) -> str | bytes:
    if len(data) != 12:
        return data
    months, days, milliseconds = (int.from_bytes(data[begin : begin + 4], "little") for begin in (0, 4, 8))
    seconds = f"{milliseconds // 1_000}.{milliseconds % 1_000:03d}".rstrip("0").rstrip(".")
    return f"P{months}M{days}DT{seconds}S"


#: type-logical type -> (value as it is stored, its schema) -> value
_READERS: dict[str, Callable[[Any, Any], Any]] = {
    "bytes-decimal": _decimal,
    "fixed-decimal": _decimal,
    "int-date": _date,
    "int-time-millis": lambda data, schema: _time(data * 1_000),
    "long-time-micros": lambda data, schema: _time(data),
    "long-timestamp-millis": lambda data, schema: of_microseconds(data * 1_000, is_utc=True),
    "long-timestamp-micros": lambda data, schema: of_microseconds(data, is_utc=True),
    "long-timestamp-nanos": lambda data, schema: of_nanoseconds(data, is_utc=True),
    "long-local-timestamp-millis": lambda data, schema: of_microseconds(data * 1_000, is_utc=False),
    "long-local-timestamp-micros": lambda data, schema: of_microseconds(data, is_utc=False),
    "long-local-timestamp-nanos": lambda data, schema: of_nanoseconds(data, is_utc=False),
    "string-uuid": _uuid,
    "fixed-uuid": _uuid,
    "fixed-duration": _duration,
}
