"""Arrow columns -> Python values, exact and column by column, which is many times faster than value by value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise, repeat
from typing import Any
from uuid import UUID

from airflow_provider_lago.sources.moments import EPOCH, EPOCH_UTC, of_nanoseconds
from airflow_provider_lago.sources.unfit import Unfit

#: What one second is in each unit.
_PARTS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class ArrowValues:
    """Converts columns, and remembers whether a value could not be converted."""

    def __init__(self) -> None:
        #: Whether an :class:`Unfit` was handed out since this was last set to False.
        self.has_unfit = False

    def of(self, array: Any) -> list[Any]:
        """
        Return the values of a column; None for null.

        - Decimals keep their scale, and binary floats are what was stored.
        - Timestamps are datetimes: aware ones in UTC where the file says that they are moments, else naive. What a
          datetime cannot hold, digits below a microsecond or years beyond 9999, is ISO 8601 text with every digit.
        - Bytes of variable length are text, as many writers store text so; those that are not UTF-8 are carried along
          as surrogate escapes, and cost the record only where it uses them. Those of fixed length are bytes.
        - Structs and maps are dicts, lists are lists.
        """
        import pyarrow as pa

        kind = array.type
        types = pa.types
        if isinstance(kind, pa.BaseExtensionType):
            values = self.of(array.storage)
            return as_uuids(values) if kind.extension_name == "arrow.uuid" else values
        if types.is_dictionary(kind):
            return self.of(array.dictionary_decode())
        if types.is_struct(kind):
            return self._structs(array)
        if types.is_map(kind):
            return self._maps(array)
        if types.is_nested(kind) and not types.is_union(kind):
            return self._lists(array)
        return self._plain(array, _converters().get(kind.id, _any))

    def _plain(self, array: Any, convert: Callable[[Any], list[Any]]) -> list[Any]:
        import pyarrow as pa

        try:
            return convert(array)
        except (pa.ArrowException, ValueError, ArithmeticError, TypeError) as error:
            if len(array) != 1:  # to cost only the records that hold such a value
                return [self._plain(array.slice(number, 1), convert)[0] for number in range(len(array))]
            return [self._unfit(f"a {array.type} that has no value in Python: {error}")]

    def _structs(self, array: Any) -> list[Any]:
        names = [field.name for field in array.type]
        return _with_nulls(array, list(as_dicts(names, [self.of(column) for column in array.flatten()])))

    def _lists(self, array: Any) -> list[Any]:
        items = self.of(array.flatten())
        values: list[Any] = []
        end = 0
        for length in array.value_lengths().to_pylist():
            begin, end = end, end + (length or 0)
            values.append(None if length is None else items[begin:end])
        return values

    def _maps(self, array: Any) -> list[Any]:
        offsets = array.offsets.to_pylist()
        first, size = offsets[0], offsets[-1] - offsets[0]
        keys = self.of(array.keys.slice(first, size))
        items = self.of(array.items.slice(first, size))
        values: list[Any] = []
        for begin, end in pairwise(offsets):
            window = slice(begin - first, end - first)
            value = _mapping(keys[window], items[window])
            values.append(value if value is not None else self._unfit("a map that has a key twice"))
        return _with_nulls(array, values)

    def _unfit(self, reason: str) -> Unfit:
        self.has_unfit = True
        return Unfit(reason)


def as_dicts(names: Sequence[str], columns: Sequence[list[Any]]) -> Iterator[dict[str, Any]]:
    """Return a dict for each row of some columns. Without a line of Python for each, which would double the cost."""
    return map(dict, map(zip, repeat(names), zip(*columns, strict=True)))


def as_uuids(values: list[Any]) -> list[Any]:
    """Return UUIDs of the sixteen bytes of each."""
    return [None if value is None else UUID(bytes=value) for value in values]


def _mapping(keys: list[Any], items: list[Any]) -> dict[Any, Any] | None:
    """Return a dict; None where it would lack an item, or not be what the file says."""
    try:
        mapping = dict(zip(keys, items, strict=True))
    except TypeError:  # a key that is a list or a struct
        return None
    return mapping if len(mapping) == len(keys) else None


def _with_nulls(array: Any, values: list[Any]) -> list[Any]:
    if not array.null_count:
        return values
    return [value if valid else None for value, valid in zip(values, array.is_valid().to_pylist(), strict=True)]


def _any(array: Any) -> list[Any]:
    values: list[Any] = array.to_pylist()
    return values


def _half_floats(array: Any) -> list[Any]:
    import pyarrow as pa

    return _any(array.cast(pa.float32()))  # pyarrow before 21 ends the process over these where numpy is missing


def _texts(array: Any) -> list[Any]:
    try:
        return _any(array)
    except UnicodeDecodeError:  # writers do not always check
        import pyarrow as pa

        return _byte_texts(array.cast(pa.large_binary()))


def _byte_texts(array: Any) -> list[Any]:
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in _any(array)]


def _decimals(array: Any) -> list[Any]:
    import pyarrow as pa

    try:
        texts = array.cast(pa.string()).to_pylist()
    except pa.ArrowNotImplementedError:
        return _any(array)
    if array.null_count:
        return [None if text is None else Decimal(text) for text in texts]
    return list(map(Decimal, texts))


def _dates(array: Any) -> list[Any]:
    try:
        return _any(array)
    except (ValueError, OverflowError):
        if len(array) != 1:
            raise
        return _iso(array)


def _timestamps(array: Any) -> list[Any]:
    import pyarrow as pa

    zone, unit = array.type.tz, array.type.unit
    if unit == "ns":
        try:
            array, unit = array.cast(pa.timestamp("us", zone)), "us"
        except pa.ArrowInvalid:
            counts = array.cast(pa.int64()).to_pylist()
            return [None if n is None else of_nanoseconds(n, is_utc=zone is not None) for n in counts]
    epoch = EPOCH if zone is None else EPOCH_UTC
    factor = 1_000_000 // _PARTS[unit]
    numbers = array.cast(pa.int64()).to_pylist()
    try:
        if array.null_count or factor != 1:
            return [None if n is None else epoch + timedelta(0, 0, n * factor) for n in numbers]
        return [epoch + timedelta(0, 0, n) for n in numbers]
    except OverflowError:
        if len(array) != 1:
            raise
        moments = array.cast(pa.timestamp(array.type.unit))  # its text takes no database of time zones then
        return [text if zone is None else f"{text}Z" for text in _iso(moments)]


def _times(array: Any) -> list[Any]:
    import pyarrow as pa

    day = 86_400 * _PARTS[array.type.unit]
    counts = array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64()).to_pylist()
    if any(count is not None and not 0 <= count < day for count in counts):
        raise ValueError("not within a day")  # Arrow would begin the day again
    if array.type.unit == "ns":
        try:
            array = array.cast(pa.time64("us"))
        except pa.ArrowInvalid:
            if len(array) != 1:
                raise
            return _iso(array)
    return _any(array)


def _durations(array: Any) -> list[Any]:
    import pyarrow as pa

    return _any(array.cast(pa.duration("us")) if array.type.unit == "ns" else array)


def _iso(array: Any) -> list[Any]:
    """Return texts as Arrow writes them, which knows years and digits that Python's types do not."""
    import pyarrow as pa

    texts = array.cast(pa.string()).to_pylist()
    if any(text is not None and text.startswith("<") for text in texts):  # "<value out of range: ...>"
        raise ValueError("a time that has no year")
    return [None if text is None else text.replace(" ", "T") for text in texts]


@cache
def _converters() -> dict[int, Callable[[Any], list[Any]]]:
    from pyarrow import lib

    by_name = {
        "STRING": _texts,
        "LARGE_STRING": _texts,
        "STRING_VIEW": _texts,
        "BINARY": _byte_texts,
        "LARGE_BINARY": _byte_texts,
        "BINARY_VIEW": _byte_texts,
        "DECIMAL32": _decimals,
        "DECIMAL64": _decimals,
        "DECIMAL128": _decimals,
        "DECIMAL256": _decimals,
        "HALF_FLOAT": _half_floats,
        "DATE32": _dates,
        "DATE64": _dates,
        "TIMESTAMP": _timestamps,
        "TIME32": _times,
        "TIME64": _times,
        "DURATION": _durations,
    }
    return {getattr(lib, f"Type_{name}"): convert for name, convert in by_name.items() if hasattr(lib, f"Type_{name}")}
