"""From what the user names to the files that are read: paths, URIs, globs, and parts of files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from airflow_provider_lago.sources.places import Place, State, Stores, place_of
from airflow_provider_lago.sources.rows import NothingFound, SourceError

#: What ``files`` may be: a path, a URI or a glob, a part of a file as ``plan_shards`` gives it, or a list of them.
Files = str | os.PathLike[str] | Mapping[str, Any] | Sequence[str | os.PathLike[str] | Mapping[str, Any]]

_GLOB_SIGNS = frozenset("*?[")

#: What a part of a file says of itself.
_PART_KEYS = frozenset({"file", "bytes", "row_groups", "size", "version"})


@dataclass(frozen=True, slots=True)
class Piece:
    """
    A file, or a part of one.

    :param path: As it is shown to people.
    :param place: Where it is.
    :param name: What the place calls it.
    :param bytes: The part, from one offset up to another, between which lie whole lines; None for all.
    :param row_groups: The part of a Parquet file, from one row group up to another; None for all.
    :param expected: What the file was when the part was cut; None for whatever it is.
    """

    path: str
    place: Place
    name: str
    bytes: tuple[int, int] | None = None
    row_groups: tuple[int, int] | None = None
    expected: State | None = None

    @property
    def origin(self) -> str:
        """The name under which rows are known: lines of a part are counted from its beginning."""
        if self.bytes is not None and self.bytes[0]:
            return f"{self.path} from byte {self.bytes[0]:,}"
        if self.row_groups is not None and self.row_groups[0]:
            return f"{self.path} from row group {self.row_groups[0]:,}"
        return self.path

    def state(self) -> State:
        """
        Look at the file.

        :raises SourceError: if it cannot be read, or is another one than was cut.
        """
        state = self.place.state(self.name)
        if self.expected is not None and state != self.expected:
            raise SourceError(
                f"{self.path!r} has changed since plan_shards looked at it: its parts are not known any more. Clear "
                "the task that plans, with all after it"
            )
        return state

    def open(self) -> BinaryIO:
        """Open the whole file."""
        return self.place.open(self.name)


def expand(files: Files, stores: Stores | None = None) -> list[Piece]:
    """
    Return the files that ``files`` names, each once, and those of a glob in name order.

    :param files: A path, URI or glob, a part of a file, or a list of them.
    :param stores: Gives the file systems of object stores; None where there are none.
    :raises NothingFound: if nothing is named, or a glob matches nothing.
    :raises SourceError: if a path does not exist, or is a folder.
    """
    if not isinstance(files, (str, os.PathLike, Mapping, Sequence)):
        raise SourceError(f"files must be a path, a glob or a list of them, not a {type(files).__name__}")
    named = [files] if isinstance(files, (str, os.PathLike, Mapping)) else list(files)
    if not named:
        raise NothingFound("files is an empty list; set skip_on_empty=True where having no file is normal")
    found: dict[object, Piece] = {}  # by what it is, as the same file may have several names
    for element in named:
        pieces = [_part(element, stores)] if isinstance(element, Mapping) else _pieces(_text(element), stores)
        for piece in pieces:
            found.setdefault((piece.place.identity(piece.name), piece.bytes, piece.row_groups), piece)
    return list(found.values())


def _pieces(pattern: str, stores: Stores | None) -> list[Piece]:
    place, name = place_of(pattern, stores)
    if place.exists(name):
        if place.is_folder(name):
            raise SourceError(
                f"{pattern!r} is a folder: name its files with a glob, such as {pattern.rstrip('/') + '/*.jsonl'!r}"
            )
        return [Piece(place.shown(name), place, name)]
    if not _GLOB_SIGNS & set(name):
        where = "" if place.is_remote else " on this worker"
        raise SourceError(f"file {pattern!r} does not exist{where}")
    matches = place.matches(name)
    if not matches:
        raise NothingFound(
            f"no file matches {pattern!r}: check the path as the worker sees it, or set skip_on_empty=True "
            "where having no file is normal"
        )
    return [Piece(place.shown(match), place, match) for match in matches]


def _part(part: Mapping[str, Any], stores: Stores | None) -> Piece:
    unknown = sorted(set(part) - _PART_KEYS)
    try:
        if unknown or "file" not in part:
            raise ValueError(f"it has {', '.join(unknown)}" if unknown else "it names no file")
        expected = State(int(part["size"]), str(part["version"])) if "size" in part else None
        bytes_, groups = _range(part.get("bytes")), _range(part.get("row_groups"))
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(f"files holds {str(dict(part))[:200]}, which is no part of a file: {error}") from None
    place, name = place_of(_text(part["file"]), stores)
    if not place.exists(name):
        raise SourceError(f"file {part['file']!r} is not there any more")
    return Piece(place.shown(name), place, name, bytes_, groups, expected)


def _range(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    begin, end = (int(bound) for bound in value)
    if not 0 <= begin <= end:
        raise ValueError(f"from {begin} to {end} is no range")
    return begin, end


def _text(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise SourceError(f"files must hold paths, not a {type(path).__name__}")
    text = os.fspath(path)
    if not isinstance(text, str) or not text.strip():
        raise SourceError("files holds an empty path")
    if text.startswith("[") and text.endswith("]") and not os.path.exists(text):
        raise SourceError(
            f"files is the text {text[:80]!r}, not a list: a template gives text unless the DAG has "
            "render_template_as_native_obj=True; pass the other task's output (files=that_task.output)"
        )
    return text
