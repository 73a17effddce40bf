"""Records from the command line, and records that are shown and sent alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.shell.errors import UsageError
from airflow_provider_lago.sources.json_lines import read_json_lines
from airflow_provider_lago.sources.rows import BEGINNING, Row, Source, Start, Unreadable

STDIN = "-"

_LINES = (".jsonl", ".ndjson", ".csv")


def source_arguments(given: str, stdin: TextIO) -> dict[str, Any]:
    """
    Return the operator's arguments for a source that the command line names.

    :param given: A file, or ``-`` for JSON lines from the standard input.
    :param stdin: The standard input.
    :raises UsageError: if it cannot be read.
    """
    if given == STDIN:
        return {"records": [_record(row) for row in read_json_lines(stdin.buffer, "standard input")]}
    kind = os.path.splitext(given)[1].lower()
    if kind in _LINES:
        return {"files": [given]}
    if kind == ".json":
        return {"records": _read_list(given)}
    raise UsageError(f"--records {given!r}: the name must end in one of {', '.join(_LINES)}, .json; or be - for stdin")


class Kept:
    """
    Rows that were read once, so that what is sent is what was shown.

    :param source: Where they come from.
    """

    is_foreign = False

    def __init__(self, source: Source) -> None:
        self._name = str(source)
        self._rows = list(source.rows())

    def __str__(self) -> str:
        return self._name

    def rows(self, start: Start = BEGINNING) -> Iterator[Row]:
        """Read the rows, as often as wanted."""
        return iter(self._rows)

    def start_after(self, position: int) -> Start:
        """Return the beginning."""
        return BEGINNING

    def fingerprint(self) -> str | None:
        """Return none: a trial is not gone on with."""
        return None

    def share_done(self) -> float | None:
        """Unknown."""
        return None


def _record(row: Row) -> Any:
    if isinstance(row.data, Unreadable):
        raise UsageError(f"{row.where}: {row.data.reason} - {row.data.detail}")
    try:
        return exact_json.decode(row.data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{row.where} is not JSON: {error}") from None


def _read_list(path: str) -> Any:
    try:
        found = exact_json.decode(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"--records {path!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--records {path!r} is not JSON: {error}") from None
    if not isinstance(found, (list, dict)):
        raise UsageError(f"--records {path!r} must hold a list of records")
    return found
