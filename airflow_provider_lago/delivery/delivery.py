"""One delivery: records in, outcomes out."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_lago.delivery.checkpoint import Durability
from airflow_provider_lago.delivery.courier import Halt
from airflow_provider_lago.delivery.keeper import REMOTE, Keeper, Rhythm
from airflow_provider_lago.delivery.ledger import Ledger, Log
from airflow_provider_lago.delivery.loop_thread import LoopThread
from airflow_provider_lago.delivery.plan import Plan
from airflow_provider_lago.delivery.progress import Progress
from airflow_provider_lago.delivery.report import EvidenceError, NoReport, Report
from airflow_provider_lago.delivery.responses import NoResponses, Responses
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.delivery.transport import Transport
from airflow_provider_lago.sources.rows import BEGINNING, BrokenOff, Row, Source, SourceError, Start

#: Seconds between two lines of progress in the log.
_PROGRESS_EVERY = 5.0

#: Seconds that the last checkpoint is waited for. Airflow 3 kills a task 5 s after it asked it to end, and the loop may
#: have taken 3 of them.
_HASTY_END = 1.5
_PATIENT_END = 30.0


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
    :param responses: Where Lago's answers go.
    :param durability: What it keeps for a retry; None for nothing.
    """

    def __init__(
        self,
        plan: Plan[Any],
        report: Report | None = None,
        log: Log | None = None,
        responses: Responses | None = None,
        durability: Durability | None = None,
    ) -> None:
        report = report or NoReport()
        found = durability.found if durability is not None else None
        self._log: Log = log or logging.getLogger(__name__)
        self._responses: Responses = responses or NoResponses()
        if found is None:
            self._source, self._before, self._read_before = _Ending(plan.source), 0.0, 0
            self.tally = Tally.of_kinds(plan.kinds)
            self._ledger = Ledger(self.tally, report, self._log, plan.id_field)
        else:
            self._source = _Ending(plan.source, found.start, Progress(found.settled))
            self._before, self._read_before = found.seconds, found.counts["read"]
            self.tally = Tally.restored(plan.kinds, found.counts)
            self._ledger = Ledger(
                self.tally,
                report,
                self._log,
                plan.id_field,
                progress=Progress(found.settled),
                sent_to=found.sent_to,
            )
        self.plan: Plan[Any] = replace(plan, source=self._source)
        self._keeper = self._keeper_of(report, durability)
        self._started = time.monotonic()
        self._loop = LoopThread(self._deliver)

    def _keeper_of(self, report: Report, durability: Durability | None) -> Keeper | None:
        if durability is None and not report.is_remote:
            return None
        return Keeper(
            self._ledger,
            self._source,
            report,
            self._log,
            checkpoints=durability.checkpoints if durability else None,
            fingerprint=durability.fingerprint if durability else "",
            life=durability.life if durability else None,
            found=durability.found if durability else None,
            rhythm=REMOTE if report.is_remote else Rhythm(),
        )

    def run(self) -> Result:
        """
        Deliver all records, or as many as can be until nothing more can be delivered.

        Where the source is the user's own code and fails, its error is raised once all that was read is settled.

        :raises ValueError: if the shaping is wrong.
        :raises Stopped: if :meth:`stop` ended it.
        :raises UnbalancedError: if the counts do not add up.
        """
        # Airflow leaves a heap that the collector would walk through again and again for the records that come and go:
        # a quarter of a delivery's CPU. Frozen objects are left out of it.
        gc.freeze()
        halt: Halt | None = None
        done = False
        try:
            halt = self._loop.run(self._log_progress, every=_PROGRESS_EVERY)
            done = True
        finally:
            gc.unfreeze()
            if self._keeper is not None:
                self._keeper.end(_PATIENT_END if done else _HASTY_END, save=not done or halt is not None)
        if halt is None:
            self.tally.check()
        return Result(self.tally, self._seconds(), halt)

    def stop(self) -> None:
        """End the delivery early; :meth:`run` then raises. Safe in a signal handler, and at any time."""
        self._loop.stop()

    async def _deliver(self) -> Halt | None:
        plan = self.plan
        turnstile = _Turnstile(plan.units(self._ledger))
        if self._keeper is not None:
            self._keeper.begin()
        patience: float | None = 0.0  # a task that is being killed has no time to wait for webhooks
        try:
            async with Transport(plan.settings, plan.user_agent, plan.concurrency) as transport:
                courier = plan.courier(transport, self._ledger, self._responses)

                async def work() -> None:
                    try:
                        while courier.halt is None and (unit := await self._next(turnstile)) is not None:
                            if self._keeper is not None:
                                await self._keeper.room()
                            await courier.deliver(unit)
                    except EvidenceError as error:
                        courier.stop(Halt(str(error), final=False))

                async with asyncio.TaskGroup() as workers:
                    for _ in range(plan.concurrency):
                        workers.create_task(work())
                try:
                    await courier.deliver_parked()
                except EvidenceError as error:
                    courier.stop(Halt(str(error), final=False))
            patience = None
        finally:
            await self._responses.close(patience)
        return courier.halt or _halt_of(self._source.fault or turnstile.fault, foreign=self._source.is_foreign)

    async def _next(self, turnstile: _Turnstile) -> Any:
        """Return the next unit; made in the task's own thread where that runs the user's code."""
        return await self._loop.in_caller(turnstile.next) if self._source.is_foreign else turnstile.next()

    def interrupted(self, why: str) -> Result:
        """Return how far it came, for a delivery that was ended from outside."""
        return Result(self.tally, self._seconds(), Halt(why, final=False))

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def _log_progress(self) -> None:
        tally = self.tally
        share = self.plan.source.share_done()
        seconds = time.monotonic() - self._started
        self._log.info(
            "Read %s%s: accepted %s, duplicate %s, rejected %s, skipped %s; %s requests, %s %s/s",
            f"{tally.read:,}",
            f" ({share:.0%} of the source)" if share is not None else "",
            f"{tally.accepted:,}",
            f"{tally.duplicate:,}",
            f"{tally.rejected:,}",
            f"{tally.skipped:,}",
            f"{tally.requests:,}",
            f"{(tally.read - self._read_before) / seconds:,.0f}",
            self.plan.noun,
        )


def _halt_of(fault: Exception | None, *, foreign: bool) -> Halt | None:
    """Return what an error of the source means, once all that was read is settled; the user's own is raised."""
    if fault is None:
        return None
    if isinstance(fault, (EvidenceError, BrokenOff)):
        return Halt(str(fault), final=False)
    if isinstance(fault, SourceError):
        return Halt(str(fault), final=True)
    if isinstance(fault, OSError) and not foreign:
        return Halt(f"reading failed: {fault}", final=False)
    raise fault


class _Ending:
    """
    A source whose error is its end, so that batches it was to fill go out as they are.

    It leaves out what an earlier try has settled.

    :param source: The source.
    :param start: Where to begin.
    :param settled: Records that are settled.
    """

    def __init__(self, source: Source, start: Start = BEGINNING, settled: Progress | None = None) -> None:
        self.is_foreign = source.is_foreign
        self._source = source
        self._start = start
        self._settled = settled or Progress()
        self.fault: Exception | None = None

    def __str__(self) -> str:
        return str(self._source)

    def rows(self, start: Start = BEGINNING) -> Iterator[Row]:
        """Read the source up to its end, or to its error."""
        try:
            rows = self._source.rows(self._start)
            for row in rows if self._settled.last else ():
                if row.position not in self._settled:
                    yield row
                if row.position >= self._settled.last:
                    break
            yield from rows
        except Exception as error:  # noqa: BLE001 - raised again once what was read is settled
            self.fault = error

    def start_after(self, position: int) -> Start:
        """Return where to begin for the records after a position."""
        return self._source.start_after(position)

    def fingerprint(self) -> str | None:
        """Return what another source does not have."""
        return self._source.fingerprint()

    def share_done(self) -> float | None:
        """How much of the source has been read."""
        return self._source.share_done()


class _Turnstile:
    """Hands units from one iterator to several coroutines; ends at an error on the way to them, and keeps it."""

    def __init__(self, feed: Iterator[Any]) -> None:
        self._feed = feed
        self.fault: Exception | None = None

    def next(self) -> Any:
        """Return the next unit, or None at the end."""
        if self.fault is not None:
            return None
        try:
            return next(self._feed, None)
        except Exception as error:  # noqa: BLE001 - raised again once what is in flight is settled
            self.fault = error
            return None
