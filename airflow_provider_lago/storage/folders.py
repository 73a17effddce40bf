"""Folders on this machine and in object stores. A file is there whole or not at all, or it grows by whole lines."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from airflow_provider_lago.storage.earlier import keep_earlier, numbered
from airflow_provider_lago.storage.lines import LineFile, Lines
from airflow_provider_lago.storage.parts import JOINED, StoreLines, part_name, parts_of


class Folder(Protocol):
    """A place for files."""

    #: Whether writing takes a request over the network.
    is_remote: bool

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is none."""

    def write(self, name: str, chunks: Sequence[bytes]) -> None:
        """Write a file, whole or not at all, in place of an earlier one."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def names(self) -> list[str]:
        """Return the names of the files."""

    def path(self, name: str) -> str:
        """Return where a file is, for people and for other tasks."""

    def lines(self, name: str, *, mark: int | None = None, append: bool = False) -> Lines:
        """
        Open a file that grows by lines.

        :param name: Its name; there must be none of that name, unless it is gone on with.
        :param mark: Where the try that is gone on with sealed it; None for a new file.
        :param append: Go on behind the last whole line, where there is a file.
        :raises CannotContinueError: if it is not there any more as that try left it.
        """

    def keep_earlier(self, *names: str) -> None:
        """Give files that an earlier run left another name, a number that they share."""


class LocalFolder:
    """
    A folder of the worker's file system.

    :param path: The folder; made where it is missing.
    :raises OSError: if it cannot be written.
    """

    is_remote = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._path.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return str(self._path)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is none."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, chunks: Sequence[bytes]) -> None:
        """Write a file beside its place, and move it there when it is on disk."""
        draft = self._path / f".{name}.{uuid.uuid4().hex}.draft"
        try:
            with draft.open("xb") as stream:
                stream.writelines(chunks)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self._path / name)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self._path / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of the files."""
        return sorted(os.listdir(self._path))

    def path(self, name: str) -> str:
        """Return where a file is."""
        return str(self._path / name)

    def lines(self, name: str, *, mark: int | None = None, append: bool = False) -> LineFile:
        """Open a file that grows by lines."""
        return LineFile(self._path / name, mark=mark, append=append)

    def keep_earlier(self, *names: str) -> None:
        """Rename files that an earlier run left."""
        keep_earlier(*(self._path / name for name in names))


class StoreFolder:
    """
    A prefix in an object store.

    :param path: An ``ObjectStoragePath``, handed in because it is Airflow's.
    :param uri: Its URI as the user wrote it: the path's own text differs between releases of Airflow.
    """

    is_remote = True

    def __init__(self, path: Any, uri: str) -> None:
        self._path = path
        self._uri = uri.rstrip("/")
        self._fs = path.fs

    def __str__(self) -> str:
        return self._uri

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None where there is none."""
        try:
            content: bytes = self._fs.cat_file(self._at(name))
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, chunks: Sequence[bytes]) -> None:
        """Write an object in one request: a stream that breaks off would leave what it holds."""
        self._fs.pipe_file(self._at(name), b"".join(chunks))

    def remove(self, name: str) -> None:
        """Remove an object."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def names(self) -> list[str]:
        """Return the names of the objects."""
        self._fs.invalidate_cache()  # of listings: an earlier try may have run on another worker
        try:
            found = self._fs.ls(self._path.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)

    def path(self, name: str) -> str:
        """Return the URI of an object."""
        return f"{self._uri}/{name}"

    def lines(self, name: str, *, mark: int | None = None, append: bool = False) -> StoreLines:
        """Open a file that grows by parts."""
        return StoreLines(self, name, mark=mark, append=append)

    def join(self, name: str, contents: Iterable[bytes]) -> None:
        """Write an object of many pieces, in one request where they are few, or else in a multipart upload."""
        held: list[bytes] = []
        size = 0
        pieces = iter(contents)
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size > JOINED:
                break
        else:
            self.write(name, held)
            return
        with self._fs.open(self._at(name), "wb") as stream:
            stream.writelines(held)
            for piece in pieces:
                stream.write(piece)

    def keep_earlier(self, *names: str) -> None:
        """Give what an earlier run left another name: its files, or the parts of files that it did not end."""
        present = self.names()
        found = [name for name in names if name in present or parts_of(name, present)]
        number = 1
        while any(numbered(name, number) in present for name in names):
            number += 1
        for name in found:
            if name in present:
                self._fs.mv(self._at(name), self._at(numbered(name, number)))
            else:
                parts = parts_of(name, present)
                self.join(numbered(name, number), (self.read(part_name(name, part)) or b"" for part in parts))
            for part in parts_of(name, present):
                self.remove(part_name(name, part))

    def _at(self, name: str) -> str:
        return str((self._path / name).path)
