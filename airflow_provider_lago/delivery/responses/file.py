"""Answers as lines of a local file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from airflow_provider_lago.delivery.responses.response import Response
from airflow_provider_lago.storage.earlier import keep_earlier
from airflow_provider_lago.storage.lines import LineFile

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def open_lines(path: str | os.PathLike[str], *, what: str, append: bool = False) -> LineFile:
    """
    Open a file for answers. Its folder is made; a file of an earlier run gets another name.

    :param path: The file.
    :param what: Name of the argument, for messages.
    :param append: Go on with the file of an earlier try, where there is one.
    :raises ValueError: if the path is empty, a URI or a folder.
    :raises OSError: if the file cannot be made.
    """
    text = os.fspath(path)
    if not text.strip():
        raise ValueError(f"{what} is empty: give the path of a file such as '/data/responses.jsonl'")
    if _URI.match(text):
        raise ValueError(
            f"{what} {text.partition('?')[0]!r} is a URI, but answers are written as they come, which object "
            "stores cannot do: give a local path, and copy the file when the task is done"
        )
    file = Path(text)
    if file.is_dir() or text.endswith(os.sep):
        raise ValueError(f"{what} {text!r} is a folder: give the path of a file in it")
    if file.exists() and not file.is_file():
        raise ValueError(f"{what} {text!r} is not a file")  # such as /dev/null, which must not be renamed
    file.parent.mkdir(parents=True, exist_ok=True)
    if not append:
        keep_earlier(file)
    return LineFile(file, append=append)


class FileResponses:
    """
    Writes each answer as one line of JSON, in the order in which they come; nothing of it is held in memory.

    A line is in the file when :meth:`put` returns, so that a killed task has lost none. A disk that takes no more
    lines stops the delivery: evidence is not lost silently.

    :param path: The file; made anew, its folder too. A file of an earlier run is kept as ``<name>.1.jsonl`` and so on.
    :param append: Go on with the file of an earlier try, for a delivery that is resumed.
    :raises ValueError: if the path is empty, a URI or a folder, before anything is sent.
    :raises OSError: if the file cannot be made, before anything is sent.
    """

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self._lines = open_lines(path, what="responses_path", append=append)
        self._written = 0

    async def put(self, response: Response) -> None:
        """Write an answer down."""
        # Nothing is awaited, so two answers cannot get mixed up.
        self._lines.write(response.line() + b"\n")
        self._written += 1

    async def close(self, within: float | None = None) -> None:
        """Close the file; nothing waits."""
        self._lines.close()

    def summary(self) -> dict[str, Any]:
        """Return the path and the number of lines."""
        return {"path": str(self._lines.path), "written": self._written}
