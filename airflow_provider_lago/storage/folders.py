"""Folders on this machine and in object stores. A file is there whole or not at all, or it grows by whole lines."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from airflow_provider_lago.storage.earlier import keep_earlier, numbered
from airflow_provider_lago.storage.lines import LineFile, Lines, drop_half_line
from airflow_provider_lago.storage.parts import StoreLines, remains_of

#: Bytes that are read from a store at once, and written at once where an object is larger. S3 takes 10,000 of them, and
#: none below 5 MiB.
_CHUNK = 16 << 20


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

    def append(self, name: str, text: bytes) -> None:
        """
        Write behind what a file holds. A kill, or a full disk, may leave the beginning of it.

        :raises OSError: if it is not written as a whole.
        """
        file = os.open(self._path / name, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(file, text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)

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
        """Rename files that an earlier run left, files of lines without the half of one at their end."""
        paths = [self._path / name for name in names]
        for path in paths:
            if path.suffix == ".jsonl" and path.is_file():
                drop_half_line(path)
        keep_earlier(*paths)


class StoreFolder:
    """
    A prefix in an object store. Whatever a store raises, it is an ``OSError`` here.

    :param fs: The store, a file system of ``fsspec``.
    :param prefix: Bucket and prefix, as that file system names them.
    :param uri: The URI as the user wrote it.
    """

    is_remote = True

    def __init__(self, fs: Any, prefix: str, uri: str) -> None:
        self._fs = fs
        self._prefix = prefix.rstrip("/")
        self._uri = uri.rstrip("/")

    def __str__(self) -> str:
        return self._uri

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None where there is none."""
        with _store_errors(), contextlib.suppress(FileNotFoundError):
            content: bytes = self._fs.cat_file(self._at(name))
            return content
        return None

    def chunks(self, name: str, end: int) -> Iterator[bytes]:
        """Read an object up to an offset, in pieces that fit into memory."""
        for begin in range(0, end, _CHUNK):
            with _store_errors():
                chunk: bytes = self._fs.cat_file(self._at(name), start=begin, end=min(begin + _CHUNK, end))
            yield chunk

    def write(self, name: str, chunks: Sequence[bytes]) -> None:
        """Write an object in one request: a stream that breaks off would leave what it holds."""
        with _store_errors():
            self._fs.pipe_file(self._at(name), b"".join(chunks))

    def remove(self, name: str) -> None:
        """Remove an object."""
        with _store_errors(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def names(self) -> list[str]:
        """Return the names of the objects."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Return the sizes of the objects, by name."""
        with _store_errors(), contextlib.suppress(FileNotFoundError):
            self._fs.invalidate_cache()  # of listings: an earlier try may have run on another worker
            found = self._fs.ls(self._prefix, detail=True)
            return {item["name"].rsplit("/", 1)[-1]: item["size"] for item in found if item["type"] != "directory"}
        return {}

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
            if size > _CHUNK:
                break
        else:
            self.write(name, held)
            return
        with _store_errors():
            stream = self._fs.open(self._at(name), "wb", block_size=_CHUNK)
            try:
                stream.writelines(held)
                held.clear()
                for piece in pieces:
                    stream.write(piece)
            except BaseException:
                # To close it would make an object of what it holds.
                with contextlib.suppress(Exception):
                    stream.closed = True
                    stream.discard()
                raise
            stream.close()

    def keep_earlier(self, *names: str) -> None:
        """Give what an earlier run left another name: its files, with the parts that it did not join to them."""
        sizes = self.sizes()
        remains = {name: remains_of(name, sizes) for name in names}
        number = 1
        while any(numbered(name, number) in sizes for name in names):
            number += 1
        for name, left in remains.items():
            if left.parts:
                self.join(numbered(name, number), left.contents(self, name))
            elif left.size is not None:
                with _store_errors():
                    self._fs.cp_file(self._at(name), self._at(numbered(name, number)))
            # In this order: the file and parts that a killed task leaves must not look like the beginning of another.
            for part in reversed((*left.stale, *left.parts)):
                self.remove(part.name)
            if left.size is not None:
                self.remove(name)

    def _at(self, name: str) -> str:
        return f"{self._prefix}/{name}"


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """Raise what a store's client raises as an OSError; those of S3 have classes of their own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
