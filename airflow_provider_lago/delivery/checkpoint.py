"""How far a delivery got, kept for the next try of the same task."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, Protocol

import msgspec

from airflow_provider_lago.delivery.plan import Plan
from airflow_provider_lago.delivery.shaping import StartOfTry
from airflow_provider_lago.sources.rows import Start
from airflow_provider_lago.storage.folders import Folder, LocalFolder

#: Of what a checkpoint holds: one of another version is not gone on with.
_VERSION = 1

#: Settings of a plan that another try may change without changing what is delivered.
_FREE = frozenset({"source", "settings", "user_agent", "concurrency", "requests_per_second", "policy"})

#: What JSON says by itself, and so that it says the same in every process.
_PLAIN = frozenset({bool, int, float, str})

_CHECKPOINT = "checkpoint.jsonl"

#: Bytes of checkpoints in a file, before it is written anew with the last one alone.
_LONGEST_FILE = 1 << 20


class Checkpoints(Protocol):
    """Where the checkpoint of a task is kept. May raise any error of the place."""

    def load(self) -> object:
        """Return what was saved last; None where there is nothing."""

    def save(self, stored: Mapping[str, Any]) -> None:
        """Save a checkpoint in place of the one before."""

    def delete(self) -> None:
        """Forget the checkpoint."""


class FolderCheckpoints:
    """
    A checkpoint as the last line of ``checkpoint.jsonl`` in a folder, for Airflow before 3.3, which keeps nothing for a
    task.

    :param folder: The folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._room = 0

    def __str__(self) -> str:
        return self._folder.path(_CHECKPOINT)

    def load(self) -> object:
        """Return what was saved last; None where there is nothing."""
        for line in reversed((self._folder.read(_CHECKPOINT) or b"").splitlines()):
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # the half of one, after a kill
                return msgspec.json.decode(line)
        return None

    def save(self, stored: Mapping[str, Any]) -> None:
        """Save a checkpoint behind those before: a line costs a third of what a file in place of another does."""
        line = msgspec.json.encode(stored)
        room, self._room = self._room - len(line), 0  # if it fails, the next one begins anew
        if room < 0 or not isinstance(self._folder, LocalFolder):
            self._folder.write(_CHECKPOINT, [line, b"\n"])
            room = _LONGEST_FILE
        else:
            self._folder.append(_CHECKPOINT, b"\n" + line)
        self._room = room

    def delete(self) -> None:
        """Remove the file."""
        self._folder.remove(_CHECKPOINT)
        self._room = 0


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a delivery knows of its earlier tries.

    :param fingerprint: Of source, shaping and connection.
    :param life: What Airflow changes when a person clears the task, and not when it retries it.
    :param start: Where to begin reading.
    :param settled: Which records have an outcome; see :class:`~airflow_provider_lago.delivery.progress.Progress`.
    :param sent_to: Last record that may have been sent, its outcome not being known.
    :param counts: Counts of the settled records.
    :param seconds: What the earlier tries took.
    :param evidence: Marks of the report's files.
    :param v: Version of all this.
    """

    fingerprint: str
    life: int | None
    start: Start
    settled: list[int]
    sent_to: int
    counts: dict[str, Any]
    seconds: float
    evidence: dict[str, int]
    v: int = _VERSION

    def stored(self) -> dict[str, Any]:
        """Return it as plain values of JSON; Airflow 3.3 refuses tuples."""
        stored: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return stored


@dataclass(frozen=True, slots=True)
class Durability:
    """
    What a delivery keeps for a retry.

    :param checkpoints: Where.
    :param fingerprint: Of the delivery.
    :param life: What Airflow changes when a person clears the task.
    :param found: The checkpoint of the try before; None to begin with the first record.
    """

    checkpoints: Checkpoints
    fingerprint: str
    life: int | None
    found: Checkpoint | None = None


class NotUsable(ValueError):
    """A checkpoint that cannot be gone on with; the text says why."""


def read_checkpoint(stored: object, fingerprint: str, life: int | None) -> Checkpoint:
    """
    Return a checkpoint of this delivery.

    :param stored: What was saved.
    :param fingerprint: Of this try.
    :param life: Of this try.
    :raises NotUsable: if it is another delivery's.
    """
    version = stored.get("v") if isinstance(stored, Mapping) else None
    if version != _VERSION:
        raise NotUsable(f"it is of another version of this provider ({version!r}, not {_VERSION})")
    try:
        checkpoint = msgspec.convert(stored, Checkpoint)
    except msgspec.ValidationError as error:
        raise NotUsable(f"it cannot be read: {error}") from None
    if checkpoint.life != life:
        raise NotUsable("the task was cleared, and a cleared task delivers all again")
    if checkpoint.fingerprint != fingerprint:
        raise NotUsable("the source, the shaping or the connection is another one than it was in the try before")
    return checkpoint


def fingerprint(plan: Plan[Any], run: Mapping[str, Any]) -> str | None:
    """
    Return what tells a delivery from every other: its source, what is made of it, and where it goes.

    Callables count by their code; what they call does not.

    :param plan: The plan.
    :param run: Identifies the task instance.
    :return: A digest that says nothing of what it was made of; None where the source cannot be told from another.
    """
    source = plan.source.fingerprint()
    if source is None:
        return None
    shape = [(field.name, _plain(getattr(plan, field.name))) for field in fields(plan) if field.name not in _FREE]
    settings = plan.settings
    # The key tells one organization from another on the same server. A digest of it and of all else gives nothing away.
    target = [settings.api_url, settings.ingest_url, settings.api_key]
    # Not as JSON, which has neither half a surrogate pair nor NaN: settings may hold what each record is rejected for.
    said = repr([type(plan).__name__, source, shape, target, _plain(run)])
    return hashlib.blake2b(said.encode(), digest_size=20).hexdigest()


def _plain(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Return a setting in plain values, whose text is the same in every process."""
    if isinstance(value, StartOfTry):
        return "now"
    if value is None or type(value) in _PLAIN:
        return value
    if id(value) in within:  # such as a function that calls itself, being a variable of its own
        return ["itself", len(within) - within.index(id(value))]
    inside = (*within, id(value))
    if isinstance(value, Mapping):
        return [
            [str(name), _plain(item, inside)] for name, item in sorted(value.items(), key=lambda item: str(item[0]))
        ]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(_plain(item, inside)) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(item, inside) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        settings = [(field.name, _plain(getattr(value, field.name), inside)) for field in fields(value)]
        return [type(value).__qualname__, settings]
    if callable(value):
        return _code_of(value, inside)
    # Without a text of its own an object has one with its address, which says nothing.
    kind = type(value)
    has_text = any("__str__" in base.__dict__ or "__repr__" in base.__dict__ for base in kind.__mro__[:-1])
    return [kind.__qualname__, str(value) if has_text else ""]


def _code_of(function: Callable[..., Any], within: tuple[int, ...]) -> Any:
    if isinstance(function, partial):
        settings = [_plain(function.args, within), _plain(function.keywords, within)]
        return ["partial", _plain(function.func, within), *settings]
    if isinstance(function, MethodType):
        return ["method", type(function.__self__).__qualname__, _plain(function.__func__, within)]
    if isinstance(function, FunctionType):
        closure = [_content(cell, within) for cell in function.__closure__ or ()]
        defaults = [_plain(function.__defaults__, within), _plain(function.__kwdefaults__, within)]
        return [function.__module__, function.__qualname__, _digest(function.__code__), closure, defaults]
    return [type(function).__qualname__, getattr(function, "__qualname__", "")]


def _content(cell: Any, within: tuple[int, ...]) -> Any:
    try:
        return _plain(cell.cell_contents, within)
    except ValueError:
        return "empty"


def _digest(code: CodeType) -> str:
    constants = [_constant(item) for item in code.co_consts]
    said = repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants))
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def _constant(item: object) -> str:
    if isinstance(item, CodeType):
        return _digest(item)
    # The order of a set is another one in each process.
    return repr(sorted(map(repr, item))) if isinstance(item, frozenset) else repr(item)
