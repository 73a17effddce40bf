"""The pace of a delivery: one for all requests in flight, so that they slow down together."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

#: Requests that leave in even steps do not arrive so: a little is kept back, that the server never counts too many.
_MARGIN = 1.02


class Pace:
    """
    Lets requests start: at most so many a second, and none while the server asks for quiet.

    :param per_second: Upper bound of requests a second; None for no bound.
    :param sleep: Waits so many seconds, and tells whether to go on.
    :param clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        per_second: float | None,
        sleep: Callable[[float], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = _MARGIN / per_second if per_second else 0.0
        self._sleep = sleep
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
            taken = start > self._quiet_until
            if taken:
                # The turn is taken at once, in the order of asking; a hold that comes later still delays it.
                self._next = start + self._interval
            goes_on = await self._sleep(start - now)
            if not goes_on or (taken and self._quiet_until <= self._clock()):
                return
