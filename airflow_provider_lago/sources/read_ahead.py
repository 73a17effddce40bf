"""Reading a remote file in chunks, the next one being fetched while one is worked on."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

#: Bytes of a request. Two are held at a time.
CHUNK = 4 << 20


class ReadAhead(io.RawIOBase):
    """
    A remote file as a stream. Only who reads faster than the store gives waits for it.

    Records are read in the thread that also sends them: a request to the store for each piece, made there, would stop
    all sending meanwhile.

    :param fetch: Returns the bytes from one offset up to another.
    :param size: Of the file, in bytes.
    :param chunk: Bytes of a request.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, chunk: int = CHUNK) -> None:
        self._fetch = fetch
        self._size = size
        self._step = chunk
        self._position = 0
        self._begin = 0
        self._held = memoryview(b"")
        self._next: tuple[int, Future[bytes]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lago-read-ahead")

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go on elsewhere."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"a file has no byte {origin + offset}")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read what fits and is at hand; fetch where nothing is."""
        if self._position >= self._size:
            return 0
        at = self._position - self._begin
        if not 0 <= at < len(self._held):
            self._take(self._position)
            at = 0
        count = min(len(buffer), len(self._held) - at)
        buffer[:count] = self._held[at : at + count]
        self._position += count
        return count

    def close(self) -> None:
        """Give up what is being fetched."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _take(self, begin: int) -> None:
        on_its_way, self._next = self._next, None
        goes_on = begin == self._begin + len(self._held)
        self._held = memoryview(b"")
        if on_its_way is None or on_its_way[0] != begin:
            on_its_way = (begin, self._ask(begin))
        content = on_its_way[1].result()
        wanted = min(self._size, begin + self._step) - begin
        if len(content) != wanted:
            raise OSError(f"the store gave {len(content):,} bytes from byte {begin:,} on, and not {wanted:,}")
        self._begin, self._held = begin, memoryview(content)
        after = begin + wanted
        if (goes_on or begin == 0) and after < self._size:  # who jumps about will not want what comes next
            self._next = (after, self._ask(after))

    def _ask(self, begin: int) -> Future[bytes]:
        return self._thread.submit(self._fetch, begin, min(self._size, begin + self._step))
