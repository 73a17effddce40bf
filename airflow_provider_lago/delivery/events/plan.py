"""A delivery of usage events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_lago.delivery.events.batching import Batch, batches
from airflow_provider_lago.delivery.events.preparing import prepare
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.plan import Plan, Sample

if TYPE_CHECKING:
    from airflow_provider_lago.delivery.events.sending import Sender
    from airflow_provider_lago.delivery.responses import Responses
    from airflow_provider_lago.delivery.transport import Transport

#: Lago's own limit of events in a batch.
LARGEST_BATCH = 100

#: Most bytes of a request: nginx, which often stands before Lago, refuses bodies of more than 1 MiB unless told.
LARGEST_BODY = 1_000_000


@dataclass(frozen=True, kw_only=True)
class EventPlan(Plan[Batch]):
    """
    What events are to be delivered, and how; see :class:`~airflow_provider_lago.delivery.plan.Plan` for the rest.

    :param shaping: How records become events.
    :param batch_size: Events of a request; 1 sends each event alone, to ``POST /events``.
    :param max_bytes: Most bytes of a request's body.
    :param audit: Whether to compare what Lago calls a duplicate with what it holds.
    """

    shaping: EventShaping
    batch_size: int = LARGEST_BATCH
    max_bytes: int = LARGEST_BODY
    audit: bool = False

    noun: ClassVar[str] = "events"
    id_field: ClassVar[str] = "transaction_id"

    @property
    def single(self) -> bool:
        """Whether each event goes alone."""
        return self.batch_size == 1

    @property
    def path(self) -> str:
        """Path of the requests below ``/api/v1``."""
        return "events" if self.single else "events/batch"

    @property
    def url(self) -> str:
        """Where the events go. Lago's ingest service takes single events only."""
        root = (self.settings.ingest_url if self.single else None) or self.settings.api_url
        return f"{root}/{self.path}"

    @property
    def goes_to(self) -> str:
        """Verb and URL, for the log."""
        return f"POST {self.url}, {self.batch_size} events a request"

    def units(self, ledger: Ledger) -> Iterator[Batch]:
        """Return the batches of the source."""
        events = prepare(self.source.rows(), self.shaping, ledger)
        return batches(events, max_count=self.batch_size, max_bytes=self.max_bytes, on_conflict=ledger.conflict)

    def courier(self, transport: Transport, ledger: Ledger, responses: Responses) -> Sender:
        """Return what delivers the batches."""
        # Imported where a delivery begins: with aiohttp it costs more than all else that parsing a DAG file imports.
        from airflow_provider_lago.delivery.events.sending import Sender

        return Sender(self, transport, ledger, responses)

    def samples(self, unit: Batch) -> list[Sample]:
        """Return the one request of a batch."""
        count = len(unit.events)
        return [Sample("POST", self.url, self.body(unit, range(count)).decode(), count)]

    def body(self, batch: Batch, indexes: Sequence[int]) -> bytes:
        """Return the body of the request that sends these events of a batch."""
        payloads = [batch.events[index].checked.payload for index in indexes]
        if self.single:
            return b'{"event":' + payloads[0] + b"}"
        return b'{"events":[' + b",".join(payloads) + b"]}"
