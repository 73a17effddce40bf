"""Sends batches until each of their events has an outcome."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lago.api.answers import Answer, is_of_lago
from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.delivery.calls.judging import Again, judge
from airflow_provider_lago.delivery.courier import Courier, Halt
from airflow_provider_lago.delivery.events.auditing import AuditEnded, Auditor
from airflow_provider_lago.delivery.events.batching import Batch
from airflow_provider_lago.delivery.events.settling import (
    Accepted,
    Opaque,
    Sorted,
    Verdict,
    lago_ids,
    settle,
)
from airflow_provider_lago.delivery.ledger import Answered, Ledger
from airflow_provider_lago.delivery.outcomes import Refusal, SlowDown, Stop
from airflow_provider_lago.delivery.responses import Response, Responses
from airflow_provider_lago.delivery.transport import Transport

if TYPE_CHECKING:
    from airflow_provider_lago.delivery.events.plan import EventPlan

#: What a receipt says of an event that a killed try may have sent, and that Lago has.
_FOUND = "in Lago already; the try before may have sent it"

#: Tries of a request that the server fails with a 500 while it takes others: then the events are looked at one half
#: after the other, to find the one that it cannot take.
_TRIES_BEFORE_HALVING = 3
_TRIES_OF_A_HALF = 2

#: Single events that are held to be at fault while the server has not taken any: beyond it, it is not the events.
_MOST_REFUSED = 20

#: Requests that fail for good while nothing shows that the server works, before the delivery ends.
_MOST_DOUBTS = 2

#: Fewest tries of a single event before it is held to be at fault.
_TRIES_OF_ONE = 5

#: A server that fails now and then must not cost a good record: one is held to be at fault only if so many failures in
#: a row would be less likely than this, judging by the failures that healed by themselves.
_CHANCE = 1e-6


@dataclass(slots=True)
class _Part:
    """
    Some events of a batch that go out in one request.

    :param indexes: Which.
    :param tries: Failed tries of this request.
    :param maybe_stored: Whether an earlier request with these events may have been stored, its answer being lost.
    :param suspected_since: When it failed first; for a half, when the halving began.
    :param half: Whether it is half of a request that failed.
    :param deferred: Whether it has been put behind the other parts once.
    :param last_chance: Whether it has been parked until all other events were delivered.
    """

    indexes: Sequence[int]
    tries: int = 0
    maybe_stored: bool = False
    suspected_since: float = math.inf
    half: bool = False
    deferred: bool = False
    last_chance: bool = False


class Sender(Courier[Batch]):
    """
    Delivers batches; see :class:`~airflow_provider_lago.delivery.courier.Courier` for the parameters.

    Beside the server's health it keeps how many failures healed by themselves (``_healed``), and how many single
    events it held to be at fault (``_refused``).
    """

    def __init__(self, plan: EventPlan, transport: Transport, ledger: Ledger, responses: Responses) -> None:
        super().__init__(plan, transport, ledger, responses)
        self._plan = plan
        self._healed = 0
        self._refused = 0
        self._parked: list[tuple[Batch, int]] = []
        self._auditor = Auditor(self._look_up)
        self._knows_store = False

    async def deliver(self, batch: Batch) -> None:
        """Send a batch and what remains of it until every event is settled, or the delivery is halted."""
        await self._work_off(batch, deque([_Part(range(len(batch.events)))]))

    async def deliver_parked(self) -> None:
        """Try again the events that a working server could not take, now that all others are delivered."""
        for batch, index in self._parked:
            parts = deque([_Part([index], maybe_stored=True, last_chance=True)])
            await self._work_off(batch, parts)

    async def _work_off(self, batch: Batch, parts: deque[_Part]) -> None:
        while parts and self.halt is None:
            part = parts.popleft()
            await self._pace.turn()
            if self.halt is None:
                parts.extend(await self._send(batch, part, waiting=bool(parts)))

    async def _send(self, batch: Batch, part: _Part, *, waiting: bool) -> list[_Part]:
        """Send one request and settle it; return what has to be sent again."""
        self._ledger.tally.requests += 1
        started = time.monotonic()
        answer = await self._transport.post(self._plan.url, self._plan.body(batch, part.indexes))
        self._pace.note(started, answer)
        verdict = self._judge(answer, len(part.indexes))
        match verdict:
            case Accepted():
                self._heal(part, started)
                self._note_store(answer)
                self._ledger.accept(batch, part.indexes, self._answered(answer))
                await self._forward(batch, part, answer)
                return []
            case Sorted():
                self._heal(part, started)
                rest = await self._sort(batch, part, verdict, self._answered(answer))
                await self._forward(batch, part, answer)
                return rest
            case Opaque():
                return await self._look_closer(batch, part, verdict, waiting, answer)
            case SlowDown():
                self._note_429()
                return [part]
            case Stop():
                self.stop(Halt(verdict.why, verdict.final))
        return []

    def _judge(self, answer: Answer | Failure, size: int) -> Verdict:
        if isinstance(answer, Answer):
            return settle(answer, size, conn_id=self._conn_id, single=self._plan.single)
        if answer.lasts:
            return Stop(answer.message)
        return Opaque(Refusal(answer.message, answer.cause), outage=True, stored=not answer.never_arrived)

    async def _sort(self, batch: Batch, part: _Part, verdict: Sorted, answered: Answered) -> list[_Part]:
        named = {part.indexes[at] for at in (*verdict.duplicates, *verdict.rejected)}
        duplicates = [part.indexes[at] for at in sorted(verdict.duplicates)]
        # Lago stores a batch whole: that every event of it is known now means that the lost request did it. Or that its
        # lost answer said the same as this one, which is why these are audited as well.
        is_ours = part.maybe_stored and len(duplicates) == len(part.indexes)
        if self._plan.audit:
            duplicates = await self._audit(batch, duplicates, answered)
        if is_ours:
            ours, known, why = duplicates, [], ""
        else:
            # What an earlier try of this task may have sent before it was killed, it did.
            sent_to, events = self._ledger.sent_to, batch.events
            ours = [index for index in duplicates if events[index].row.position <= sent_to]
            known = [index for index in duplicates if events[index].row.position > sent_to]
            why = _FOUND
        if ours:
            self._ledger.accept(batch, ours, answered, why)
        if known:
            self._ledger.duplicate(batch, known, answered)
        for at, refusal in verdict.rejected.items():
            self._ledger.refuse(batch, part.indexes[at], refusal, answered)
        rest = [index for index in part.indexes if index not in named]
        return [_Part(rest)] if rest else []

    async def _audit(self, batch: Batch, duplicates: Sequence[int], answered: Answered) -> list[int]:
        """Return the duplicates that say what Lago holds; the others are settled as conflicts."""
        same = []
        for index in duplicates:
            try:
                conflict = await self._auditor.conflict(batch.events[index])
            except AuditEnded:
                break
            if conflict is None:
                same.append(index)
            else:
                self._ledger.contradict(batch, index, conflict, answered)
        return same

    async def _look_up(self, call: Call) -> Answer | None:
        """Return the answer to a read; None where the delivery is over."""
        has_id = "/" in call.path
        tries = 0
        while True:
            await self._pace.turn()
            if self.halt is not None:
                return None
            self._ledger.tally.requests += 1
            started = time.monotonic()
            result = await self._transport.send(call)
            self._pace.note(started, result)
            if has_id and isinstance(result, Answer) and result.status == 404 and is_of_lago(result):
                return result  # also of a route that an old Lago does not find for an id with dots
            verdict = judge(
                result, repeatable=True, conn_id=self._conn_id, expects=call.expects, known=True, path=call.path
            )
            match verdict:
                case SlowDown():
                    self._note_429()
                case Stop():
                    self.stop(Halt(verdict.why, verdict.final))
                case Again():
                    tries += 1
                    if tries < self._policy.attempts:
                        await self._sleep(self._policy.wait(tries))
                    elif has_id and not verdict.outage and isinstance(result, Answer):
                        return result  # such as a firewall's, at this one id: a list does without it
                    else:
                        why = f"gave up after {tries} tries to look up what Lago holds: {verdict.why}"
                        self.stop(Halt(why, final=False))
                case _:
                    self._throttled_since = None
                    return result if isinstance(result, Answer) else None

    async def _look_closer(
        self, batch: Batch, part: _Part, failure: Opaque, waiting: bool, answer: Answer | Failure
    ) -> list[_Part]:
        """Try again, or find the event that makes the request fail, or find that every request fails."""
        part.tries += 1
        part.maybe_stored |= failure.stored
        part.suspected_since = min(part.suspected_since, time.monotonic())
        proven = failure.blames or self._healthy_since > part.suspected_since
        single = len(part.indexes) == 1
        if not failure.lasts and part.tries < self._tries_worth(part, proven and not failure.outage):
            await self._sleep(self._policy.wait(part.tries))
            return [part]
        if not proven and (failure.outage or single):
            return self._doubt_the_server(batch, part, failure, waiting)
        if not single:
            return self._divide(part, proven)
        if failure.outage and not part.last_chance:
            # An outage is nobody's fault: the event is tried once more when all others are delivered.
            self._parked.append((batch, part.indexes[0]))
        elif failure.outage:
            self._give_up(batch, part, failure)
        elif not self._healthy and self._refused >= _MOST_REFUSED:
            self.stop(Halt(f"everything is refused: {failure.refusal.reason}", final=True))
        else:
            self._refused += 1
            self._ledger.refuse(batch, part.indexes[0], failure.refusal, self._answered(answer))
            await self._forward(batch, part, answer)
        return []

    def _divide(self, part: _Part, proven: bool) -> list[_Part]:
        """Halve a request; where nothing shows that the server works, ask it with a single event first."""
        at = len(part.indexes) // 2 if proven else 1
        since = part.suspected_since if part.half else time.monotonic()
        pieces = (part.indexes[:at], part.indexes[at:])
        return [_Part(piece, 0, part.maybe_stored, since, half=True, last_chance=part.last_chance) for piece in pieces]

    def _doubt_the_server(self, batch: Batch, part: _Part, failure: Opaque, waiting: bool) -> list[_Part]:
        """End the delivery, unless another part of the batch may still show that the server works."""
        self._doubts += 1
        if waiting and not part.deferred and self._doubts < _MOST_DOUBTS:
            part.deferred = True
            return [part]
        self._give_up(batch, part, failure)
        return []

    def _give_up(self, batch: Batch, part: _Part, failure: Opaque) -> None:
        one = f" ({batch.events[part.indexes[0]].row.where})" if len(part.indexes) == 1 else ""
        why = f"gave up after {part.tries} tries of one request{one}: {failure.refusal.reason}"
        self.stop(Halt(why, final=False, unproven=not failure.outage))

    def _tries_worth(self, part: _Part, proven: bool) -> int:
        """Return how often a failing request is tried before it is looked into."""
        if len(part.indexes) == 1:
            return max(_TRIES_OF_ONE if part.half else self._policy.attempts, self._tries_beyond_chance())
        if part.half:
            return _TRIES_OF_A_HALF
        return _TRIES_BEFORE_HALVING if proven else self._policy.attempts

    def _tries_beyond_chance(self) -> int:
        """Return how many failures in a row are no accident on this server."""
        if not self._healed:
            return 1
        return math.ceil(math.log(_CHANCE) / math.log(self._healed / (self._healed + self._healthy)))

    def _heal(self, part: _Part, started: float) -> None:
        self._note_health(started)
        self._healed += part.tries

    def _note_store(self, answer: Answer | Failure) -> None:
        """Say once where there will be nothing to audit: only Lago's ClickHouse store gives new events no ids."""
        if not self._plan.audit or self._knows_store or not isinstance(answer, Answer):
            return
        ids = lago_ids(answer, single=self._plan.single)
        self._knows_store = bool(ids)
        if ids and ids[0] is None:
            self._ledger.warn(
                "Lago stores this organization's events in ClickHouse and reports no duplicates there: "
                "on_duplicate='verify' has nothing to compare"
            )

    def _answered(self, answer: Answer | Failure) -> Answered:
        if not self._ledger.wants_receipts or not isinstance(answer, Answer):
            return Answered()
        return Answered(answer.request_id, lago_ids(answer, single=self._plan.single))

    async def _forward(self, batch: Batch, part: _Part, answer: Answer | Failure) -> None:
        if not self._forwards or not isinstance(answer, Answer):
            return
        events = [batch.events[index] for index in part.indexes]
        records = [(event.row.position, event.checked.transaction_id) for event in events]
        await self._hand_on(Response(records, "POST", self._plan.path, answer.status, answer.request_id, answer.body))
