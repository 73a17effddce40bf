"""
The rate limit of Lago Cloud: what an answer says about it, and when the next request may start. Pure: no clock, no I/O.

Lago counts the requests of an organization, whatever key or task sends them. So nobody knows alone what is left: each
answer tells, and who else draws on it shows in what it tells.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_lago.api.answers import LONGEST_WAIT, Answer, read_error
from airflow_provider_lago.api.retry import RetryPolicy, wait_after_429

#: One in so many requests of a window is left over: other tasks have some on the way that no answer speaks of yet.
_RESERVE = 20

#: Requests may catch up that much with even steps, in seconds, as timers fire late.
_LATENESS = 0.01


@dataclass(frozen=True, slots=True)
class Rate:
    """
    What an answer says about the budget of the organization.

    :param limit: Requests in a window.
    :param remaining: Requests that are left in this window.
    :param reset: Seconds until the next window, which the server rounds to whole ones.
    """

    limit: int
    remaining: int
    reset: float


def read_rate(answer: Answer) -> Rate | None:
    """Return what an answer says about the budget; None where it says nothing, or nothing that makes sense."""
    limit = answer.headers.get("x-ratelimit-limit")
    if limit is None:  # a self-hosted server, for each of its answers
        return None
    try:
        most, left = int(limit), int(answer.headers.get("x-ratelimit-remaining", ""))
        reset = float(answer.headers.get("x-ratelimit-reset", ""))
    except ValueError:
        return None
    return Rate(most, left, reset) if 0 <= left <= most and 0 <= reset <= LONGEST_WAIT and most else None


def is_throttled(answer: Answer) -> bool:
    """Tell whether the organization has sent too much: a 429, but not one that a payment provider gave to Lago."""
    return answer.status == 429 and not is_throttled_by_provider(answer)


def is_throttled_by_provider(answer: Answer) -> bool:
    """Tell whether a payment provider throttles Lago, which concerns its customers only."""
    return answer.status == 429 and read_error(answer).code == "too_many_provider_requests"


class _Window:
    """
    What is known of the window that runs.

    :param rate: What the first answer in it said.
    :param started: When that request was sent.
    :param now: When it was answered.
    :param lateness: How long after its end the first request goes out if nothing was left.
    """

    def __init__(self, rate: Rate, started: float, now: float, lateness: float) -> None:
        self.limit = rate.limit
        self.left = rate.remaining
        self.left_at = now
        self.since = started
        self.own = 1
        self.ends = _end(rate, (started + now) / 2)  # most likely
        self.over = _end(rate, now)  # at the latest
        self._lateness = lateness

    @property
    def renewed_at(self) -> float:
        """When to look what the next window holds."""
        return self.over + self._lateness

    def is_over(self, rate: Rate, started: float) -> bool:
        """Tell whether an answer is of a later window."""
        return (
            started >= self.over
            or (rate.limit == self.limit and rate.remaining > self.left and started >= self.left_at)
            or started + rate.reset - 1 > self.over  # a second, as the reset may be rounded up
        )

    def note(self, rate: Rate, started: float, now: float) -> bool:
        """Take in another answer of this window; tell whether it is the latest news of what is left."""
        self.own += 1
        # One that was sent before the window's first may be the rest of an earlier window; a larger limit is of
        # another kind of endpoint.
        if started < self.since or rate.limit != self.limit:
            return False
        self.ends = min(self.ends, _end(rate, (started + now) / 2))
        self.over = min(self.over, _end(rate, now))
        if rate.remaining > self.left:
            return False
        self.left, self.left_at = rate.remaining, now
        return True

    def allows(self, counted: int, later: int) -> float:
        """
        Return how many more requests this delivery may send: of what is left it takes the share it had of what is used.

        :param counted: Requests in flight that the server had counted when it told what is left.
        :param later: Requests that were sent after that.
        """
        share = min(1.0, (self.own + counted) / max(1, self.limit - self.left))
        return share * (self.left - self.limit // _RESERVE) - later


def _end(rate: Rate, now: float) -> float:
    # A reset of 0 is less than a second that was cut off, or is up already.
    return now + max(rate.reset, 1.0 if rate.reset.is_integer() else 0.0)


class Budget:
    """
    When the next request of a delivery may start.

    - Until the first reply there is one request in flight.
    - Where answers tell a budget, this delivery's share of what remains is spread evenly over what remains of the
      window. When it is used up, nothing starts until the next window, which one request finds out about.
    - After a 429 nothing starts for as long as it asks. Then one request goes first, and each good reply lets two
      follow. Without a budget to go by, half of the requests that were in flight is where that ends, and each round
      adds one.

    All times are seconds of one monotonic clock.

    :param policy: How long to wait after a 429 that does not say it.
    :param rng: Source of random numbers in [0, 1), that many tasks do not come back together.
    """

    def __init__(self, policy: RetryPolicy, rng: Callable[[], float] = random.random) -> None:
        self._policy = policy
        self._rng = rng
        self._in_flight = 0
        self._newest = 0  # those in flight that were sent since the last 429
        self._later: deque[float] = deque()  # when those were sent that came after the one that told what is left
        self._bound = 1.0
        self._ceiling = math.inf  # up to where the bound doubles with each round of replies
        self._quiet_until = -math.inf
        self._refused_at = -math.inf
        self._refusals = 0
        self._longest_reset = 0.0
        self._window: _Window | None = None
        self._last = -math.inf
        self._due = -math.inf

    def opens(self, now: float) -> float:
        """Return when a request may start: now or earlier, later, or infinity for not before a reply."""
        if self._newest + 1 > self._bound:
            return math.inf
        if now < self._quiet_until:
            return self._quiet_until
        window = self._window
        if window is None:
            return now
        if self._allowed(window) >= 1:
            return self._due if now < window.ends else now
        # Nobody knows before it is answered what the next window holds; but one that hangs must not stop all.
        return max(window.renewed_at, self._last + 1.0 if self._last >= window.renewed_at else now)

    def start(self, now: float) -> None:
        """Note that a request starts."""
        self._in_flight += 1
        self._newest += 1
        self._later.append(now)
        self._last = now
        window = self._window
        if window is not None and now < window.ends:
            self._due = max(self._due, now - _LATENESS) + (window.ends - now) / (1 + max(0.0, self._allowed(window)))

    def end(self, started: float, now: float, answer: Answer | None) -> None:
        """
        Note that a request has ended.

        :param started: When it was sent.
        :param now: When it ended.
        :param answer: The answer; None where there is none.
        """
        was_in_flight = self._newest
        self._in_flight -= 1
        if started >= self._refused_at:
            self._newest = max(0, was_in_flight - 1)
        if answer is not None:
            self._read(answer, started, now)
        if answer is not None and is_throttled(answer):
            self._refuse(answer, started, now, was_in_flight)
        elif self._refused_at == -math.inf:
            self._bound = math.inf  # without an answer too: a server that hangs is found out by all at once
        elif started >= self._refused_at:
            self._refusals = 0
            self._bound += 1 if self._bound < self._ceiling else 1 / self._bound

    def hold(self, until: float) -> None:
        """Let nothing start before a time."""
        self._quiet_until = max(self._quiet_until, until)

    def _read(self, answer: Answer, started: float, now: float) -> None:
        rate, window = read_rate(answer), self._window
        if rate is None:
            if window is not None and started >= window.over:
                self._window = None  # a proxy spoke of a budget, once
            if self._window is None:
                self._forget(started)
            return
        self._longest_reset = max(self._longest_reset, rate.reset)
        if window is None or window.is_over(rate, started) or rate.limit < window.limit:
            lateness = min(1.0, max(rate.reset, 0.5) / 10) * self._rng()
            self._window = _Window(rate, started, now, lateness)
            self._due = now
            self._forget(started)
        elif window.note(rate, started, now):
            self._forget(started)

    def _allowed(self, window: _Window) -> float:
        later = len(self._later)
        return window.allows(max(0, self._in_flight - later), later)

    def _forget(self, started: float) -> None:
        """Take what was sent up to then for counted by the server."""
        while self._later and self._later[0] <= started:
            self._later.popleft()

    def _refuse(self, answer: Answer, started: float, now: float, in_flight: int) -> None:
        if started >= self._refused_at:
            # The others that were in flight with it say nothing new.
            self._refusals += 1
            is_spent = self._window is not None and self._window.left == 0
            self._ceiling = math.inf if is_spent else max(1.0, in_flight / 2)
        self._refused_at, self._bound, self._newest = now, 1.0, 0
        self._window = None  # what comes after the hold is another one
        asked = answer.asked_wait
        seconds = wait_after_429(asked, self._refusals, self._policy, self._rng)
        if asked == 0:
            seconds = max(seconds, self._policy.base)
        elif asked is not None and asked.is_integer() and self._longest_reset >= 2:
            seconds += 1.0  # nobody says that the reset is rounded up; where windows are long, a second is little
        self.hold(now + seconds)
