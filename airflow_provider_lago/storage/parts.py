"""Lines in an object store, where nothing can be appended to: parts that are joined at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from airflow_provider_lago.storage.lines import CannotContinueError

_PART = re.compile(r"\.(?P<name>.+)\.(?P<number>[0-9]{6})\.part")

#: Bytes that are read and written at once when parts are joined.
JOINED = 8 << 20


class Objects(Protocol):
    """What parts need of a folder in an object store."""

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None where there is none."""

    def write(self, name: str, chunks: Sequence[bytes]) -> None:
        """Write an object."""

    def join(self, name: str, contents: Iterable[bytes]) -> None:
        """Write an object of many pieces, which may be larger than the memory."""

    def remove(self, name: str) -> None:
        """Remove an object."""

    def names(self) -> list[str]:
        """Return the names of the objects."""

    def path(self, name: str) -> str:
        """Return where an object is."""


class StoreLines:
    """
    A file of lines in an object store. Lines are held until :meth:`keep` writes them as one more part, whole or not at
    all; :meth:`close` joins the parts to the file.

    :param folder: Where.
    :param name: Name of the file.
    :param mark: What :meth:`seal` returned in the try that is gone on with; parts after it are dropped.
    :param append: Go on behind the parts, or the file, that are there.
    :raises CannotContinueError: if the parts of the earlier try are not there.
    """

    def __init__(self, folder: Objects, name: str, *, mark: int | None = None, append: bool = False) -> None:
        self._folder = folder
        self._name = name
        self._held: list[bytes] = []
        self._sealed: list[tuple[int, list[bytes]]] = []
        self._keeping = threading.Lock()
        names = folder.names()
        found = parts_of(name, names)
        self._begins_with_file = append and name in names
        if mark is not None and found[:mark] != list(range(1, mark + 1)):
            raise CannotContinueError(f"parts of {folder.path(name)!r} are not there any more")
        self._count = mark if mark is not None else max(found, default=0) if append else 0
        for number in found:
            if number > self._count:
                folder.remove(part_name(name, number))

    def __str__(self) -> str:
        return self._folder.path(self._name)

    def write(self, lines: bytes) -> None:
        """Hold whole lines."""
        self._held.append(lines)

    def seal(self) -> int:
        """Return the number of parts that hold all lines so far, as soon as :meth:`keep` has written them."""
        if self._held:
            self._count += 1
            self._sealed.append((self._count, self._held))
            self._held = []
        return self._count

    def keep(self) -> None:
        """Write the parts that are sealed."""
        with self._keeping:
            while self._sealed:
                number, lines = self._sealed[0]
                self._folder.write(part_name(self._name, number), lines)
                del self._sealed[0]

    def close(self) -> None:
        """Write what is held, and join the parts."""
        self.seal()
        self.keep()
        numbers = range(1, self._count + 1)
        self._folder.join(self._name, self._pieces(numbers))
        for number in numbers:
            self._folder.remove(part_name(self._name, number))
        self._count = 0
        self._begins_with_file = True

    def _pieces(self, numbers: Iterable[int]) -> Iterator[bytes]:
        if self._begins_with_file:
            yield self._folder.read(self._name) or b""
        for number in numbers:
            yield self._folder.read(part_name(self._name, number)) or b""


def part_name(name: str, number: int) -> str:
    """Return the name of a part; it begins with a dot, so that a glob for the file does not find it."""
    return f".{name}.{number:06d}.part"


def parts_of(name: str, names: Iterable[str]) -> list[int]:
    """Return the numbers of a file's parts in order."""
    found = (_PART.fullmatch(candidate) for candidate in names)
    return sorted(int(part["number"]) for part in found if part is not None and part["name"] == name)
