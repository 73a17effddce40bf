"""Compressed files: what a file holds decides how it is read, and not what it is called."""

from __future__ import annotations

import bz2
import io
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, Protocol

from airflow_provider_lago.sources.rows import SourceError

#: Bytes that are read from the file at a time, and held of what they say.
_BLOCK = 1 << 17

#: The largest window of zstd data, as a power of two: the memory that a frame may ask for, and what the command zstd
#: reads unless it is told otherwise.
_LARGEST_WINDOW = 27

_SUFFIX = re.compile(r"(?<=[^/\\])\.(gz|gzip|bz2|zst|zstd)$", re.IGNORECASE)

#: How files begin that are compressed in another way.
_OTHERS = {b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "a zip archive", b"7z\xbc\xaf\x27\x1c": "7z", b"\x04\x22\x4d\x18": "lz4"}


class _Decompressor(Protocol):
    """One member (gzip), stream (bz2) or frame (zstd)."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor, which gives back what it has not looked at, in the manner of the others, which keep it."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        tail = self._zlib.unconsumed_tail
        return self._zlib.decompress(tail + data if tail else data, max_length)


class _Kind(NamedTuple):
    name: str
    magic: re.Pattern[bytes]
    open: Callable[[str], Callable[[], _Decompressor]]
    #: Bytes that may stand behind a member and say nothing.
    padding: bytes = b""


def _open_zstd(origin: str) -> Callable[[], _Decompressor]:
    zstd = _zstd_library(origin)
    options = {zstd.DecompressionParameter.window_log_max: _LARGEST_WINDOW}
    return lambda: zstd.ZstdDecompressor(options=options)


def _zstd_library(origin: str) -> Any:
    from importlib import import_module

    for name in ("compression.zstd", "backports.zstd"):  # of Python 3.14, and for those before it
        try:
            return import_module(name)
        except ImportError:
            continue
    raise SourceError(f"{origin!r} is zstd data, which needs a library: pip install 'airflow-provider-lago[zstd]'")


_KINDS = (
    _Kind("gzip", re.compile(rb"\x1f\x8b\x08"), lambda origin: _Gzip, padding=b"\0"),
    _Kind("bz2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), lambda origin: bz2.BZ2Decompressor),
    _Kind("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), _open_zstd),
)


def inner_name(name: str) -> str:
    """
    Return the name without the ending of its compression: ``usage.jsonl`` for ``usage.jsonl.gz``.

    :param name: Name or path of a file.
    """
    return _SUFFIX.sub("", name)


def decompressed(stream: BinaryIO, origin: str) -> BinaryIO:
    """
    Return what a file says, compressed or not: plain, gzip, bz2 or zstd, in one piece or several.

    Its content decides: a store may have decompressed ``usage.jsonl.gz`` on the way, and a ``.jsonl`` may have been
    compressed. The result can be read by lines and sought; seeking back decompresses from the beginning again. Damaged
    data raises a :class:`SourceError` at the place where it is found, behind the lines that could be read. Checksums
    stand at the end of the data, so damage may be found out only there; zstd data may have none.

    :param stream: The open file, at its beginning; it stays open when the result is closed.
    :param origin: Its name.
    :raises SourceError: if it is compressed in another way, or needs a library that is not installed.
    """
    begin = stream.tell()
    head = stream.read(16)
    stream.seek(begin)
    for kind in _KINDS:
        if kind.magic.match(head):
            return io.BufferedReader(_Decompressed(stream, origin, kind), _BLOCK)
    other = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)
    if other is not None:
        raise SourceError(f"{origin!r} is {other}, which is not read: make it plain, gzip, bz2 or zstd")
    if not head and inner_name(origin) != origin:
        raise SourceError(f"{origin!r} is empty, which a compressed file never is: it was cut off, write it again")
    return stream


class _Decompressed(io.RawIOBase):
    """
    The content of compressed data, a bounded piece at a time.

    Of its own, and not :class:`gzip.GzipFile` and :class:`bz2.BZ2File`: the latter ends in silence where something
    else than bz2 data follows, and both raise OSError for damaged data as well as for a store that does not answer.
    """

    def __init__(self, stream: BinaryIO, origin: str, kind: _Kind) -> None:
        self._stream = stream
        self._origin = origin
        self._kind = kind
        self._new = kind.open(origin)
        self._begin = stream.tell()
        self._restart()

    def _restart(self) -> None:
        self._decompressor = self._new()
        self._position = 0
        self._may_have_more = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        if whence == io.SEEK_SET and offset < 0:
            raise ValueError("negative seek position")
        if whence != io.SEEK_END and offset < self._position:
            self._stream.seek(self._begin)
            self._restart()
        while whence == io.SEEK_END or self._position < offset:
            if not self._next(_BLOCK if whence == io.SEEK_END else min(_BLOCK, offset - self._position)):
                break
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        piece = self._next(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _next(self, most: int) -> bytes:
        """Return up to so many bytes; none at the end."""
        while True:
            data = b""
            if self._decompressor.eof:
                data = self._next_member()
                if not data:
                    return b""
            elif not self._may_have_more:
                data = self._stream.read(_BLOCK)
                if not data:
                    raise self._broken("it breaks off")
            try:
                piece = self._decompressor.decompress(data, most)
            except Exception as error:  # noqa: BLE001 - each library has its own; all mean that the data is wrong
                raise self._broken(str(error)) from None
            # A full piece may not be all that the data says, which the decompressor keeps until it is asked again.
            self._may_have_more = len(piece) == most
            self._position += len(piece)
            if piece:
                return piece

    def _next_member(self) -> bytes:
        """Begin with what follows a member; nothing at the end."""
        data = self._decompressor.unused_data.lstrip(self._kind.padding)
        while not data:
            block = self._stream.read(_BLOCK)
            if not block:
                return b""
            data = block.lstrip(self._kind.padding)
        self._decompressor = self._new()
        return data

    def _broken(self, why: str) -> SourceError:
        return SourceError(
            f"{self._origin!r}: the {self._kind.name} data is damaged or cut off, found at about byte "
            f"{self._stream.tell():,} of the file, behind {self._position:,} bytes of content: {why}. Write the file "
            "again; where the data is damaged, records that were read from it may be wrong"
        )
