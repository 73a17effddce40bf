"""Several deliveries that draw on one organization's budget, in a time that does not pass by itself."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.pace import Pace


class _Selector(selectors.DefaultSelector):
    """Lets the time jump to where somebody waits for it."""

    now = 1_000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("all wait, and nothing is going to happen")
        self.now += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._selector_of_time = _Selector()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        return self._selector_of_time.now


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a time that jumps to the next moment that somebody waits for."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


@dataclass
class Server:
    """
    A server that counts the requests of an organization in fixed windows.

    :param limit: Requests in a window; None for a server without a limit, and without headers.
    :param window: Seconds.
    :param latency: Shortest and longest time that a request takes, in seconds; it is counted half-way.
    :param rounding: Of the reset to whole seconds.
    :param headers: Whether answers speak of the budget.
    """

    limit: int | None
    window: float = 1.0
    latency: tuple[float, float] = (0.01, 0.05)
    rounding: Any = math.ceil
    headers: bool = True
    way: float = 0.5
    seed: int = 0
    used: Counter[int] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.offset = self.rng.random() * self.window

    def number(self, now: float) -> int:
        """Return the number of the window that runs."""
        return math.floor((now + self.offset) / self.window)

    async def answer(self) -> tuple[Answer, int]:
        """Answer one request, and tell in which window it counted."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        latency = self.rng.uniform(*self.latency)
        await asyncio.sleep(latency * self.way)
        now = asyncio.get_running_loop().time()
        number = self.number(now)
        self.used[number] += 1
        status, headers = 200, {}
        if self.limit is not None:
            status = 200 if self.used[number] <= self.limit else 429
            if self.headers:
                left = max(0, self.limit - self.used[number])
                reset = self.rounding((number + 1) * self.window - self.offset - now)
                headers = {
                    "x-ratelimit-limit": str(self.limit),
                    "x-ratelimit-remaining": str(left),
                    "x-ratelimit-reset": str(reset),
                }
        await asyncio.sleep(latency * (1 - self.way))
        self.at_once -= 1
        return Answer(status, headers), number


@dataclass
class Task:
    """
    A delivery of so many requests.

    :param server: Where they go.
    :param requests: How many are to be answered well.
    :param concurrency: How many are in flight.
    :param begins: Seconds before it begins.
    """

    server: Server
    requests: int
    concurrency: int = 8
    begins: float = 0.0
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    per_second: float | None = None
    starts: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    #: Windows, and how many 429s of each were of requests that were sent when a 429 of it was known.
    careless: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    _known: dict[int, float] = field(default_factory=dict)

    async def deliver(self) -> None:
        """Send until all are answered well."""
        await asyncio.sleep(self.begins)
        loop = asyncio.get_running_loop()
        pace = Pace(self.per_second, self.policy, loop.time)
        begun, todo = loop.time(), iter(range(self.requests))

        async def work() -> None:
            for _ in todo:
                good = False
                while not good:
                    await pace.turn()
                    started = loop.time()
                    self.starts.append(started)
                    answer, window = await self.server.answer()
                    pace.note(started, answer)
                    good = answer.status == 200
                    if not good:
                        self.refused[window] += 1
                        known = self._known.setdefault(window, loop.time())
                        self.careless[window] += started > known

        async with asyncio.TaskGroup() as workers:
            for _ in range(self.concurrency):
                workers.create_task(work())
        self.seconds = loop.time() - begun


def deliver_all(tasks: list[Task]) -> None:
    """Run tasks at the same time."""

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task.deliver())

    run(main())
