"""Writes down the outcome of each record: in the counts, in the report, and the first rejects in the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from airflow_provider_lago.api.events import InvalidEvent
from airflow_provider_lago.delivery.batching import Batch, Event
from airflow_provider_lago.delivery.report import Report
from airflow_provider_lago.delivery.settling import Refusal
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import Row, Unreadable

#: Rejected records that the log names; the report holds them all.
_NAMED = 10


class Log(Protocol):
    """The part of a logger that a delivery uses; Airflow's loggers are not all of the standard library's kind."""

    def info(self, msg: Any, /, *args: Any) -> Any:
        """Say something."""

    def warning(self, msg: Any, /, *args: Any) -> Any:
        """Say something that wants attention."""


class Ledger:
    """
    The one place where an outcome is given, so that counts and report cannot differ.

    :param tally: Counts.
    :param report: Evidence.
    :param log: The task's log.
    """

    def __init__(self, tally: Tally, report: Report, log: Log) -> None:
        self.tally = tally
        self._report = report
        self._log = log

    def accept(self, batch: Batch, indexes: Sequence[int]) -> None:
        """Give these events of a batch the outcome accepted; their twins are duplicates."""
        self.tally.accepted += len(indexes)
        self.tally.duplicate += batch.count_twins(indexes)

    def duplicate(self, batch: Batch, indexes: Sequence[int]) -> None:
        """Give these events of a batch, and their twins, the outcome duplicate."""
        self.tally.duplicate += len(indexes) + batch.count_twins(indexes)

    def refuse(self, batch: Batch, index: int, refusal: Refusal) -> None:
        """Reject an event that Lago refused; its twins would be refused for the same reason."""
        event = batch.events[index]
        for row in (event.row, *batch.twins.get(index, ())):
            self._reject(row, refusal.reason, "refused by Lago, or on the way to it", refusal.code, event)

    def conflict(self, event: Event, earlier: Event) -> None:
        """Reject an event that says something else under the id of an earlier one."""
        self._reject(
            event.row,
            "transaction_id: conflict",
            f"{earlier.row.where} has the same transaction_id and subscription but other content; Lago would keep that "
            "one and drop this in silence",
            None,
            event,
        )

    def invalid(self, row: Row, error: InvalidEvent) -> None:
        """Reject a record that is not an event Lago would bill."""
        self._reject(row, error.reason, error.detail, None, None)

    def unreadable(self, row: Row, defect: Unreadable) -> None:
        """Reject a piece of the source that is not a record."""
        self._reject(row, defect.reason, defect.detail, None, None)

    def _reject(self, row: Row, reason: str, detail: str, code: str | None, event: Event | None) -> None:
        self._report.rejected(
            row, reason=reason, detail=detail, code=code, payload=event.checked.payload if event else None
        )
        self.tally.reject(reason)
        if self.tally.rejected <= _NAMED:
            identifier = event.checked.transaction_id if event else _own_id(row)
            named = f" (transaction_id {str(identifier)[:80]!r})" if identifier else ""
            self._log.warning("Rejected %s%s: %s - %s", row.where, named, reason, detail)
        if self.tally.rejected == _NAMED + 1:
            self._log.warning("Further rejected records are not named in the log")


def _own_id(row: Row) -> object:
    """Return the id of a record that did not become an event, if it can be read at all."""
    try:
        data = msgspec.json.decode(row.data) if isinstance(row.data, bytes) else row.data
        return str(data["transaction_id"])
    except Exception:  # noqa: BLE001 - only a help for the reader of the log, of a record that is broken somehow
        return None
