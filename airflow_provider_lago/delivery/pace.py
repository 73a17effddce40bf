"""The pace of a delivery: one for all requests in flight, so that they slow down together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable

#: Requests that leave in even steps do not arrive so: a little is kept back, that the server never counts too many.
_MARGIN = 1.04


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
        # A worker that was held up finds several turns due at once: what counts then is who left in the last second.
        most = max(1, int(per_second)) if per_second else 0
        self._left: deque[float] = deque(maxlen=most)
        self._span = most * self._interval
        self._sleep = sleep
        self._clock = clock
        self._next = 0.0
        self._quiet_until = 0.0

    def hold(self, seconds: float) -> None:
        """Let no request start for so many seconds from now, whoever wants to send it."""
        self._quiet_until = max(self._quiet_until, self._clock() + seconds)

    async def turn(self) -> None:
        """Wait until a request may start, and take that turn."""
        start = self._next  # taken at once, in the order of asking; a hold or a full second still delays it
        if self._interval:
            self._next = max(start, self._clock()) + self._interval
        while (wait := max(start, self._quiet_until, self._window_opens()) - self._clock()) > 0:
            if not await self._sleep(wait):
                return
        self._left.append(self._clock())

    def _window_opens(self) -> float:
        """When the oldest of the requests that fill a second is a second old."""
        return self._left[0] + self._span if self._left and len(self._left) == self._left.maxlen else 0.0
