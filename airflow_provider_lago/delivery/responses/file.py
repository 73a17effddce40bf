"""Answers as lines of a local file."""

from __future__ import annotations

import contextlib
import os
import re
from io import FileIO
from pathlib import Path
from typing import Any

from airflow_provider_lago.delivery.earlier import keep_earlier
from airflow_provider_lago.delivery.responses.response import Response

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class LineFile:
    """
    A new file that holds whole lines only. Its folder is made; a file of an earlier run gets another name.

    :param path: The file.
    :param what: Name of the argument, for messages.
    :raises ValueError: if the path is empty, a URI or a folder.
    :raises OSError: if the file cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], *, what: str) -> None:
        text = os.fspath(path)
        if not text.strip():
            raise ValueError(f"{what} is empty: give the path of a file such as '/data/responses.jsonl'")
        if _URI.match(text):
            raise ValueError(
                f"{what} {text.partition('?')[0]!r} is a URI, but answers are written as they come, which object "
                "stores cannot do: give a local path, and copy the file when the task is done"
            )
        self.path = Path(text)
        if self.path.is_dir() or text.endswith(os.sep):
            raise ValueError(f"{what} {text!r} is a folder: give the path of a file in it")
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{what} {text!r} is not a file")  # such as /dev/null, which must not be renamed
        self.path.parent.mkdir(parents=True, exist_ok=True)
        keep_earlier(self.path)
        # Not buffered: a killed task leaves whole lines, and none is missing.
        self._file: FileIO = FileIO(os.fspath(self.path), "xb")
        self._end = 0

    def write(self, line: bytes) -> None:
        """
        Append a line, whole or not at all.

        :raises OSError: if it cannot be written.
        """
        left = memoryview(line + b"\n")
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

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileResponses:
    """
    Writes each answer as one line of JSON, in the order in which they come; nothing of it is held in memory.

    A line is in the file when :meth:`put` returns, so that a killed task has lost none. A disk that takes no more
    lines stops the delivery: evidence is not lost silently.

    :param path: The file; made anew, its folder too. A file of an earlier run is kept as ``<name>.1.jsonl`` and so on.
    :raises ValueError: if the path is empty, a URI or a folder, before anything is sent.
    :raises OSError: if the file cannot be made, before anything is sent.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lines = LineFile(path, what="responses_path")
        self._written = 0

    async def put(self, response: Response) -> None:
        """Write an answer down."""
        # Nothing is awaited, so two answers cannot get mixed up.
        self._lines.write(response.line())
        self._written += 1

    async def close(self, within: float | None = None) -> None:
        """Close the file; nothing waits."""
        self._lines.close()

    def summary(self) -> dict[str, Any]:
        """Return the path and the number of lines."""
        return {"path": str(self._lines.path), "written": self._written}
