"""How much a webhook may cost a delivery: when to stop trying, and how long to wait for it in all."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """
    Opens when a webhook could take nothing several times in a row; then only a probe goes out from time to time.

    :param failures: So many in a row open it.
    :param probe_every: Seconds between two probes.
    :param clock: Monotonic time in seconds.
    """

    def __init__(self, failures: int, probe_every: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.open = False
        self._most = failures
        self._probe_every = probe_every
        self._clock = clock
        self._failures = 0
        self._next_probe = 0.0

    def note_alive(self) -> None:
        """The webhook works."""
        self._failures = 0
        self.open = False

    def note_failure(self) -> bool:
        """The webhook took nothing in any of the tries for an answer; return whether that opens the breaker."""
        self._failures += 1
        self._next_probe = self._clock() + self._probe_every
        opens = not self.open and self._failures >= self._most
        self.open |= opens
        return opens

    def take_probe(self) -> bool:
        """Tell whether it is time for a probe, and take that turn."""
        now = self._clock()
        if now < self._next_probe:
            return False
        self._next_probe = now + self._probe_every
        return True


class Patience:
    """
    Bounds the time for which a delivery waits: a fixed time, and as long again as it did not wait.

    So a webhook at most doubles the time of a delivery, give or take the fixed time. Several callers that wait at the
    same time count once.

    :param seconds: The fixed time.
    :param clock: Monotonic time in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._started: float | None = None
        self._waiting = 0
        self._since = 0.0
        self._waited = 0.0

    def start(self) -> None:
        """Note that the delivery runs; only the first call counts."""
        if self._started is None:
            self._started = self._clock()

    def left(self) -> float:
        """Return the seconds that may still be waited."""
        now = self._clock()
        waited = self._waited + (now - self._since if self._waiting else 0.0)
        worked = (now - self._started if self._started is not None else 0.0) - waited
        return self._seconds + worked - waited

    def begin(self) -> None:
        """Note that somebody begins to wait."""
        if not self._waiting:
            self._since = self._clock()
        self._waiting += 1

    def end(self) -> None:
        """Note that somebody has waited."""
        self._waiting -= 1
        if not self._waiting:
            self._waited += self._clock() - self._since
