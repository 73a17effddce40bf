"""Where files are: on this machine or in an object store. What finds, looks at and opens them."""

from __future__ import annotations

import contextlib
import glob
import io
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

from airflow_provider_lago.sources.read_ahead import ReadAhead
from airflow_provider_lago.sources.rows import SourceError

#: URI of a file in an object store -> its file system of ``fsspec``.
Stores = Callable[[str], Any]

_BUFFER = 1 << 17

#: What file systems call that which changes with an object's content, the surest first.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "updated", "created")


class State(NamedTuple):
    """
    What another content of a file has otherwise.

    :param size: In bytes.
    :param version: Time of the last change, or what a store has instead.
    """

    size: int
    version: str


class Place(Protocol):
    """Where files are. Names are those that the place gives them."""

    #: Whether a look at a file takes a request over the network.
    is_remote: bool

    def exists(self, name: str) -> bool:
        """Tell whether there is a file or folder of a name."""

    def is_folder(self, name: str) -> bool:
        """Tell whether it is a folder."""

    def matches(self, pattern: str) -> list[str]:
        """Return the files that a glob matches, in name order."""

    def identity(self, name: str) -> str:
        """Return what is the same for all names of one file."""

    def shown(self, name: str) -> str:
        """Return a name as users write it."""

    def state(self, name: str) -> State:
        """
        Look at a file.

        :raises SourceError: if it cannot be read.
        :raises OSError: if it cannot be read now.
        """

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""


class LocalPlace:
    """The file system of the worker."""

    is_remote = False

    def exists(self, name: str) -> bool:
        """Tell whether there is a file or folder of a name."""
        return os.path.exists(name)

    def is_folder(self, name: str) -> bool:
        """Tell whether it is a folder."""
        return os.path.isdir(name)

    def matches(self, pattern: str) -> list[str]:
        """Return the files that a glob matches, in name order; ``**`` matches folders."""
        return sorted(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))

    def identity(self, name: str) -> str:
        """Return the real path."""
        return os.path.realpath(name)

    def shown(self, name: str) -> str:
        """Return the path."""
        return name

    def state(self, name: str) -> State:
        """Look at a file."""
        try:
            if not os.path.isfile(name):
                raise SourceError(f"{name!r} is not a regular file: copy what it gives into one first")
            with open(name, "rb") as stream:
                found = os.fstat(stream.fileno())
        except OSError as error:
            raise SourceError(f"file {name!r} cannot be read: {error.strerror}") from None
        return State(found.st_size, str(found.st_mtime_ns))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return open(name, "rb", buffering=_BUFFER)


class StorePlace:
    """
    An object store. Whatever a store raises, it is an ``OSError`` here.

    :param fs: The store, a file system of ``fsspec``.
    :param prefix: What stands before a name of the file system in the URIs of the user, such as ``s3://conn_id@``.
    """

    is_remote = True

    def __init__(self, fs: Any, prefix: str) -> None:
        self._fs = fs
        self._prefix = prefix

    def exists(self, name: str) -> bool:
        """Tell whether there is an object or a prefix of a name."""
        with store_errors(self.shown(name)):
            self._fs.invalidate_cache()  # of listings: the object may be new since the last task of this process
            return bool(self._fs.exists(name))

    def is_folder(self, name: str) -> bool:
        """Tell whether it is a prefix and no object."""
        with store_errors(self.shown(name)):
            return bool(self._fs.isdir(name))

    def matches(self, pattern: str) -> list[str]:
        """Return the objects that a glob matches, in name order; empty ones whose names end in ``/`` are folders."""
        with store_errors(self.shown(pattern)):
            found = self._fs.glob(pattern, detail=True)
            return sorted(name for name, info in found.items() if info["type"] == "file" and not name.endswith("/"))

    def identity(self, name: str) -> str:
        """Return the URI."""
        return self.shown(name)

    def shown(self, name: str) -> str:
        """Return the URI as the user writes it."""
        return self._prefix + name

    def state(self, name: str) -> State:
        """Look at an object."""
        try:
            with store_errors(self.shown(name)):
                info = self._fs.info(name)
        except (FileNotFoundError, PermissionError) as error:
            raise SourceError(f"it cannot be read: {error}") from None
        version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
        return State(int(info["size"]), version)

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading."""
        before = self.state(name)

        def fetch(begin: int, end: int) -> bytes:
            with store_errors(self.shown(name)):
                content: bytes = self._fs.cat_file(name, start=begin, end=end)
            return content

        return io.BufferedReader(ReadAhead(fetch, before.size), _BUFFER)


LOCAL = LocalPlace()


def place_of(path: str, stores: Stores | None) -> tuple[Place, str]:
    """
    Return the place of a path or URI, and its name there.

    :param path: As the user wrote it.
    :param stores: Gives the file systems of object stores; None where there are none.
    :raises SourceError: if it is the URI of a store, and there are none.
    """
    scheme, separator, rest = path.partition("://")
    if not separator:
        return LOCAL, path
    if scheme == "file":
        return LOCAL, rest
    if stores is None:
        raise SourceError(f"{path!r}: only local files can be read here, not {scheme}://")
    try:
        fs = stores(path)
    except ValueError as error:
        raise SourceError(f"{path!r}: {error}") from None
    conn = conn_of(path)
    return StorePlace(fs, f"{scheme}://{conn}@" if conn else f"{scheme}://"), name_in(fs, path)


def conn_of(uri: str) -> str:
    """Return the Airflow connection that a URI names before the bucket; empty for none."""
    return uri.partition("://")[2].partition("/")[0].rpartition("@")[0]


def name_in(fs: Any, uri: str) -> str:
    """Return what the file system of an object store calls the object of a URI."""
    conn = conn_of(uri)
    scheme, separator, rest = uri.partition("://")
    return str(fs._strip_protocol(scheme + separator + (rest.removeprefix(f"{conn}@") if conn else rest)))


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Raise what a store's client raises as an OSError that names the object; those of S3 have classes of their own."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise type(error)(f"{uri}: {error}") from error
    except Exception as error:
        raise OSError(f"{uri}: {type(error).__name__}: {error}") from error
