"""Holds the conversations: sends each call until there is a reply that is worth deciding about."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.delivery.calls.conversation import Job, Lost, Reply
from airflow_provider_lago.delivery.calls.judging import Again, judge
from airflow_provider_lago.delivery.courier import Courier, Halt
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.outcomes import Outcome, Settled, SlowDown, Stop
from airflow_provider_lago.delivery.responses import Response, Responses
from airflow_provider_lago.delivery.transport import Transport

if TYPE_CHECKING:
    from airflow_provider_lago.delivery.calls.plan import CallPlan

#: Jobs that fail for good while nothing shows that the server works, before the delivery ends.
_MOST_DOUBTS = 3


class Caller(Courier[Job]):
    """Delivers jobs; see :class:`~airflow_provider_lago.delivery.courier.Courier` for the parameters."""

    def __init__(self, plan: CallPlan, transport: Transport, ledger: Ledger, responses: Responses) -> None:
        super().__init__(plan, transport, ledger, responses)
        self._parked: list[Job] = []
        self._latest: dict[str, asyncio.Event] = {}

    async def deliver(self, unit: Job) -> None:
        """Hold a conversation to its end, after those before it about the same thing."""
        async with self._in_turn(unit.order):
            await self._converse(unit, last_chance=False)

    async def deliver_parked(self) -> None:
        """Begin anew, one after the other, what a working server could not take."""
        for job in self._parked:
            await self._converse(job, last_chance=True)

    @asynccontextmanager
    async def _in_turn(self, order: str | None) -> AsyncIterator[None]:
        if order is None:
            yield
            return
        before, done = self._latest.get(order), asyncio.Event()
        self._latest[order] = done
        try:
            if before is not None:
                await before.wait()
            yield
        finally:
            done.set()
            if self._latest[order] is done:
                del self._latest[order]

    async def _converse(self, job: Job, *, last_chance: bool) -> None:
        conversation = job.talk()
        call, unknowns = next(conversation), 0
        while self.halt is None:
            reply = await self._reply(job, call, last_chance=last_chance)
            if reply is None:
                return
            if reply.unknown:
                unknowns += 1
                await self._sleep(self._policy.wait(unknowns))
            try:
                call = conversation.send(reply)
            except StopIteration as end:
                await self._settle(job, call, reply, end.value, last_chance=last_chance)
                return

    async def _settle(self, job: Job, call: Call, reply: Reply, end: Settled | Lost, *, last_chance: bool) -> None:
        if isinstance(end, Lost):
            self._doubt(job, end.why, proven=False, last_chance=last_chance)
            return
        answer = reply.result if isinstance(reply.result, Answer) else None
        self._ledger.settle(job.entries, end, answer.request_id if answer else None)
        if reply.unknown and end.outcome is Outcome.REJECTED:
            self._doubts += 1
            if self._doubts >= _MOST_DOUBTS:
                self._stop(Halt(f"{_MOST_DOUBTS} requests in a row without an answer: {end.reason}", final=False))
        if self._forwards and answer is not None:
            records = [(entry.row.position, entry.id) for entry in job.entries]
            body = self._filtered(job, answer)
            await self._hand_on(Response(records, call.method, call.path, answer.status, answer.request_id, body))

    def _filtered(self, job: Job, answer: Answer) -> bytes:
        """Return what is handed on of an answer; all of it where the user's function fails, after Lago did its work."""
        if job.filters is None:
            return answer.body
        try:
            return job.filters(answer)
        except Exception as error:  # noqa: BLE001
            where = job.entries[0].row.where
            self._ledger.warn("%s: response_filter failed (%s: %s)", where, type(error).__name__, error)
            return answer.body

    async def _reply(self, job: Job, call: Call, *, last_chance: bool) -> Reply | None:
        """Return the reply to a call; None where the job is parked or the delivery is over."""
        tries = slowdowns = 0
        failing_since, executed = math.inf, False
        while True:
            await self._pace.turn()
            if self.halt is not None:
                return None
            self._ledger.tally.requests += 1
            started = time.monotonic()
            result = await self._transport.send(call)
            verdict = judge(result, repeatable=call.repeatable, conn_id=self._conn_id)
            match verdict:
                case SlowDown():
                    slowdowns += 1
                    self._slow_down(verdict.asked, slowdowns)
                case Stop():
                    self._stop(Halt(verdict.why, verdict.final))
                    return None
                case Again():
                    tries += 1
                    failing_since = min(failing_since, started)
                    if verdict.executed and not call.repeatable:
                        return Reply(result, executed)
                    executed |= verdict.executed
                    if tries < self._policy.attempts:
                        await self._pause(verdict, tries)
                        continue
                    proven = self._healthy_since > failing_since
                    if proven and not verdict.outage:
                        return Reply(result, executed)
                    self._doubt(job, f"{tries} tries failed: {verdict.why}", proven=proven, last_chance=last_chance)
                    return None
                case _:
                    self._note_health(started)
                    return Reply(result, executed)

    async def _pause(self, failure: Again, tries: int) -> None:
        seconds = self._policy.wait(tries)
        if failure.busy:
            self._pace.hold(seconds)  # Lago creates one at a time: the whole delivery gets out of its way
        else:
            await self._sleep(seconds)

    def _doubt(self, job: Job, why: str, *, proven: bool, last_chance: bool) -> None:
        """Put a job off until all others are done; end the delivery where nothing shows that the server works."""
        self._doubts += not proven
        if last_chance or self._doubts >= _MOST_DOUBTS:
            entry = job.entries[0]
            self._stop(Halt(f"gave up at {entry.row.where}: {why}", final=False))
        else:
            self._parked.append(job)
