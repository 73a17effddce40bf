"""The pace of a delivery: one for all requests in flight, so that they slow down together."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.api.rates import Budget
from airflow_provider_lago.api.retry import RetryPolicy

#: Requests that leave in even steps do not arrive so: a little is kept back, that the server never counts too many.
_MARGIN = 1.04


class Pace:
    """
    Lets requests start: at most so many a second, and as the server's answers allow.

    Each :meth:`turn` is followed by one :meth:`note`: a request that is never noted counts as in flight forever.

    :param per_second: Upper bound of requests a second; None for no bound.
    :param policy: How long to wait after a 429 that does not say it.
    :param clock: Monotonic time in seconds.
    """

    def __init__(
        self, per_second: float | None, policy: RetryPolicy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = _MARGIN / per_second if per_second else 0.0
        # A worker that was held up finds several turns due at once: what counts then is who left in the last second.
        most = max(1, int(per_second)) if per_second else 0
        self._left: deque[float] = deque(maxlen=most)
        self._span = most * self._interval
        self._clock = clock
        self._next = 0.0
        self._budget = Budget(policy)
        # Only the first in the queue keeps an eye on the clock; the others stand behind it in the order of asking.
        self._queue = asyncio.Lock()
        self._news = asyncio.Event()
        self._ended = False

    def hold(self, seconds: float) -> None:
        """Let no request start for so many seconds from now, whoever wants to send it."""
        self._budget.hold(self._clock() + seconds)

    def end(self) -> None:
        """Let nobody wait any more: the delivery is over."""
        self._ended = True
        self._news.set()

    async def turn(self) -> None:
        """Wait until a request may start, and take that turn."""
        start = self._next  # taken at once, in the order of asking; a hold or a full second still delays it
        if self._interval:
            self._next = max(start, self._clock()) + self._interval
        async with self._queue:
            while (wait := self._opens(start) - (now := self._clock())) > 0 and not self._ended:
                await self._rest(wait)
            self._budget.start(now)
            if self._interval:
                self._left.append(now)

    def note(self, started: float, result: Answer | Failure) -> None:
        """
        Take in what came of a request, before anything else is done with it.

        :param started: When it was sent.
        :param result: The answer, or why there is none.
        """
        self._budget.end(started, self._clock(), result if isinstance(result, Answer) else None)
        self._news.set()

    def _opens(self, start: float) -> float:
        return max(start, self._window_opens(), self._budget.opens(self._clock()))

    def _window_opens(self) -> float:
        """When the oldest of the requests that fill a second is a second old."""
        return self._left[0] + self._span if self._left and len(self._left) == self._left.maxlen else 0.0

    async def _rest(self, seconds: float) -> None:
        """Wait, but not longer than until there is news."""
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), None if seconds == math.inf else seconds)
        except TimeoutError:
            return
