"""Writes down the outcome of each record: in the counts, in the report, and the first rejects in the log."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from airflow_provider_lago.api.plain_text import plain
from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.delivery.outcomes import Outcome, Refusal, Settled
from airflow_provider_lago.delivery.progress import Progress
from airflow_provider_lago.delivery.report import Report, printable
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import Row, Unreadable

if TYPE_CHECKING:
    from airflow_provider_lago.delivery.events.auditing import Conflict
    from airflow_provider_lago.delivery.events.batching import Batch, Event

#: Rejected records that the log names; the report holds them all.
_NAMED = 10

#: Why an event is rejected that Lago, or the source before it, has with another content.
CONFLICT = "transaction_id: conflict"

_REFUSED = "refused by Lago, or on the way to it"


class Log(Protocol):
    """The part of a logger that a delivery uses; Airflow's loggers are not all of the standard library's kind."""

    def info(self, msg: Any, /, *args: Any) -> Any:
        """Say something."""

    def warning(self, msg: Any, /, *args: Any) -> Any:
        """Say something that wants attention."""


class Entry(NamedTuple):
    """
    A record that became a payload.

    :param row: Where it comes from.
    :param id: What names it in Lago; None where nothing does.
    :param payload: The payload as JSON; None where there is none.
    """

    row: Row
    id: str | None
    payload: bytes | None


class Answered(NamedTuple):
    """
    What an answer tells of the records of its request, for receipts.

    :param request_id: Under which Lago logged the request.
    :param lago_ids: Lago's own ids, in the order of the request; may be shorter.
    """

    request_id: str | None = None
    lago_ids: Sequence[str | None] = ()


_UNANSWERED = Answered()


class Ledger:
    """
    The one place where an outcome is given, so that counts, receipts and rejects cannot differ.

    Records are read in one thread, settled in another and looked at for the checkpoint by a third, hence the lock.

    :param tally: Counts.
    :param report: Evidence.
    :param log: The task's log.
    :param id_field: Field that names a record, for messages about one that did not become a payload.
    :param progress: Which records have an outcome already, from an earlier try.
    :param sent_to: Last record that an earlier try may have sent without writing down what became of it.
    """

    def __init__(
        self,
        tally: Tally,
        report: Report,
        log: Log,
        id_field: str = "transaction_id",
        *,
        progress: Progress | None = None,
        sent_to: int = 0,
    ) -> None:
        self.tally = tally
        self.progress = progress or Progress()
        self.sent_to = sent_to
        #: Whether evidence could not be written, so that counts and files may differ.
        self.is_torn = False
        self.wants_receipts = report.wants_receipts
        self._report = report
        self._log = log
        self._id_field = id_field
        self._lock = threading.Lock()
        self._notes = 0

    def accept(self, batch: Batch, indexes: Sequence[int], answered: Answered = _UNANSWERED, reason: str = "") -> None:
        """
        Give these events of a batch the outcome accepted; their twins are duplicates.

        :param batch: The batch.
        :param indexes: Which of its events.
        :param answered: What the answer tells.
        :param reason: What a receipt has to say where no answer said that Lago took them.
        """
        with self._writing():
            if self.wants_receipts:
                settled = Settled(Outcome.ACCEPTED, reason=reason)
                self._receipt(_named(batch, indexes), settled, answered.request_id, answered.lago_ids)
                self._receipt_of_twins(batch, indexes, answered)
            self.tally.accepted += len(indexes)
            self.tally.duplicate += batch.count_twins(indexes)
            self._settle_positions(batch, indexes)

    def duplicate(self, batch: Batch, indexes: Sequence[int], answered: Answered = _UNANSWERED) -> None:
        """Give these events of a batch, and their twins, the outcome duplicate."""
        with self._writing():
            if self.wants_receipts:
                known = Settled(Outcome.DUPLICATE, reason="in Lago already")
                self._receipt(_named(batch, indexes), known, answered.request_id)
                self._receipt_of_twins(batch, indexes, answered)
            self.tally.duplicate += len(indexes) + batch.count_twins(indexes)
            self._settle_positions(batch, indexes)

    def refuse(self, batch: Batch, index: int, refusal: Refusal, answered: Answered = _UNANSWERED) -> None:
        """Reject an event that Lago refused; its twins would be refused for the same reason."""
        entry = _entry(batch.events[index])
        entries = [entry, *(entry._replace(row=row) for row in batch.twins.get(index, ()))]
        self.settle(
            entries,
            Settled(Outcome.REJECTED, reason=refusal.reason, detail=_REFUSED, code=refusal.code),
            answered.request_id,
        )

    def contradict(self, batch: Batch, index: int, conflict: Conflict, answered: Answered = _UNANSWERED) -> None:
        """Reject an event that Lago holds with another content, and its twins."""
        event = batch.events[index]
        checked = event.checked
        both_sides = {
            "position": event.row.position,
            "origin": printable(event.row.origin),
            "line": event.row.line,
            "id": checked.transaction_id,
            "differs": conflict.differs,
            "source": msgspec.Raw(checked.payload),
            "lago": None if conflict.held is None else msgspec.Raw(conflict.held),
        }
        entry = _entry(event)
        entries = [entry, *(entry._replace(row=row) for row in batch.twins.get(index, ()))]
        settled = Settled(Outcome.REJECTED, reason=CONFLICT, detail=conflict.detail, code="value_already_exist")
        with self._writing():
            self._report.conflict(both_sides)
            self._settle(entries, settled, answered.request_id)

    def conflict(self, event: Event, earlier: Event) -> None:
        """Reject an event that says something else under the id of an earlier one."""
        detail = (
            f"{earlier.row.where} has the same transaction_id and subscription but other content; Lago would keep that "
            "one and drop this in silence"
        )
        self.settle([_entry(event)], Settled(Outcome.REJECTED, reason=CONFLICT, detail=detail))

    def invalid(self, row: Row, error: InvalidRecord) -> None:
        """Reject a record that cannot become what Lago takes."""
        self._reject_row(row, error.reason, error.detail)

    def unreadable(self, row: Row, defect: Unreadable) -> None:
        """Reject a piece of the source that is not a record."""
        self._reject_row(row, defect.reason, defect.detail)

    def skip(self, row: Row, reason: str = "left out by transform") -> None:
        """Give a record the outcome skipped."""
        self.settle([Entry(row, None, None)], Settled(Outcome.SKIPPED, reason=reason))

    def settle(self, entries: Sequence[Entry], settled: Settled, request_id: str | None = None) -> None:
        """Give records their outcome, the same for each of them."""
        with self._writing():
            self._settle(entries, settled, request_id)

    def _settle(self, entries: Sequence[Entry], settled: Settled, request_id: str | None) -> None:
        if settled.outcome is Outcome.REJECTED:
            for entry in entries:
                self._report.rejected(
                    entry.row,
                    reason=settled.reason,
                    detail=settled.detail,
                    code=settled.code,
                    payload=entry.payload,
                )
        if self.wants_receipts:
            self._receipt([(entry.row, entry.id) for entry in entries], settled, request_id)
        if settled.outcome is Outcome.REJECTED:
            for entry in entries:
                self._count_rejected(entry, settled)
        else:
            self.tally.count(settled.outcome, settled.kind, len(entries))
            if settled.detail:
                self._note(entries[0], settled)
        self.progress.add_all(entry.row.position for entry in entries)

    @contextmanager
    def still(self) -> Iterator[bool]:
        """Hold counts, progress and evidence still for a moment; tells whether they agree."""
        with self._lock:
            yield not self.is_torn

    def warn(self, message: str, *args: Any) -> None:
        """Say something in the log that is about no single record."""
        self._log.warning(message, *args)

    def _reject_row(self, row: Row, reason: str, detail: str) -> None:
        identifier = _own_id(row, self._id_field) if self.wants_receipts or self.tally.rejected < _NAMED else None
        self.settle([Entry(row, identifier, None)], Settled(Outcome.REJECTED, reason=reason, detail=detail))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write evidence first and count it then: what is not in the evidence must not count as done."""
        with self._lock:
            try:
                yield
            except BaseException:
                self.is_torn = True
                raise

    def _settle_positions(self, batch: Batch, indexes: Sequence[int]) -> None:
        events = batch.events
        first, last = events[indexes[0]].row.position, events[indexes[-1]].row.position
        if last - first + 1 == len(indexes) and not batch.twins:
            self.progress.add(first, last)  # by far the most
            return
        rows = [events[index].row for index in indexes]
        for index in indexes if batch.twins else ():
            rows += batch.twins.get(index, ())
        self.progress.add_all(sorted(row.position for row in rows))

    def _count_rejected(self, entry: Entry, settled: Settled) -> None:
        self.tally.reject(settled.reason)
        if self.tally.rejected <= _NAMED:
            named = f" ({self._id_field} {entry.id[:80]!r})" if entry.id else ""
            self._log.warning("Rejected %s", plain(f"{entry.row.where}{named}: {settled.reason} - {settled.detail}"))
        if self.tally.rejected == _NAMED + 1:
            self._log.warning("Further rejected records are not named in the log")

    def _note(self, entry: Entry, settled: Settled) -> None:
        """Tell what is worth knowing of a record that is fine."""
        self._notes += 1
        if self._notes <= _NAMED:
            named = f" ({self._id_field} {entry.id[:80]!r})" if entry.id else ""
            self._log.warning(
                "%s", plain(f"{entry.row.where}{named} {settled.kind or settled.outcome}: {settled.detail}")
            )
        if self._notes == _NAMED + 1:
            self._log.warning("Further notes of this kind are not in the log")

    def _receipt_of_twins(self, batch: Batch, indexes: Sequence[int], answered: Answered) -> None:
        twin = Settled(Outcome.DUPLICATE, reason="said twice by the source")
        for index in indexes if batch.twins else ():
            identifier = batch.events[index].checked.transaction_id
            rows = batch.twins.get(index, ())
            self._receipt([(row, identifier) for row in rows], twin, answered.request_id)

    def _receipt(
        self,
        named: Iterable[tuple[Row, str | None]],
        settled: Settled,
        request_id: str | None,
        lago_ids: Iterable[str | None] = (),
    ) -> None:
        """Write receipts of rows and their ids; ``lago_ids`` are the records' own, in their order, and may be fewer."""
        outcome, kind, reason, code = str(settled.outcome), settled.kind or None, settled.reason or None, settled.code
        lines = [
            {
                "position": row.position,
                "origin": row.origin,
                "line": row.line,
                "id": identifier,
                "outcome": outcome,
                "kind": kind,
                "lago_id": lago_id,
                "request_id": request_id,
                "reason": reason,
                "code": code,
            }
            for (row, identifier), lago_id in zip(named, chain(lago_ids, repeat(settled.lago_id)))  # noqa: B905 - the second has no end
        ]
        for line in lines if settled.facts else ():
            line.update(settled.facts)
        self._report.receipts(lines)


def _named(batch: Batch, indexes: Sequence[int]) -> list[tuple[Row, str | None]]:
    events = [batch.events[index] for index in indexes]
    return [(event.row, event.checked.transaction_id) for event in events]


def _entry(event: Event) -> Entry:
    return Entry(event.row, event.checked.transaction_id, event.checked.payload)


def _own_id(row: Row, field: str) -> str | None:
    """Return the id of a record that did not become a payload, if it can be read at all."""
    try:
        data = msgspec.json.decode(row.data) if isinstance(row.data, bytes) else row.data
        return None if data[field] is None else str(data[field])
    except Exception:  # noqa: BLE001 - only a help for the reader of the log, of a record that is broken somehow
        return None
