"""The evidence of a delivery on disk: ``rejected.jsonl``, ``receipts.jsonl`` and ``summary.json``."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from airflow_provider_lago.delivery.earlier import keep_earlier
from airflow_provider_lago.sources.rows import Row, Unreadable

#: Python refuses to write out whole numbers that are much longer.
_LONGEST_INT = 10_000

#: What tells one task's reports from another's.
_OWNER = ("dag_id", "task_id", "map_index")

REJECTED = "rejected.jsonl"
RECEIPTS = "receipts.jsonl"
PREVIEW = "preview.jsonl"
UNFORWARDED = "unforwarded.jsonl"
SUMMARY = "summary.json"

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


class ReportInUseError(ValueError):
    """A report folder that belongs to another task."""


class Report(Protocol):
    """Takes the evidence of a delivery."""

    #: Whether each record is to have a line in ``receipts.jsonl``.
    wants_receipts: bool

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Keep a rejected record with the reason."""

    def receipts(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Keep a line for each of some records."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the summary and close."""

    def paths(self) -> dict[str, str]:
        """Return where the evidence lies."""


class NoReport:
    """For deliveries without a report folder; the log names the first rejected records."""

    wants_receipts = False

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Keep nothing."""

    def receipts(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Keep nothing."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def paths(self) -> dict[str, str]:
        """Return no paths."""
        return {}


class FolderReport:
    """
    Evidence in a local folder. What an earlier run left there is kept under another name.

    :param folder: The folder; made where it is missing.
    :param run: Identifies the task instance.
    :param receipts: Whether to keep a line for each record.
    :raises OSError: if the folder cannot be written, before anything is sent.
    :raises ReportInUseError: if the folder holds the report of another task.
    """

    def __init__(self, folder: str | os.PathLike[str], run: Mapping[str, Any], *, receipts: bool = False) -> None:
        self.wants_receipts = receipts
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = dict(run)
        _check_owner(self._folder / SUMMARY, self._run)
        keep_earlier(*(self._folder / name for name in (REJECTED, RECEIPTS, SUMMARY)))
        # Not buffered: a killed task leaves whole lines, and none is missing.
        self._rejects: BinaryIO = (self._folder / REJECTED).open("xb", buffering=0)
        self._receipts: BinaryIO | None = (self._folder / RECEIPTS).open("xb", buffering=0) if receipts else None
        self._write_summary({"halted": "running, or killed"})

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Append a line with the record, its place and the reason."""
        line: dict[str, Any] = {
            "position": row.position,
            "origin": printable(row.origin),
            "line": row.line,
            "reason": printable(reason),
            "detail": printable(detail),
            "code": code,
            "record": None,
            "payload": msgspec.Raw(payload) if payload is not None else None,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": self._run,
        }
        try:
            text = _encode({**line, "record": printable(row.data)})
        except Exception:  # noqa: BLE001 - whatever the record is, the reason must be written down
            text = _encode({**line, "record": _as_text(row.data)})
        self._rejects.write(text + b"\n")

    def receipts(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append a line for each of some records, in one write."""
        if self._receipts is not None:
            self._receipts.write(b"".join(_encode(printable(line)) + b"\n" for line in lines))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary whole or not at all, and close."""
        self._rejects.close()
        if self._receipts is not None:
            self._receipts.close()
        self._write_summary(summary)

    def paths(self) -> dict[str, str]:
        """Return the paths of the files."""
        names = {"rejected": REJECTED, **({"receipts": RECEIPTS} if self.wants_receipts else {}), "summary": SUMMARY}
        return {name: str(self._folder / file) for name, file in names.items()}

    def _write_summary(self, summary: Mapping[str, Any]) -> None:
        draft = self._folder / f".{SUMMARY}.part"
        draft.write_bytes(msgspec.json.format(_encode(printable({**summary, "run": self._run})), indent=2) + b"\n")
        draft.replace(self._folder / SUMMARY)


def write_preview(folder: str | os.PathLike[str], requests: Iterable[Mapping[str, Any]]) -> str:
    """
    Write the requests of a dry run, one a line, and return the path.

    :param folder: The folder; made where it is missing. What deliveries left there stays.
    :param requests: The requests.
    :raises OSError: if it cannot be written.
    """
    path = Path(folder) / PREVIEW
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{PREVIEW}.part")
    draft.write_bytes(b"".join(_encode(request) + b"\n" for request in requests))
    draft.replace(path)
    return str(path)


def printable(data: Any) -> Any:
    """
    Return a record, or what stands in its place, as JSON can show it: also one that was rejected because it cannot.

    :param data: What a row holds.
    """
    if isinstance(data, bytes):
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return data.decode("utf-8", "backslashreplace")
        return msgspec.Raw(data)
    if isinstance(data, Unreadable):
        return printable(data.text)
    if isinstance(data, str):
        return str(data) if data.isascii() else data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, (float, Decimal)) and not math.isfinite(data):
        return str(data)
    if isinstance(data, int) and data.bit_length() > _LONGEST_INT:
        return f"a whole number of {data.bit_length()} bits"
    if isinstance(data, Mapping):
        return {printable(str(name)): printable(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [printable(value) for value in data]
    return data


def _as_text(data: Any) -> str:
    try:
        text = data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else repr(data)
    except Exception as error:  # noqa: BLE001 - the object's own code
        text = f"<{type(data).__name__} that has no text: {type(error).__name__}>"
    return text[:2_000].encode("utf-8", "backslashreplace").decode()


def _check_owner(summary: Path, run: Mapping[str, Any]) -> None:
    """Two tasks that write into one folder would tear each other's evidence apart."""
    try:
        owner = msgspec.json.decode(summary.read_bytes())["run"]
        other = [name for name in _OWNER if name in run and owner.get(name) != run[name]]
    except (OSError, msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return
    if other:
        raise ReportInUseError(
            f"{str(summary.parent)!r} holds the report of task {owner.get('task_id')!r} of DAG "
            f"{owner.get('dag_id')!r}: give each task a folder of its own, such as "
            "'.../{{ run_id }}/{{ task.task_id }}'"
        )
