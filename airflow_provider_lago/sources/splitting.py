"""Where a file may be cut, so that several tasks read it: between two records, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO

from airflow_provider_lago.sources.csv_lines import record_ends
from airflow_provider_lago.sources.csv_options import CsvOptions

#: Bytes that are looked at together.
_BLOCK = 1 << 20


def cut_lines(stream: BinaryIO, targets: Sequence[int]) -> list[int]:
    """
    Return the first beginnings of lines at or after some offsets.

    :param stream: A file of lines.
    :param targets: Offsets, in order, each above 0.
    """
    cuts = []
    for target in targets:
        stream.seek(target - 1)
        while (piece := stream.readline(_BLOCK)) and not piece.endswith(b"\n"):
            pass
        cuts.append(stream.tell())
    return cuts


def cut_table(stream: BinaryIO, origin: str, targets: Sequence[int], options: CsvOptions) -> list[int]:
    """
    Return the first beginnings of records at or after some offsets of a CSV file.

    A line break in a quoted cell is none between records, and only who reads from the beginning knows which quotes
    open a cell: where the file has quotes, it is read as it is read for a delivery.

    :param stream: The file.
    :param origin: Its name.
    :param targets: Offsets, in order, each above 0.
    :param options: How it is written.
    :raises SourceError: if it cannot be read as a whole.
    """
    ends = record_ends(stream, origin, options)
    begin = next(ends)
    after = [target for target in targets if target > begin]  # the first part is not the header alone
    signs = [sign.encode(options.encoding) for sign in (options.quotechar, options.escapechar) if sign is not None]
    here = stream.tell()
    if not _holds(stream, signs):
        return cut_lines(stream, after)
    stream.seek(here)
    return _first_at_or_after(ends, after)


def _holds(stream: BinaryIO, signs: Iterable[bytes]) -> bool:
    stream.seek(0)
    while block := stream.read(_BLOCK):
        if any(sign in block for sign in signs):
            return True
    return False


def _first_at_or_after(ends: Iterable[int], targets: Sequence[int]) -> list[int]:
    cuts: list[int] = []
    last = 0
    for last in ends:
        while len(cuts) < len(targets) and targets[len(cuts)] <= last:
            cuts.append(last)
        if len(cuts) == len(targets):
            break
    return cuts + [last] * (len(targets) - len(cuts))
