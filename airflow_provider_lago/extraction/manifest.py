"""``extract.json``: whose the parts of a folder are, and how far they go."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from airflow_provider_lago.extraction.progress import Progress

MANIFEST = "extract.json"
SCHEMA = 1

#: What tells one task's extraction from another's, and one run's from another's.
_OWNER = ("dag_id", "task_id", "map_index")
_SAME_RUN = (*_OWNER, "run_id")

_PART = re.compile(r"part-(\d{6,})\.jsonl")
_DRAFT = re.compile(r"\.(part-\d{6,}\.jsonl|extract\.json)\.\w+\.draft")

State = Literal["running", "finished"]


class FolderInUse(ValueError):
    """A folder that holds what this task did not write."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a retry has to know.

    :param state: ``running``, also after a failed or killed try, or ``finished``.
    :param fingerprint: Of what was asked for, see :func:`fingerprint`.
    :param claim: Of the try that writes at present.
    :param endpoint: The list.
    :param origin: Root of the API.
    :param query: What was asked for besides, for a reader.
    :param progress: How far the parts go.
    :param run: The task instance.
    :param updated: When this was written.
    """

    schema: int = SCHEMA
    state: State
    fingerprint: str
    claim: str
    endpoint: str
    origin: str
    query: dict[str, str]
    progress: Progress
    run: dict[str, Any]
    updated: str

    def encoded(self) -> bytes:
        """Return the file's content."""
        return msgspec.json.format(msgspec.json.encode(self, enc_hook=str), indent=2) + b"\n"


def fingerprint(
    *, origin: str, endpoint: str, collection: str | None, query: Sequence[tuple[str, str]], per_page: int, limit: int
) -> str:
    """Return a hash of everything that decides which items are on which page. The API key is no part of it."""
    asked = (origin, endpoint, collection, sorted(query), per_page, limit)
    return hashlib.blake2b(msgspec.json.encode(asked), digest_size=16).hexdigest()


def now() -> str:
    """Return the time as manifests write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_manifest(content: bytes | None, folder: str) -> Manifest | None:
    """
    Return a folder's manifest; None where it has none.

    :raises FolderInUse: if the file is something else.
    """
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise FolderInUse(
            f"{MANIFEST} in {folder!r} is not the manifest of an extraction: choose another path, or empty that folder"
        ) from None


def check_owner(manifest: Manifest | None, run: Mapping[str, Any], names: Sequence[str], folder: str) -> None:
    """
    Refuse a folder that another task writes into, or that holds parts without a manifest.

    :raises FolderInUse: naming the other.
    """
    if manifest is None:
        foreign = next((name for name in names if part_number(name)), None)
        if foreign is not None:
            raise FolderInUse(
                f"{folder!r} holds {foreign} and no {MANIFEST}, so it is not this task's: choose another path, or "
                "empty that folder"
            )
        return
    owner = manifest.run
    if any(owner.get(name) != run.get(name) for name in _OWNER):
        raise FolderInUse(
            f"{folder!r} holds the extraction of task {owner.get('task_id')!r} of DAG {owner.get('dag_id')!r}: give "
            "each task a folder of its own, such as '.../{{ run_id }}/{{ task.task_id }}'"
        )


def to_go_on_with(manifest: Manifest | None, asked: str, run: Mapping[str, Any]) -> Progress | None:
    """
    Return where an earlier try of the same task instance stopped; None to start from the first page.

    :param manifest: What the folder holds.
    :param asked: The fingerprint of what this try asks for.
    :param run: This task instance.
    """
    if manifest is None or manifest.schema != SCHEMA or manifest.state == "finished" or manifest.fingerprint != asked:
        return None
    if any(manifest.run.get(name) != run.get(name) for name in _SAME_RUN) or not manifest.progress.pages:
        return None
    return manifest.progress


def part_name(number: int) -> str:
    """Return the name of a part."""
    return f"part-{number:06}.jsonl"


def part_number(name: str) -> int | None:
    """Return the number of a part; None for other files."""
    match = _PART.fullmatch(name)
    return int(match[1]) if match else None


def is_stale(name: str, parts: int) -> bool:
    """Tell whether a file is a part that a manifest does not count, or a draft that a killed try left."""
    number = part_number(name)
    return number > parts if number is not None else _DRAFT.fullmatch(name) is not None
