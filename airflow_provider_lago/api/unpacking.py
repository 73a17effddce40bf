"""The body of an answer, unpacked within bounds: a compressed kilobyte may hold a gigabyte. Pure."""

from __future__ import annotations

import zlib
from typing import Protocol

#: What is asked for in ``Accept-Encoding``, and all that is read.
ACCEPTED = "gzip, deflate"

#: ``wbits`` of zlib for a gzip header, a zlib header, and none.
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class AnswerTooLong(Exception):
    """An answer is longer than what is held of one."""


class NotUnpackable(ValueError):
    """A body is not what its ``Content-Encoding`` says, or that names what was not asked for."""


class Body:
    """
    Takes the pieces of a body as they come, and never holds more than its bound.

    :param encoding: ``Content-Encoding`` of the answer.
    :param longest: Most bytes, unpacked.
    :raises NotUnpackable: if the encoding is not one of those asked for.
    """

    def __init__(self, encoding: str | None, longest: int) -> None:
        self._encoding = (encoding or "identity").strip().lower()
        if self._encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
            raise NotUnpackable("a compression that was not asked for")
        self._longest = longest
        self._held = bytearray()
        self._unpacker: _Unpacker | None = None

    def add(self, piece: bytes) -> None:
        """
        Take a piece.

        :raises AnswerTooLong: if the body is longer than the bound.
        :raises NotUnpackable: if it is not compressed as it says.
        """
        if self._encoding == "identity":
            self._held += piece
        elif piece:
            self._held += self._unpacked(piece)
        if len(self._held) > self._longest:
            raise AnswerTooLong

    def whole(self) -> bytes:
        """
        Return the body.

        :raises NotUnpackable: if its end is missing.
        """
        if self._unpacker is not None and not self._unpacker.eof:
            raise NotUnpackable("its compressed end is missing")
        return bytes(self._held)

    def _unpacked(self, piece: bytes) -> bytes:
        if self._unpacker is None:
            self._unpacker = zlib.decompressobj(_wbits(self._encoding, piece))
        try:
            # One byte more than may come, which shows that there is more.
            unpacked = self._unpacker.decompress(piece, self._longest - len(self._held) + 1)
        except zlib.error:
            raise NotUnpackable("it is not compressed as it says") from None
        if self._unpacker.unused_data:
            raise NotUnpackable("something follows its compressed end")
        return unpacked


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool:
        """Whether the end has come."""

    @property
    def unused_data(self) -> bytes:
        """What follows the end."""

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        """Unpack a piece."""


def _wbits(encoding: str, piece: bytes) -> int:
    if encoding != "deflate":
        return _GZIP
    # "deflate" means a zlib header, but some servers send none.
    return _ZLIB if piece[0] & 0x0F == zlib.DEFLATED else _RAW
