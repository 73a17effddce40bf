"""Holds the conversations: sends each call until there is a reply that is worth deciding about."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.delivery.calls.conversation import Conversation, Job, Lost, Reply
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

#: Tries of a call that a gateway refuses while the server takes others: it is about what the call holds.
_TRIES_OF_A_REFUSAL = 3

#: Jobs that are put off: so many are no accident any more.
_MOST_PARKED = 1_000


@dataclass(frozen=True, slots=True)
class _Parked:
    """
    A job that waits until all others are done.

    :param job: The job.
    :param since: When its call began to fail; infinity if it did not.
    :param quiet_until: Until when a post whose answer is lost may still be at work in Lago.
    """

    job: Job
    since: float = math.inf
    quiet_until: float = 0.0


class Caller(Courier[Job]):
    """
    Delivers jobs; see :class:`~airflow_provider_lago.delivery.courier.Courier` for the parameters.

    A server may read well and write nothing, as one that lost its queue or its main database does. So what shows that
    it works (``_worked_since``), and what makes one doubt it (``_doubts_of``), is kept apart for reads and writes.
    """

    def __init__(self, plan: CallPlan, transport: Transport, ledger: Ledger, responses: Responses) -> None:
        super().__init__(plan, transport, ledger, responses)
        self._parked: list[_Parked] = []
        self._held_up: set[str] = set()
        self._latest: dict[str, asyncio.Event] = {}
        self._worked_since = {True: -math.inf, False: -math.inf}
        self._doubts_of = {True: 0.0, False: 0.0}

    async def deliver(self, unit: Job) -> None:
        """Hold a conversation to its end, after those before it about the same thing."""
        async with self._in_turn(unit.order):
            if unit.order is not None and unit.order in self._held_up:
                self._follow(unit)  # what the source says first is done first
            else:
                await self._converse(unit, None)

    async def deliver_parked(self) -> None:
        """Begin anew, one after the other, what a working server could not take."""
        for parked in self._parked:
            await self._sleep(max(0.0, parked.quiet_until - time.monotonic()))
            for tries in range(1, self._policy.attempts + 1):
                lost = await self._converse(parked.job, parked)
                if lost is None or self.halt is not None:
                    break
                if lost.at_last is not None and tries >= _TRIES_OF_A_REFUSAL and self._worked_since[False] > -math.inf:
                    self._ledger.settle(parked.job.entries, lost.at_last, None)
                    break
                if tries == self._policy.attempts:
                    self._give_up(parked.job, lost.why)
                await self._sleep(self._policy.cap)

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

    async def _converse(self, job: Job, parked: _Parked | None) -> Lost | None:
        """
        Hold a conversation.

        :param job: What to say.
        :param parked: Its first attempt, where this is its last chance.
        :return: What it ended with if that is no outcome and this is its last chance.
        """
        conversation = job.talk()
        call, pauses = next(conversation), 0
        while self.halt is None:
            reply = await self._reply(job, call, parked)
            if reply is None:
                return None
            if reply.unknown or reply.status == 429:
                pauses += 1  # a 429 that comes up to here is a payment provider's: the others need not wait for it
                await self._sleep(self._policy.wait(pauses))
            said = _say(conversation, reply)
            if isinstance(said, Call):
                call = said
            elif isinstance(said, Settled):
                await self._settle(job, call, reply, said, parked)
                return None
            elif parked is not None:
                return said
            else:
                # One try each, so that it weighs less than a call that was tried to the end.
                self._doubt(_Parked(job, quiet_until=time.monotonic() + self._policy.cap), said.why, False)
                return None
        return None

    async def _settle(self, job: Job, call: Call, reply: Reply, end: Settled, parked: _Parked | None) -> None:
        answer = reply.result if isinstance(reply.result, Answer) else None
        self._ledger.settle(job.entries, end, answer.request_id if answer else None)
        # What was put off and then fails with a 500 on a server that has done the others is no outage, however many
        # they are: to end here would leave the next try nothing but them, and so nothing to tell them from one by.
        is_its_own = (
            parked is not None and self._worked_since[False] > -math.inf and answer is not None and answer.status == 500
        )
        if reply.unknown and end.outcome is Outcome.REJECTED and not is_its_own:
            self._doubts_of[call.reads] += 1
            if self._doubts_of[call.reads] >= _MOST_DOUBTS:
                self.stop(Halt(f"{_MOST_DOUBTS} requests in a row without an answer: {end.reason}", final=False))
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

    async def _reply(self, job: Job, call: Call, parked: _Parked | None) -> Reply | None:
        """Return the reply to a call; None where the job is parked or the delivery is over."""
        tries = 0
        failing_since, executed = parked.since if parked else math.inf, False
        while True:
            await self._pace.turn()
            if self.halt is not None:
                return None
            self._ledger.tally.requests += 1
            started = time.monotonic()
            result = await self._transport.send(call)
            self._pace.note(started, result)
            verdict = judge(
                result,
                repeatable=call.repeatable,
                conn_id=self._conn_id,
                expects=call.expects,
                known=self._healthy > 0,
                path=call.path,
            )
            match verdict:
                case SlowDown():
                    self._note_429()
                case Stop():
                    self.stop(Halt(verdict.why, verdict.final))
                    return None
                case Again():
                    tries += 1
                    # The time of the answer: what worked must have been sent when this had failed already.
                    failing_since = min(failing_since, time.monotonic())
                    if verdict.executed and not call.repeatable:
                        return Reply(result, executed, complete=False)
                    executed |= verdict.executed
                    if not verdict.outage and self._is_to_blame(call, failing_since, verdict, tries, parked):
                        return Reply(result, executed, complete=False)
                    if tries < self._policy.attempts:
                        await self._pause(verdict, tries)
                        continue
                    proven = self._worked_since[call.reads] > failing_since
                    why = f"{tries} tries failed: {verdict.why}"
                    if parked is not None:
                        self._give_up(job, why)
                    else:
                        self._doubt(_Parked(job, failing_since), why, call.reads, 0 if proven else 1)
                    return None
                case _:
                    self._note_work(call, result, started)
                    return Reply(result, executed)

    def _is_to_blame(self, call: Call, since: float, failure: Again, tries: int, parked: _Parked | None) -> bool:
        """Tell whether a call fails for what it says, as others like it are done."""
        worth = self._policy.attempts if failure.executed else min(_TRIES_OF_A_REFUSAL, self._policy.attempts)
        worked = self._worked_since[call.reads]
        # At the end of a delivery there are no others left that could work after it failed.
        proven = worked > since or (parked is not None and worked > -math.inf)
        return tries >= worth and proven

    def _note_work(self, call: Call, result: Answer | Failure, started: float) -> None:
        self._note_health(started)
        self._doubts_of[call.reads] = 0
        if call.reads or (isinstance(result, Answer) and result.status < 300):
            # That a write is refused shows nothing of what fails behind Lago's checks.
            self._worked_since[call.reads] = max(self._worked_since[call.reads], started)

    async def _pause(self, failure: Again, tries: int) -> None:
        seconds = self._policy.wait(tries)
        if failure.busy:
            self._pace.hold(seconds)  # Lago creates one at a time: the whole delivery gets out of its way
        else:
            await self._sleep(seconds)

    def _doubt(self, parked: _Parked, why: str, reads: bool, doubts: float | None = None) -> None:
        """Put a job off until all others are done; end the delivery where nothing shows that the server works."""
        self._doubts_of[reads] += 1 / self._policy.attempts if doubts is None else doubts
        if self._doubts_of[reads] >= _MOST_DOUBTS or len(self._parked) >= _MOST_PARKED:
            self._give_up(parked.job, why)
        else:
            self._park(parked)

    def _follow(self, job: Job) -> None:
        """Put a job off because one before it about the same thing was."""
        if len(self._parked) >= _MOST_PARKED:
            self._give_up(job, f"{_MOST_PARKED:,} records wait for others that Lago could not take")
        else:
            self._park(_Parked(job))

    def _park(self, parked: _Parked) -> None:
        self._parked.append(parked)
        if parked.job.order is not None:
            self._held_up.add(parked.job.order)

    def _give_up(self, job: Job, why: str) -> None:
        self.stop(Halt(f"gave up at {job.entries[0].row.where}: {why}", final=False))


def _say(conversation: Conversation, reply: Reply) -> Call | Settled | Lost:
    """Return what comes of a reply: the next call, or the end."""
    try:
        return conversation.send(reply)
    except StopIteration as end:
        outcome: Settled | Lost = end.value
        return outcome
    except Exception as error:  # noqa: BLE001 - one odd answer must never end a delivery, nor every retry of it
        return Settled(
            Outcome.REJECTED,
            reason="Lago's answer is not understood",
            detail=f"HTTP {reply.status}; please report this: {type(error).__name__}: {error}"[:300],
            code=str(reply.status),
        )
