"""Keeps what an earlier run left under another name, so that evidence is never overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def keep_earlier(*paths: Path) -> None:
    """
    Rename files of an earlier run to the next free number, which they share: ``a.jsonl`` to ``a.1.jsonl``.

    The new names are reserved before anything is renamed, so that two tasks that begin at the same time cannot
    overwrite each other's files.

    :param paths: Files that belong together; those that do not exist are left out.
    :raises OSError: if one is not a file, or cannot be renamed.
    """
    for path in paths:
        if _is_no_file(path):
            raise OSError(f"{str(path)!r} is not a file, so it cannot be kept under another name")
    found = [path for path in paths if path.exists() or path.is_symlink()]
    if not found:
        return
    number = 1
    while any(_numbered(path, number).exists() for path in paths) or not _reserve(found, number):
        number += 1
    for path in found:
        try:
            path.replace(_numbered(path, number))
        except FileNotFoundError:  # another task was faster
            _numbered(path, number).unlink(missing_ok=True)


def _is_no_file(path: Path) -> bool:
    """Tell whether something else is there, such as a folder; in one look, as another task may rename it meanwhile."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _reserve(paths: list[Path], number: int) -> bool:
    made: list[Path] = []
    for path in paths:
        target = _numbered(path, number)
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            for reserved in made:
                reserved.unlink(missing_ok=True)
            return False
        made.append(target)
    return True


def numbered(name: str, number: int) -> str:
    """Return the name of an earlier run's file: ``a.jsonl`` as ``a.1.jsonl``."""
    stem, suffix = os.path.splitext(name)
    return f"{stem}.{number}{suffix}"


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(numbered(path.name, number))
