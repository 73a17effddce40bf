"""Records from files, one after the other."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import Any, BinaryIO

from airflow_provider_lago.sources.compression import decompressed
from airflow_provider_lago.sources.finding import Files, Piece, expand
from airflow_provider_lago.sources.formats import Reading, beginning_of, reader_of
from airflow_provider_lago.sources.places import Stores
from airflow_provider_lago.sources.rows import BEGINNING, Row, SourceError, Start

#: Places to begin at that are remembered; a delivery is never so far ahead of its slowest record.
_MOST_STARTS = 10_000

#: Objects of a store whose beginnings are looked at before anything is sent: each look is a request.
_LOOKED_AT = 10


class FileSource:
    """
    Records from one or several files, read one after the other.

    :param files: A path, a URI or a glob (``**`` matches folders), a part of a file as ``plan_shards`` gives it, or a
        list of them. A glob's files come in name order. A file that several of them name is read once.
    :param reading: How they are read.
    :param stores: Gives the file systems of object stores; None where only local files are read.
    :raises SourceError: if there is nothing to read, a path is missing, a folder or not readable, or its format is
        not known.
    """

    is_foreign = False

    def __init__(self, files: Files, reading: Reading | None = None, stores: Stores | None = None) -> None:
        reading = reading or Reading()
        self._pieces = expand(files, stores)
        self._readers = [reader_of(piece, reading) for piece in self._pieces]
        self._states = [piece.state() for piece in self._pieces]
        self._sizes = [
            piece.bytes[1] - piece.bytes[0] if piece.bytes else state.size
            for piece, state in zip(self._pieces, self._states, strict=True)
        ]
        _check(self._pieces, reading)
        self._done = 0
        self._starts: deque[Start] = deque(maxlen=_MOST_STARTS)
        self._start = BEGINNING
        self._open: tuple[BinaryIO, int] | None = None

    @property
    def paths(self) -> list[str]:
        """The files, as they are shown to people."""
        return list(dict.fromkeys(piece.path for piece in self._pieces))

    @property
    def is_shard(self) -> bool:
        """Whether it is a part of what several tasks read, which may have nothing to read."""
        return any(piece.expected is not None for piece in self._pieces)

    def __str__(self) -> str:
        pieces = self._pieces
        named = pieces[0].origin if len(pieces) == 1 else f"{len(pieces)} files, {pieces[0].origin} first,"
        return f"{named} ({sum(self._sizes):,} bytes)"

    def rows(self, start: Start = BEGINNING) -> Iterator[Row]:
        """Yield the records of all files; positions go on from file to file."""
        self._start = start
        self._done = sum(self._sizes[: start.file])
        for number in range(start.file, len(self._pieces)):
            piece, begin = self._pieces[number], start
            if piece.bytes is not None and not start.offset:
                begin = start._replace(offset=piece.bytes[0])
            with closing(piece.open()) as whole:
                self._open = whole, piece.bytes[0] if piece.bytes else 0
                stream = decompressed(_up_to(whole, piece), piece.path)
                position = yield from self._readers[number](stream, piece.origin, begin, self._starts.append)
                self._open = None
            if piece.place.is_remote and piece.state() != self._states[number]:
                raise OSError(f"{piece.path} was replaced while it was read; what was read is a mix of both")
            self._done += self._sizes[number]
            start = Start(position, number + 1)
            self._starts.append(start)

    def start_after(self, position: int) -> Start:
        """Return the last place to begin at that is known and not behind a position."""
        while self._starts:
            first = self._starts.popleft()  # taken before it is looked at: a full queue drops its first meanwhile
            if first.position > position:
                self._starts.appendleft(first)
                break
            self._start = first
        return self._start

    def fingerprint(self) -> str | None:
        """Return the files with their sizes and the times of their last change."""
        return repr(
            [
                (piece.place.identity(piece.name), piece.bytes, piece.row_groups, *state)
                for piece, state in zip(self._pieces, self._states, strict=True)
            ]
        )

    def share_done(self) -> float | None:
        """Share of the files' bytes."""
        whole = sum(self._sizes)
        here = 0
        try:
            if self._open is not None:
                stream, begin = self._open
                here = stream.tell() - begin
        except (OSError, ValueError):  # closed in the meantime by the thread that reads
            pass
        return min(1.0, (self._done + max(0, here)) / whole) if whole else None


def _check(pieces: list[Piece], reading: Reading) -> None:
    """Look at the beginning of the files, for what must be known before anything is sent."""
    remote = 0
    for piece in pieces:
        check = beginning_of(piece, reading)
        if check is None:
            continue
        remote += piece.place.is_remote
        if remote > _LOOKED_AT:
            return
        try:
            with closing(piece.open()) as stream:
                check(decompressed(stream, piece.path))
        except OSError as error:
            if piece.place.is_remote:
                raise
            raise SourceError(f"file {piece.path!r} cannot be read: {error.strerror}") from None


class _UpTo(io.RawIOBase):
    """The first bytes of a file."""

    def __init__(self, stream: BinaryIO, end: int) -> None:
        self._stream = stream
        self._end = end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset) if whence == io.SEEK_SET else self._stream.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), max(0, self._end - self._stream.tell()))
        content = self._stream.read(size)
        buffer[: len(content)] = content
        return len(content)


def _up_to(stream: BinaryIO, piece: Piece) -> BinaryIO:
    return stream if piece.bytes is None else io.BufferedReader(_UpTo(stream, piece.bytes[1]), 1 << 17)
