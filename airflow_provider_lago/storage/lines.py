"""Files that grow line by line, and hold whole lines only, whatever happens."""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path
from typing import Protocol


class CannotContinueError(ValueError):
    """A file that an earlier try began is not there any more as that try left it."""


class Lines(Protocol):
    """
    Takes lines of evidence.

    A checkpoint vouches for what :meth:`seal` covered and :meth:`keep` made safe: a later try goes on from there, and
    whatever was written after it is written again.
    """

    @property
    def held(self) -> int:
        """Bytes in memory that are not kept yet."""

    def write(self, lines: bytes) -> None:
        """
        Append whole lines, all of them or none.

        :raises OSError: if they cannot be written.
        """

    def seal(self) -> int:
        """Return a mark that covers all lines so far. Takes no time."""

    def keep(self) -> None:
        """
        Make safe what is sealed. May take its time.

        :raises OSError: if it cannot be written.
        """

    def close(self) -> None:
        """
        Make safe what is written, and end.

        :raises OSError: if it cannot be written.
        """


class LineFile:
    """
    A local file of lines. Not buffered: a killed task leaves all lines, and at most the beginning of one more.

    :param path: The file. It must not exist, unless something is gone on with.
    :param mark: What :meth:`seal` returned in the try that is gone on with; lines after it are dropped.
    :param append: Go on behind the last whole line of the file, where there is one.
    :raises OSError: if the file cannot be written.
    :raises CannotContinueError: if the file of the earlier try is not there, or shorter than its mark.
    """

    def __init__(self, path: str | os.PathLike[str], *, mark: int | None = None, append: bool = False) -> None:
        self.path = Path(path)
        if mark is not None:
            self._file, self._end = _reopened(self.path, mark)
        elif append and self.path.exists():
            self._file, self._end = _reopened(self.path, _end_of_last_line(self.path))
        else:
            self._file, self._end = FileIO(os.fspath(self.path), "xb"), 0

    def __str__(self) -> str:
        return str(self.path)

    @property
    def held(self) -> int:
        """Nothing."""
        return 0

    def write(self, lines: bytes) -> None:
        """Append whole lines, all of them or none."""
        left = memoryview(lines)
        end = self._end + len(left)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError:
            # A full disk takes the beginning of a line.
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
                self._file.seek(self._end)
            raise
        self._end = end

    def seal(self) -> int:
        """Return the size of the file."""
        return self._end

    def keep(self) -> None:
        """Do nothing: each line is in the file when :meth:`write` returns."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def drop_half_line(path: Path) -> None:
    """
    Cut a file behind its last whole line: a kill in the middle of a write leaves the beginning of another.

    :param path: The file.
    :raises OSError: if it cannot be changed.
    """
    end = _end_of_last_line(path)
    if end != path.stat().st_size:
        os.truncate(path, end)


def _reopened(path: Path, end: int) -> tuple[FileIO, int]:
    try:
        file = FileIO(os.fspath(path), "r+b")
    except FileNotFoundError:
        raise CannotContinueError(f"{str(path)!r} is not there any more") from None
    if file.seek(0, os.SEEK_END) < end:
        file.close()
        raise CannotContinueError(f"{str(path)!r} is shorter than it was")
    file.truncate(end)
    file.seek(end)
    return file, end


def _end_of_last_line(path: Path) -> int:
    """Return where the last whole line ends."""
    step = 1 << 16
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - step)
            stream.seek(begin)
            found = stream.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0
