"""A delivery that holds a conversation with Lago about each record."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lago.api.paths import PathError
from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.api.wire import WireError
from airflow_provider_lago.delivery.calls.conversation import Job
from airflow_provider_lago.delivery.decoding import decode
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.plan import Plan, Sample
from airflow_provider_lago.delivery.shaping import RecordShaper, Shaping
from airflow_provider_lago.sources.rows import Row, Unreadable

if TYPE_CHECKING:
    from airflow_provider_lago.delivery.calls.caller import Caller
    from airflow_provider_lago.delivery.responses import Responses
    from airflow_provider_lago.delivery.transport import Transport


@dataclass(frozen=True, kw_only=True)
class CallPlan(Plan[Job]):
    """
    What is to be said to Lago, and how; see :class:`~airflow_provider_lago.delivery.plan.Plan` for the rest.

    :param shaping: How records become payloads.
    """

    shaping: Shaping = field(default_factory=Shaping)

    #: Fields that a payload may have; None for any.
    known: ClassVar[Collection[str] | None] = None
    #: What a payload is, for messages.
    what: ClassVar[str]

    def __post_init__(self) -> None:
        """
        Check the mapping, before a record is read.

        :raises ValueError: if it is wrong, or names what a payload does not have.
        """
        RecordShaper(self.shaping, self.known, self.what)

    def units(self, ledger: Ledger) -> Iterator[Job]:
        """Return a job for each record that can be sent; the ledger gets the outcome of every other one."""
        shaper = RecordShaper(self.shaping, self.known, self.what)
        return self._jobs(shaper, ledger)

    @abstractmethod
    def job(self, row: Row, record: Mapping[str, Any], payload: dict[str, Any]) -> Job:
        """
        Return what is said to Lago about a record.

        :param row: Where it comes from.
        :param record: The record after the transform.
        :param payload: What shaping made of it.
        :raises InvalidRecord: if it can never be sent.
        :raises PathError: if it would lead the call elsewhere.
        :raises WireError: if it cannot be written.
        """

    def courier(self, transport: Transport, ledger: Ledger, responses: Responses) -> Caller:
        """Return what holds the conversations."""
        # Imported where a delivery begins, because of aiohttp.
        from airflow_provider_lago.delivery.calls.caller import Caller

        return Caller(self, transport, ledger, responses)

    def samples(self, unit: Job) -> list[Sample]:
        """Return the one request that changes something."""
        call = unit.call
        body = (call.body or b"").decode()
        url = f"{self.settings.api_url}/{call.target}"
        return [Sample(call.method, url, body, len(unit.entries), tuple(call.headers.items()))]

    def _jobs(self, shaper: RecordShaper, ledger: Ledger) -> Iterator[Job]:
        for row in self.source.rows():
            shaped = self.shaped(row, shaper, ledger)
            if shaped is None:
                continue
            try:
                job = self.job(row, *shaped)
            except (InvalidRecord, PathError, WireError) as error:
                ledger.invalid(row, as_invalid(error))
            except Exception as error:  # noqa: BLE001 - one odd record must never end a delivery
                ledger.invalid(row, InvalidRecord("cannot be sent", f"{type(error).__name__}: {error}"[:200]))
            else:
                yield job
        self.note_never_found(shaper, ledger)

    def shaped(self, row: Row, shaper: RecordShaper, ledger: Ledger) -> tuple[Mapping[str, Any], dict[str, Any]] | None:
        """Return record and payload of a row; None where the ledger got its outcome."""
        ledger.tally.read += 1
        if isinstance(row.data, Unreadable):
            ledger.unreadable(row, row.data)
            return None
        try:
            data = decode(row.data)
            if data is row.data and self.shaping.transform is not None:
                data = deepcopy(data)  # the transform may change it, and the report keeps it as it was read
            record = shaper.record(data)
            if record is not None:
                return record, shaper.payload(record)
            ledger.skip(row)
        except InvalidRecord as error:
            ledger.invalid(row, error)
        except Exception as error:  # noqa: BLE001 - one odd record must never end a delivery, nor every retry of it
            ledger.invalid(row, InvalidRecord("cannot be shaped", f"{type(error).__name__}: {error}"[:200]))
        return None

    def note_never_found(self, shaper: RecordShaper, ledger: Ledger) -> None:
        """Tell of columns that no record had: a misspelt one would never be noticed where a field may be missing."""
        if ledger.tally.read:
            for path, target in shaper.never_found.items():
                ledger.warn("No record has the column %r, which fields maps to %r", path, target)


def as_invalid(error: InvalidRecord | PathError | WireError) -> InvalidRecord:
    """Return any of the errors that a record's own values cause as the reason for its rejection."""
    if isinstance(error, InvalidRecord):
        return error
    return InvalidRecord("cannot be sent", str(error))
