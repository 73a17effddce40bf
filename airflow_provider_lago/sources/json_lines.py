"""JSONL: one JSON object a line."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import BinaryIO

from airflow_provider_lago.sources.rows import BEGINNING, Row, Start, Unreadable

#: The longest line that is read as a record, in bytes: beyond it the memory of a delivery would depend on its input.
#: Reverse proxies before Lago refuse bodies of 1 MiB and more anyway.
LONGEST_LINE = 4 << 20

#: Every so-manieth record is one behind which reading may begin another time.
_MARKED = 1_000

#: What a report keeps of a line that is not a record, in bytes.
_KEPT = 2_000

_BOM = b"\xef\xbb\xbf"


def read_json_lines(
    stream: BinaryIO, origin: str, start: Start = BEGINNING, mark: Callable[[Start], None] | None = None
) -> Generator[Row, None, int]:
    """
    Yield a row for each line that is not blank; its JSON is left to be decoded where it is checked.

    :param stream: The open file.
    :param origin: Its name.
    :param start: Where to begin.
    :param mark: Called now and then with a place at which reading may begin another time.
    :return: Number of records up to the end of this file.
    """
    position = start.position
    if start.offset:
        stream.seek(start.offset)
    for number, line in enumerate(iter(partial(stream.readline, LONGEST_LINE), b""), start.line + 1):
        text = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            position += 1
            yield Row(position, origin, number, _skip_rest(stream, line))
        elif text:
            position += 1
            if not position % _MARKED and mark is not None:
                mark(Start(position, start.file, number, stream.tell()))
            yield Row(position, origin, number, text)
    return position


def _skip_rest(stream: BinaryIO, head: bytes) -> Unreadable:
    size = len(head)
    while piece := stream.readline(LONGEST_LINE):
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    hint = ": is it one JSON array? Write one object a line" if head.lstrip().startswith(b"[") else ""
    return Unreadable(
        "line too long",
        f"{size:,} bytes, more than the {LONGEST_LINE:,} that are read as one record{hint}",
        head[:_KEPT].decode("utf-8", "replace"),
    )
