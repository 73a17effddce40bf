"""
One delivery: records in, outcomes out.

The event loop runs in a thread of its own, and the task's thread waits for it. What Airflow does to a task - a timeout
or a termination raised by a signal handler, a look-up in the state store - happens in the task's thread, where it can
neither be swallowed by a callback of the loop nor block it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from airflow_provider_lago.delivery.batching import Batch
from airflow_provider_lago.delivery.ledger import Ledger, Log
from airflow_provider_lago.delivery.plan import Plan
from airflow_provider_lago.delivery.report import NoReport, Report
from airflow_provider_lago.delivery.sending import Halt, Sender
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.delivery.transport import Transport
from airflow_provider_lago.sources.rows import SourceError

#: Seconds between two lines of progress in the log.
_PROGRESS_EVERY = 5.0

#: Seconds that the loop is given to close its connections when the task is ended.
_CLOSING_TIME = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """
    How a delivery ended.

    :param tally: The counts.
    :param seconds: How long it took.
    :param halt: Why it ended before its source did; None where every record has an outcome.
    """

    tally: Tally
    seconds: float
    halt: Halt | None

    def summary(self) -> dict[str, Any]:
        """Return what an operator hands on: counts, time, and what is left undone if anything."""
        summary = {**self.tally.as_dict(), "seconds": round(self.seconds, 3)}
        if self.halt is not None:
            summary["unsettled"] = self.tally.read - self.tally.settled
            summary["halted"] = self.halt.why
        return summary


class Delivery:
    """
    Runs a plan. Use it once.

    :param plan: What to deliver.
    :param report: Where evidence goes.
    :param log: The task's log.
    """

    def __init__(self, plan: Plan, report: Report | None = None, log: Log | None = None) -> None:
        self.plan = plan
        self.tally = Tally()
        self._log: Log = log or logging.getLogger(__name__)
        self._ledger = Ledger(self.tally, report or NoReport(), self._log)
        self._started = time.monotonic()

    def run(self) -> Result:
        """
        Deliver all records, or as many as can be until nothing more can be delivered.

        :raises ValueError: if the shaping is wrong.
        :raises UnbalancedError: if the counts do not add up.
        """
        feed = self.plan.batches(self._ledger)
        loop = _LoopThread(lambda: self._deliver(feed))
        loop.start()
        try:
            while not loop.done.wait(_PROGRESS_EVERY):
                self._log_progress()
        except BaseException:
            loop.cancel()
            loop.join(_CLOSING_TIME)
            raise
        halt = loop.result()
        if halt is None:
            self.tally.check()
        return Result(self.tally, time.monotonic() - self._started, halt)

    async def _deliver(self, feed: Iterator[Batch]) -> Halt | None:
        plan = self.plan
        turnstile = _Turnstile(feed, blocking=plan.source.blocking)
        async with Transport(plan.settings, plan.user_agent, plan.concurrency) as transport:
            sender = Sender(plan, transport, self._ledger)

            async def work() -> None:
                while sender.halt is None and (batch := await turnstile.next()) is not None:
                    await sender.deliver(batch)

            async with asyncio.TaskGroup() as workers:
                for _ in range(plan.concurrency):
                    workers.create_task(work())
        return sender.halt or _halt_of(turnstile.fault)

    def interrupted(self, why: str) -> Result:
        """Return how far it came, for a delivery that was ended from outside."""
        return Result(self.tally, time.monotonic() - self._started, Halt(why, final=False))

    def _log_progress(self) -> None:
        tally = self.tally
        share = self.plan.source.share_done()
        seconds = time.monotonic() - self._started
        self._log.info(
            "Read %s%s: accepted %s, duplicate %s, rejected %s, skipped %s; %s requests, %s events/s",
            f"{tally.read:,}",
            f" ({share:.0%} of the source)" if share is not None else "",
            f"{tally.accepted:,}",
            f"{tally.duplicate:,}",
            f"{tally.rejected:,}",
            f"{tally.skipped:,}",
            f"{tally.requests:,}",
            f"{(tally.accepted + tally.duplicate) / seconds:,.0f}",
        )


def _halt_of(fault: Exception | None) -> Halt | None:
    """Return what a fault of the source means, once all that was read before it is settled."""
    if fault is None:
        return None
    if isinstance(fault, SourceError):
        return Halt(str(fault), final=True)
    if isinstance(fault, OSError):
        return Halt(f"reading or reporting failed: {fault}", final=False)
    raise fault


class _Turnstile:
    """Hands batches from one iterator to several coroutines; ends at a fault of the source, and keeps it."""

    def __init__(self, feed: Iterator[Batch], *, blocking: bool) -> None:
        self._feed = feed
        self._blocking = blocking
        self._lock = asyncio.Lock()
        self.fault: Exception | None = None

    async def next(self) -> Batch | None:
        """Return the next batch, or None at the end."""
        async with self._lock:
            if self.fault is not None:
                return None
            try:
                if self._blocking:
                    return await asyncio.to_thread(next, self._feed, None)
                return next(self._feed, None)
            except Exception as error:  # noqa: BLE001 - raised again once what is in flight is settled
                self.fault = error
                return None


class _LoopThread:
    """An event loop in a thread of its own, with the caller's context variables."""

    def __init__(self, main: Callable[[], Any]) -> None:
        self.done = threading.Event()
        self._main = main
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="lago-delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        """Ask the coroutine to end."""
        if self._loop is not None and self._task is not None and not self.done.is_set():
            self._loop.call_soon_threadsafe(self._task.cancel)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def result(self) -> Any:
        """Return what the coroutine returned, or raise what it raised."""
        self._thread.join()
        if isinstance(self._error, BaseExceptionGroup) and len(self._error.exceptions) == 1:
            raise self._error.exceptions[0]
        if self._error is not None:
            raise self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = asyncio.run(self._keep_task())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self.done.set()

    async def _keep_task(self) -> Any:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        return await self._main()
