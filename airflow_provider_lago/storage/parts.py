"""Lines in an object store, where nothing can be appended to: parts that are joined at the end."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from airflow_provider_lago.storage.lines import CannotContinueError

_PART = re.compile(r"\.(?P<name>.+)\.(?P<begin>[0-9]{15})-(?P<end>[0-9]{15})\.part")


class Objects(Protocol):
    """What parts need of a folder in an object store."""

    def chunks(self, name: str, end: int) -> Iterator[bytes]:
        """Read an object up to an offset, in pieces that fit into memory."""

    def write(self, name: str, chunks: Sequence[bytes]) -> None:
        """Write an object."""

    def join(self, name: str, contents: Iterable[bytes]) -> None:
        """Write an object of many pieces, which may be larger than the memory."""

    def remove(self, name: str) -> None:
        """Remove an object."""

    def sizes(self) -> Mapping[str, int]:
        """Return the sizes of the objects, by name."""

    def path(self, name: str) -> str:
        """Return where an object is."""


class Part(NamedTuple):
    """
    A piece of a file of lines.

    :param name: Of the object. It begins with a dot, so that a glob for the file does not find it.
    :param begin: Where in the file it begins.
    :param end: Where it ends.
    """

    name: str
    begin: int
    end: int


class Remains(NamedTuple):
    """
    What there is of a file.

    :param size: Of the file itself; None where there is none.
    :param parts: Those that go on behind it without a gap, in order.
    :param stale: The other parts: they are in the file already, or something before them is missing.
    """

    size: int | None
    parts: Sequence[Part]
    stale: Sequence[Part]

    @property
    def end(self) -> int:
        """Where file and parts end."""
        return self.parts[-1].end if self.parts else self.size or 0

    def contents(self, folder: Objects, name: str) -> Iterator[bytes]:
        """Read the file and its parts."""
        if self.size:
            yield from folder.chunks(name, self.size)
        for part in self.parts:
            yield from folder.chunks(part.name, part.end - part.begin)


class StoreLines:
    """
    A file of lines in an object store. Lines are held until :meth:`keep` writes them as one more part, whole or not at
    all; :meth:`close` joins the parts to the file.

    Marks are offsets in the file, as those of a local one are: a try that was stopped has joined its parts, and one
    that was killed has not; both can be gone on with.

    :param folder: Where.
    :param name: Name of the file.
    :param mark: What :meth:`seal` returned in the try that is gone on with; what lies behind it is dropped.
    :param append: Go on behind the file and the parts that are there.
    :raises OSError: if the store does not answer as it should.
    :raises CannotContinueError: if the lines of the earlier try are not there.
    """

    def __init__(self, folder: Objects, name: str, *, mark: int | None = None, append: bool = False) -> None:
        self._folder = folder
        self._name = name
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._sealed: list[tuple[Part, list[bytes]]] = []
        #: Lines are written in the delivery's thread, and sealed in the one that keeps them.
        self._changing = threading.Lock()
        self._keeping = threading.Lock()
        self._closed = False
        remains = remains_of(name, folder.sizes())
        if mark is None and not append and remains.size is not None:
            raise FileExistsError(errno.EEXIST, "another task has just made it", folder.path(name))
        self._remains = remains if append else _cut(folder, name, remains, mark or 0)
        self._end = self._remains.end
        for part in (*remains.parts, *remains.stale):
            if part not in self._remains.parts:
                folder.remove(part.name)

    def __str__(self) -> str:
        return self._folder.path(self._name)

    @property
    def held(self) -> int:
        """Bytes that are not kept yet."""
        return self._held_bytes

    def write(self, lines: bytes) -> None:
        """Hold whole lines."""
        with self._changing:
            if self._closed:
                raise ValueError(f"{self} is closed")
            self._held.append(lines)
            self._held_bytes += len(lines)

    def seal(self) -> int:
        """Return where the file ends; it does so as soon as :meth:`keep` has written what is held."""
        with self._changing:
            if self._held:
                begin, self._end = self._end, self._end + sum(map(len, self._held))
                name = f".{self._name}.{begin:015d}-{self._end:015d}.part"
                self._sealed.append((Part(name, begin, self._end), self._held))
                self._held = []
            return self._end

    def keep(self) -> None:
        """Write what is sealed."""
        with self._keeping:
            while self._sealed:
                part, lines = self._sealed[0]
                self._folder.write(part.name, lines)
                self._remains = self._remains._replace(parts=(*self._remains.parts, part))
                with self._changing:
                    del self._sealed[0]
                    self._held_bytes -= part.end - part.begin

    def close(self) -> None:
        """Write what is held, and join the parts. May be called again where it failed."""
        with self._changing:
            self._closed = True
        self.seal()
        self.keep()
        remains = self._remains
        if remains.parts or remains.size is None:
            self._folder.join(self._name, remains.contents(self._folder, self._name))
        for part in remains.parts:
            self._folder.remove(part.name)
        self._remains = Remains(self._end, (), ())


def remains_of(name: str, sizes: Mapping[str, int]) -> Remains:
    """
    Return what there is of a file.

    :param name: Its name.
    :param sizes: The sizes of all objects of the folder, by name.
    """
    matches = (_PART.fullmatch(candidate) for candidate in sizes)
    found = [
        Part(match[0], int(match["begin"]), int(match["end"]))
        for match in matches
        if match is not None and match["name"] == name
    ]
    size = sizes.get(name)
    end = size or 0
    following: list[Part] = []
    for part in sorted(found, key=lambda part: part.begin):
        if part.begin == end:
            following.append(part)
            end = part.end
    return Remains(size, tuple(following), tuple(part for part in found if part not in following))


def _cut(folder: Objects, name: str, remains: Remains, mark: int) -> Remains:
    """Return what is left of a file that is to end at a mark."""
    if remains.size is not None and remains.size >= mark:
        if remains.size > mark:
            folder.join(name, folder.chunks(name, mark))
        return Remains(mark, (), ())
    parts = tuple(part for part in remains.parts if part.end <= mark)
    if (parts[-1].end if parts else remains.size or 0) != mark:
        raise CannotContinueError(f"{folder.path(name)!r} and its parts are shorter than they were")
    return remains._replace(parts=parts)
