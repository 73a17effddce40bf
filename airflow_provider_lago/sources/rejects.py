"""``rejected.jsonl`` as a source: the records that an earlier delivery could not deliver, to be delivered again."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import BinaryIO

import msgspec

from airflow_provider_lago.sources.json_lines import read_json_lines
from airflow_provider_lago.sources.rows import BEGINNING, Row, Start, Unreadable

#: What a report's file of rejects is called, and those of earlier runs beside it.
NAME = re.compile(r"rejected(\.[0-9]+)?\.jsonl")

#: What a report keeps of a record that cannot be read again, in bytes.
_KEPT = 2_000


class _Reject(msgspec.Struct):
    """What makes a line one of a report, and not a record of a file that happens to be called so."""

    position: int
    origin: str
    line: int
    reason: str
    detail: str
    record: msgspec.Raw
    payload: msgspec.Raw
    run: msgspec.Raw
    #: Whether JSON cannot show the record as it was: what it shows must not be delivered in its place.
    altered: bool = False


_read = msgspec.json.Decoder(_Reject).decode


def read_rejects(
    stream: BinaryIO, origin: str, start: Start = BEGINNING, mark: Callable[[Start], None] | None = None
) -> Generator[Row, None, int]:
    """
    Yield the record of each line, with the place in the source that it came from at first.

    Records as they were read, and not what shaping made of them: so another shaping can make them right, and an id that
    is derived from a record is the same. A line that is no report's is a record itself.

    :param stream: The open file.
    :param origin: Its name.
    :param start: Where to begin.
    :param mark: Called now and then with a place at which reading may begin another time.
    :return: Number of records up to the end of this file.
    """
    rows = read_json_lines(stream, origin, start, mark)
    while True:
        try:
            row = next(rows)
        except StopIteration as end:
            position: int = end.value
            return position
        yield _unwrapped(row)


def _unwrapped(row: Row) -> Row:
    if not isinstance(row.data, bytes):
        return row
    try:
        reject = _read(row.data)
    except msgspec.DecodeError:
        return row
    data = bytes(reject.record)
    if reject.altered and data[:1] == b"{":
        text = data[:_KEPT].decode("utf-8", "replace")
        return Row(row.position, reject.origin, reject.line, Unreadable(reject.reason, reject.detail, text))
    if data[:1] in b'"n':  # a text that was no record, or none at all: it still is not
        return Row(row.position, reject.origin, reject.line, Unreadable(reject.reason, reject.detail, _text(data)))
    return Row(row.position, reject.origin, reject.line, data)


def _text(data: bytes) -> str:
    text = msgspec.json.decode(data)
    return text if isinstance(text, str) else ""
