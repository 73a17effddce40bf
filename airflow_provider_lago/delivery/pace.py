"""The pace of a delivery: one for all requests in flight, so that they slow down together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Pace:
    """
    Lets requests start: at most so many a second, and none while the server asks for quiet.

    :param per_second: Upper bound of requests a second; None for no bound.
    :param clock: Monotonic time in seconds.
    """

    def __init__(self, per_second: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._clock = clock
        self._next = 0.0
        self._quiet_until = 0.0

    def hold(self, seconds: float) -> None:
        """Let no request start for so many seconds from now, whoever wants to send it."""
        self._quiet_until = max(self._quiet_until, self._clock() + seconds)

    async def turn(self) -> None:
        """Wait until a request may start, and take that turn."""
        while True:
            now = self._clock()
            start = max(self._next, self._quiet_until)
            if start <= now:
                self._next = now + self._interval
                return
            if start > self._quiet_until:
                # The turn is taken at once, in the order of asking; a hold that comes later still delays it.
                self._next = start + self._interval
                await asyncio.sleep(start - now)
                if self._quiet_until <= self._clock():
                    return
            else:
                await asyncio.sleep(start - now)
