"""Records that are already Python objects: a literal, or what another task returned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_lago.sources.rows import BEGINNING, RECORDS, Row, SourceError, Start

_encode = msgspec.json.Encoder(enc_hook=repr).encode

#: Longer texts are surely not a list of records that somebody meant to read in a message.
_SHOWN = 80


class ValueSource:
    """
    Records from ``records``: one dict, a list of dicts, or the XComs of mapped tasks (lists of lists are joined).

    :param records: What the operator was given, templates and XComs resolved.
    :raises SourceError: if it is not one dict or an iterable of records.
    """

    def __init__(self, records: Any) -> None:
        if isinstance(records, Mapping):
            records = [records]
        if records is None or isinstance(records, (str, bytes)) or not isinstance(records, Iterable):
            raise SourceError(_explain(records))
        # The XComs of mapped tasks ask Airflow for each element when it is read, which the thread that delivers must
        # not do (Airflow 2.11 would use the main thread's database connection); a slice asks for all at once.
        self._records = _whole(records) if isinstance(records, Sequence) else records
        # A generator is the user's code, and runs when its next record is asked for.
        self.is_foreign = not isinstance(records, Sequence)
        self._size = len(self._records) if isinstance(self._records, Sequence) else None
        self._read = 0

    def __str__(self) -> str:
        return f"{RECORDS} ({self._size:,} elements)" if self._size is not None else RECORDS

    def rows(self, start: Start = BEGINNING) -> Iterator[Row]:
        """Yield all records in order; an element that is itself a list is what one mapped task returned."""
        position = 0
        for element in self._records:
            for record in element if _is_list_of_records(element) else (element,):
                position += 1
                yield Row(position, RECORDS, position, record)
            self._read += 1

    def start_after(self, position: int) -> Start:
        """Return the beginning: reading records that are at hand costs nothing."""
        return BEGINNING

    def fingerprint(self) -> str | None:
        """Return a hash of the content; None for what can be read only once."""
        if not isinstance(self._records, Sequence):
            return None
        digest = hashlib.blake2b(digest_size=16)
        try:
            for element in self._records:
                digest.update(_encode(element) + b"\n")
        except Exception:  # noqa: BLE001 - records may hold anything; one that no JSON can show is rejected later
            return None
        return digest.hexdigest()

    def share_done(self) -> float | None:
        """Share of the list; unknown for lazy sequences."""
        return self._read / self._size if self._size else None


def _whole(records: Sequence[Any]) -> Sequence[Any]:
    try:
        return records[:]
    except TypeError:  # a deque is a sequence without slices
        return list(records)


def _is_list_of_records(element: Any) -> bool:
    """Tell what a mapped task returned from a row that is a list itself."""
    return isinstance(element, list) and all(isinstance(record, Mapping) for record in element)


def _explain(records: Any) -> str:
    if records is None:
        return (
            "records is None: the task that should return them returned nothing; a task that yields returns nothing "
            "either, let it return a list"
        )
    shown = repr(records)
    shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
    hint = ""
    if isinstance(records, str):
        hint = (
            "; a template gives text unless the DAG has render_template_as_native_obj=True: pass the other task's "
            "output (records=that_task.output), or give a path as files=..."
        )
    return f"records must be a dict or a list of dicts, not a {type(records).__name__} ({shown}){hint}"
