"""Where parts are kept. A file is there whole or not at all. Decides nothing."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Folder(Protocol):
    """A place for files."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is none."""

    def write(self, name: str, chunks: Sequence[bytes]) -> None:
        """Write a file, whole or not at all, in place of an earlier one."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def names(self) -> list[str]:
        """Return the names of the files."""


class LocalFolder:
    """
    A folder of the worker's file system.

    :param path: The folder; made where it is missing.
    :raises OSError: if it cannot be written.
    """

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


class StoreFolder:
    """
    A prefix in an object store.

    :param path: An ``ObjectStoragePath``, handed in because it is Airflow's.
    :param uri: Its URI as the user wrote it: the path's own text differs between releases of Airflow.
    """

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

    def _at(self, name: str) -> str:
        return str((self._path / name).path)
