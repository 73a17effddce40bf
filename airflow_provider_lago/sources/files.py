"""Records from files: paths and globs, one reader a format."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import BinaryIO

from airflow_provider_lago.sources.csv_lines import check_csv_header, read_csv
from airflow_provider_lago.sources.json_lines import read_json_lines
from airflow_provider_lago.sources.rejects import NAME, read_rejects
from airflow_provider_lago.sources.rows import BEGINNING, NothingFound, Row, SourceError, Start

#: (open file, its name, where to begin, takes places to begin at) -> the rows; the number of records up to its end
Reader = Callable[[BinaryIO, str, Start, Callable[[Start], None]], Generator[Row, None, int]]

_READERS: dict[str, Reader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
}

_GLOB_SIGNS = frozenset("*?[")
_BUFFER = 1 << 17

#: Places to begin at that are remembered; a delivery is never so far ahead of its slowest record.
_MOST_STARTS = 10_000


class FileSource:
    """
    Records from one or several local files, read one after the other.

    :param files: A path or a glob (``**`` matches folders), or a list of them. A glob's files come in name order. A
        file that several of them name is read once.
    :raises SourceError: if there is nothing to read, a path is missing, a folder or not readable, or its format is
        not known.
    """

    is_foreign = False

    def __init__(self, files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        self.paths = expand(files)
        self._readers = [_reader_of(path) for path in self.paths]
        self._states = [_check(path) for path in self.paths]
        self._sizes = [state.st_size for state in self._states]
        self._done = 0
        self._starts: deque[Start] = deque(maxlen=_MOST_STARTS)
        self._start = BEGINNING
        self._open: BinaryIO | None = None

    def __str__(self) -> str:
        named = self.paths[0] if len(self.paths) == 1 else f"{len(self.paths)} files, {self.paths[0]} first,"
        return f"{named} ({sum(self._sizes):,} bytes)"

    def rows(self, start: Start = BEGINNING) -> Iterator[Row]:
        """Yield the records of all files; positions go on from file to file."""
        self._start = start
        self._done = sum(self._sizes[: start.file])
        for number in range(start.file, len(self.paths)):
            path, reader = self.paths[number], self._readers[number]
            with open(path, "rb", buffering=_BUFFER) as stream:
                self._open = stream
                position = yield from reader(stream, path, start, self._starts.append)
                self._open = None
            self._done += self._sizes[number]
            start = Start(position, number + 1)
            self._starts.append(start)

    def start_after(self, position: int) -> Start:
        """Return the last place to begin at that is known and not behind a position."""
        while self._starts:
            first = self._starts.popleft()  # taken before it is looked at: a full queue drops its first meanwhile
            if first.position > position:
                self._starts.appendleft(first)
                break
            self._start = first
        return self._start

    def fingerprint(self) -> str | None:
        """Return the files with their sizes and the times of their last change."""
        return repr(
            [
                (os.path.realpath(path), state.st_size, state.st_mtime_ns)
                for path, state in zip(self.paths, self._states, strict=True)
            ]
        )

    def share_done(self) -> float | None:
        """Share of the files' bytes."""
        whole = sum(self._sizes)
        stream = self._open
        try:
            here = stream.tell() if stream is not None else 0
        except (OSError, ValueError):  # closed in the meantime by the thread that reads
            here = 0
        return min(1.0, (self._done + here) / whole) if whole else None


def expand(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """
    Return the paths that ``files`` names, each once.

    :raises NothingFound: if nothing is named, or a glob matches nothing.
    :raises SourceError: if a path does not exist.
    """
    if not isinstance(files, (str, os.PathLike, Sequence)):
        raise SourceError(f"files must be a path, a glob or a list of them, not a {type(files).__name__}")
    named = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    if not named:
        raise NothingFound("files is an empty list; set skip_on_empty=True where having no file is normal")
    found: dict[str, str] = {}  # by the real path, as the same file may have several names
    for pattern in map(_text, named):
        if os.path.exists(pattern):
            found.setdefault(os.path.realpath(pattern), pattern)
        elif _GLOB_SIGNS & set(pattern):
            matches = sorted(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))
            if not matches:
                raise NothingFound(
                    f"no file matches {pattern!r}: check the path as the worker sees it, or set skip_on_empty=True "
                    "where having no file is normal"
                )
            for path in matches:
                found.setdefault(os.path.realpath(path), path)
        else:
            raise SourceError(f"file {pattern!r} does not exist on this worker")
    return list(found.values())


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
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme != "file":
            raise SourceError(f"{text!r}: only local files can be read, not {scheme}://")
        return rest
    return text


def _reader_of(path: str) -> Reader:
    if os.path.isdir(path):
        raise SourceError(
            f"{path!r} is a folder: name its files with a glob, such as {os.path.join(path, '*.jsonl')!r}"
        )
    if not os.path.isfile(path):
        raise SourceError(f"{path!r} is not a regular file: copy what it gives into one first")
    if NAME.fullmatch(os.path.basename(path)):
        return read_rejects
    suffix = os.path.splitext(path)[1].lower()
    try:
        return _READERS[suffix]
    except KeyError:
        known = ", ".join(_READERS)
        raise SourceError(f"{path!r}: the name must end in one of {known}, which says how it is read") from None


def _check(path: str) -> os.stat_result:
    """Return the state of a file, after what can be known to be wrong with it before anything is sent."""
    try:
        with open(path, "rb") as stream:
            if path.lower().endswith(".csv"):
                check_csv_header(stream, path)
            return os.fstat(stream.fileno())
    except OSError as error:
        raise SourceError(f"file {path!r} cannot be read: {error.strerror}") from None
