"""The evidence of a delivery on disk: ``rejected.jsonl`` and ``summary.json``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from airflow_provider_lago.sources.rows import Row, Unreadable

REJECTED = "rejected.jsonl"
SUMMARY = "summary.json"

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


class Report(Protocol):
    """Takes the evidence of a delivery."""

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Keep a rejected record with the reason."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the summary and close."""

    def paths(self) -> dict[str, str]:
        """Return where the evidence lies."""


class NoReport:
    """For deliveries without a report folder; the log names the first rejected records."""

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
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
    :param run: Identifies the task instance in each line.
    :raises OSError: if the folder cannot be written, before anything is sent.
    """

    def __init__(self, folder: str | os.PathLike[str], run: Mapping[str, Any]) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = dict(run)
        for name in (REJECTED, SUMMARY):
            _keep_earlier(self._folder / name)
        self._rejects: BinaryIO = (self._folder / REJECTED).open("wb")

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Append a line with the record, its place and the reason."""
        line: dict[str, Any] = {
            "position": row.position,
            "origin": row.origin,
            "line": row.line,
            "reason": reason,
            "detail": detail,
            "code": code,
            "record": printable(row.data),
            "event": msgspec.Raw(payload) if payload is not None else None,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": self._run,
        }
        self._rejects.write(_encode(line) + b"\n")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary whole or not at all, and close."""
        self._rejects.close()
        draft = self._folder / f".{SUMMARY}.part"
        draft.write_bytes(msgspec.json.format(_encode({**summary, "run": self._run}), indent=2) + b"\n")
        draft.replace(self._folder / SUMMARY)

    def paths(self) -> dict[str, str]:
        """Return the paths of both files."""
        return {"rejected": str(self._folder / REJECTED), "summary": str(self._folder / SUMMARY)}


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
        return data.text
    if isinstance(data, str):
        return data if data.isascii() else data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, (float, Decimal)) and not math.isfinite(data):
        return str(data)
    if isinstance(data, Mapping):
        return {printable(str(name)): printable(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [printable(value) for value in data]
    return data


def _keep_earlier(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
