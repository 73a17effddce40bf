"""What is to be delivered, and how: all that a delivery is made of, before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from airflow_provider_lago.api.connection import ConnectionSettings
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.batching import Batch, batches
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.preparing import prepare
from airflow_provider_lago.delivery.shaping import Shaping
from airflow_provider_lago.sources.rows import Source

#: Lago's own limit of events in a batch.
LARGEST_BATCH = 100

#: Most bytes of a request: nginx, which often stands before Lago, refuses bodies of more than 1 MiB unless told.
LARGEST_BODY = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What is to be delivered, and how.

    :param source: The records.
    :param shaping: How they become events.
    :param settings: The connection to Lago.
    :param user_agent: ``User-Agent`` of the requests.
    :param batch_size: Events of a request; 1 sends each event alone, to ``POST /events``.
    :param concurrency: Requests in flight.
    :param requests_per_second: Upper bound of the pace; None for no bound.
    :param policy: How often and how patiently a failed request is tried again.
    :param max_bytes: Most bytes of a request's body.
    """

    source: Source
    shaping: Shaping
    settings: ConnectionSettings
    user_agent: str
    batch_size: int = LARGEST_BATCH
    concurrency: int = 8
    requests_per_second: float | None = None
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    max_bytes: int = LARGEST_BODY

    @property
    def single(self) -> bool:
        """Whether each event goes alone."""
        return self.batch_size == 1

    @property
    def url(self) -> str:
        """Where the events go. Lago's ingest service takes single events only."""
        if self.single:
            return f"{self.settings.ingest_url or self.settings.api_url}/events"
        return f"{self.settings.api_url}/events/batch"

    def batches(self, ledger: Ledger) -> Iterator[Batch]:
        """
        Return the batches of the source; the ledger gets the records that will not be sent.

        :raises ValueError: if the shaping is wrong.
        """
        events = prepare(self.source.rows(), self.shaping, ledger)
        return batches(events, max_count=self.batch_size, max_bytes=self.max_bytes, on_conflict=ledger.conflict)

    def body(self, batch: Batch, indexes: Sequence[int]) -> bytes:
        """Return the body of the request that sends these events of a batch."""
        payloads = [batch.events[index].checked.payload for index in indexes]
        if self.single:
            return b'{"event":' + payloads[0] + b"}"
        return b'{"events":[' + b",".join(payloads) + b"]}"
