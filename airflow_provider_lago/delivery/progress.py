"""Which records have an outcome: all of the beginning, and those behind it that were settled out of turn."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence


class Progress:
    """
    A set of positions that grows mostly at its end: a number, and a few ranges beyond it.

    :param compact: What :meth:`compact` returned.
    """

    def __init__(self, compact: Sequence[int] = (0,)) -> None:
        #: All records up to this position are settled.
        self.upto = compact[0]
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        at = self.upto
        for gap, length in zip(compact[1::2], compact[2::2], strict=True):
            first = at + gap + 1
            at = first + length - 1
            self._firsts.append(first)
            self._lasts.append(at)

    @property
    def last(self) -> int:
        """The last settled position."""
        return self._lasts[-1] if self._lasts else self.upto

    @property
    def ranges(self) -> int:
        """Number of ranges beyond the beginning."""
        return len(self._firsts)

    def __len__(self) -> int:
        return self.upto + sum(last - first + 1 for first, last in zip(self._firsts, self._lasts, strict=True))

    def __contains__(self, position: int) -> bool:
        if position <= self.upto:
            return position > 0
        at = bisect_right(self._firsts, position) - 1
        return at >= 0 and position <= self._lasts[at]

    def add(self, first: int, last: int) -> None:
        """Add a range of positions, none of which is in the set."""
        if first == self.upto + 1:
            self.upto = last
            if self._firsts and self._firsts[0] == last + 1:
                self.upto = self._lasts[0]
                del self._firsts[0], self._lasts[0]
            return
        at = bisect_right(self._firsts, first)
        joins_before = at > 0 and self._lasts[at - 1] == first - 1
        joins_after = at < len(self._firsts) and self._firsts[at] == last + 1
        if joins_before and joins_after:
            self._lasts[at - 1] = self._lasts[at]
            del self._firsts[at], self._lasts[at]
        elif joins_before:
            self._lasts[at - 1] = last
        elif joins_after:
            self._firsts[at] = first
        else:
            self._firsts.insert(at, first)
            self._lasts.insert(at, last)

    def add_all(self, positions: Iterable[int]) -> None:
        """Add positions, none of which is in the set."""
        for first, last in _runs(positions):
            self.add(first, last)

    def compact(self) -> list[int]:
        """Return the set as a few small numbers: the beginning, then a gap and a length for each range beyond it."""
        compact = [self.upto]
        at = self.upto
        for first, last in zip(self._firsts, self._lasts, strict=True):
            compact += (first - at - 1, last - first + 1)
            at = last
        return compact


def _runs(positions: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Return positions as ranges; they come nearly always in order, and need not."""
    first = last = None
    for position in positions:
        if last is not None and first is not None and position == last + 1:
            last = position
            continue
        if last is not None and first is not None:
            yield first, last
        first = last = position
    if last is not None and first is not None:
        yield first, last
