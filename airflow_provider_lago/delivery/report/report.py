"""``rejected.jsonl``, ``receipts.jsonl`` and ``summary.json``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from airflow_provider_lago.delivery.report.printable import as_text, is_altered, printable
from airflow_provider_lago.sources.rows import Row
from airflow_provider_lago.storage.folders import Folder, LocalFolder
from airflow_provider_lago.storage.lines import CannotContinueError, Lines

#: What tells one task's reports from another's.
_OWNER = ("dag_id", "task_id", "map_index")

REJECTED = "rejected.jsonl"
RECEIPTS = "receipts.jsonl"
CONFLICTS = "conflicts.jsonl"
PREVIEW = "preview.jsonl"
UNFORWARDED = "unforwarded.jsonl"
SUMMARY = "summary.json"

_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
_encode = _encoder.encode


class ReportInUseError(ValueError):
    """A report folder that belongs to another task."""


class EvidenceError(OSError):
    """Evidence that cannot be written down: what it is about counts as not delivered."""


class Report(Protocol):
    """Takes the evidence of a delivery."""

    #: Whether each record is to have a line in ``receipts.jsonl``.
    wants_receipts: bool
    #: Whether evidence is only safe after :meth:`keep`, which takes a request over the network.
    is_remote: bool

    @property
    def held(self) -> int:
        """Bytes in memory that are not safe yet."""

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Keep a rejected record with the reason."""

    def receipts(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Keep a line for each of some records."""

    def conflict(self, line: Mapping[str, Any]) -> None:
        """Keep both sides of an event that Lago holds with another content."""

    def open(self, name: str, *, append: bool) -> Lines | None:
        """
        Open one more file, which is kept and closed with the others; None where there is no place for it.

        :param name: Its name.
        :param append: Go on with the file of an earlier try, where there is one.
        :raises OSError: if it cannot be made.
        """

    def seal(self) -> dict[str, int]:
        """Return marks that cover all evidence so far, by the name of the file. Takes no time."""

    def keep(self) -> None:
        """
        Make safe what is sealed. May take its time.

        :raises OSError: if it cannot be written.
        """

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the summary and close."""

    def paths(self) -> dict[str, str]:
        """Return where the evidence lies."""


class NoReport:
    """For deliveries without a report folder; the log names the first rejected records."""

    wants_receipts = False
    is_remote = False
    held = 0

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Keep nothing."""

    def receipts(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Keep nothing."""

    def conflict(self, line: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def open(self, name: str, *, append: bool) -> None:
        """Open nothing."""

    def seal(self) -> dict[str, int]:
        """Return no marks."""
        return {}

    def keep(self) -> None:
        """Keep nothing."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def paths(self) -> dict[str, str]:
        """Return no paths."""
        return {}


class FolderReport:
    """
    Evidence in a folder. What an earlier run left there is kept under another name.

    :param folder: The folder, or the path of a local one; made where it is missing.
    :param run: Identifies the task instance.
    :param receipts: Whether to keep a line for each record.
    :param conflicts: Whether to keep both sides of events that Lago holds with another content.
    :param marks: How far the files of the try that is gone on with count, by name; None for a report of its own.
    :raises OSError: if the folder cannot be written, before anything is sent.
    :raises ReportInUseError: if the folder holds the report of another task.
    :raises CannotContinueError: if the files of that try are not there any more.
    """

    def __init__(
        self,
        folder: Folder | str | os.PathLike[str],
        run: Mapping[str, Any],
        *,
        receipts: bool = False,
        conflicts: bool = False,
        marks: Mapping[str, int] | None = None,
    ) -> None:
        if isinstance(folder, (str, os.PathLike)):
            folder = LocalFolder(folder)
        self.wants_receipts = receipts
        self.is_remote = folder.is_remote
        self._folder = folder
        self._run = dict(run)
        _check_owner(folder, self._run)
        names = [REJECTED, *([RECEIPTS] if receipts else []), *([CONFLICTS] if conflicts else [])]
        if marks is None:
            folder.keep_earlier(REJECTED, RECEIPTS, CONFLICTS, SUMMARY)
        else:
            # Before any file is cut to its mark.
            _check_continues(folder, self._run)
            for name in names:
                if name not in marks:
                    raise CannotContinueError(f"the try before wrote no {name}")
            if RECEIPTS in marks and not receipts:
                # They would stay here, and end with the records of the try before.
                raise CannotContinueError(f"the try before wrote {RECEIPTS}, and this one is to write none")
        self._files: dict[str, Lines] = {}
        for name in names:
            self._files[name] = folder.lines(name, mark=None if marks is None else marks[name])
        self._write_summary({"halted": "running, or killed"})

    @property
    def held(self) -> int:
        """Bytes in memory that are not safe yet."""
        return sum(file.held for file in self._files.values())

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
            if is_altered(row.data):
                line["altered"] = True
            text = _encode({**line, "record": printable(row.data)})
        except Exception:  # noqa: BLE001 - whatever the record is, the reason must be written down
            text = _encode({**line, "record": as_text(row.data)})
        self._write(REJECTED, text + b"\n")

    def receipts(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append a line for each of some records, in one write."""
        if not self.wants_receipts:
            return
        lines = list(lines)
        try:
            text = _encoder.encode_lines(lines)
        except ValueError:  # half a surrogate pair
            text = _encoder.encode_lines([printable(line) for line in lines])
        self._write(RECEIPTS, text)

    def conflict(self, line: Mapping[str, Any]) -> None:
        """Append a line with what the source says and what Lago holds."""
        if CONFLICTS in self._files:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            self._write(CONFLICTS, _encode({**line, "at": at, "run": self._run}) + b"\n")

    def open(self, name: str, *, append: bool) -> Lines:
        """Open one more file, which is kept and closed with the others."""
        if not append:
            self._folder.keep_earlier(name)
        file = self._files[name] = self._folder.lines(name, append=append)
        return file

    def seal(self) -> dict[str, int]:
        """Return marks that cover all evidence so far."""
        return {name: file.seal() for name, file in self._files.items()}

    def keep(self) -> None:
        """Make safe what is sealed."""
        for file in self._files.values():
            file.keep()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary whole or not at all, and close."""
        for file in self._files.values():
            file.close()
        self._write_summary(summary)

    def paths(self) -> dict[str, str]:
        """Return the paths of the files."""
        return {name.removesuffix(".jsonl"): self._folder.path(name) for name in self._files} | {
            "summary": self._folder.path(SUMMARY)
        }

    def _write(self, name: str, lines: bytes) -> None:
        try:
            self._files[name].write(lines)
        except OSError as error:
            raise EvidenceError(
                f"{self._folder.path(name)} cannot be written: {error.strerror or error}; what it does not hold counts "
                "as not delivered"
            ) from error

    def _write_summary(self, summary: Mapping[str, Any]) -> None:
        text = msgspec.json.format(_encode(printable({**summary, "run": self._run})), indent=2)
        self._folder.write(SUMMARY, [text, b"\n"])


def write_preview(folder: Folder, requests: Iterable[Mapping[str, Any]]) -> str:
    """
    Write the requests of a dry run, one a line, and return the path.

    :param folder: The folder. What deliveries left there stays.
    :param requests: The requests.
    :raises OSError: if it cannot be written.
    """
    folder.write(PREVIEW, [_encode(request) + b"\n" for request in requests])
    return folder.path(PREVIEW)


def _check_owner(folder: Folder, run: Mapping[str, Any]) -> None:
    """Two tasks that write into one folder would tear each other's evidence apart."""
    owner = _owner(folder)
    if owner is not None and any(owner.get(name) != run[name] for name in _OWNER if name in run):
        raise ReportInUseError(
            f"{str(folder)!r} holds the report of task {owner.get('task_id')!r} of DAG "
            f"{owner.get('dag_id')!r}: give each task a folder of its own, such as "
            "'.../{{ run_id }}/{{ task.task_id }}'"
        )


def _check_continues(folder: Folder, run: Mapping[str, Any]) -> None:
    """Another run may have begun in this folder before this one was retried: marks of the one cut the other's files."""
    owner = _owner(folder)
    if owner is not None and "run_id" in run and owner.get("run_id") != run["run_id"]:
        raise CannotContinueError(f"{str(folder)!r} holds the report of run {owner.get('run_id')!r} now")


def _owner(folder: Folder) -> Mapping[str, Any] | None:
    """Return which run's report is in a folder; None where none can be told."""
    try:
        owner = msgspec.json.decode(folder.read(SUMMARY) or b"")["run"]
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None
    return owner if isinstance(owner, Mapping) else None
