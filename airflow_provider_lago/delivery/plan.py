"""What is to be delivered, and how: all that a delivery is made of, before it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from airflow_provider_lago.api.connection import ConnectionSettings
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.sources.rows import Source

if TYPE_CHECKING:
    from airflow_provider_lago.delivery.courier import Courier
    from airflow_provider_lago.delivery.ledger import Ledger
    from airflow_provider_lago.delivery.responses import Responses
    from airflow_provider_lago.delivery.transport import Transport

#: What goes out together: a batch of events, or the conversation about one record.
Unit = TypeVar("Unit")


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One request exactly as it would be sent, without the key.

    :param method: HTTP verb.
    :param url: Full URL.
    :param body: JSON text; empty where there is none.
    :param records: Number of records in it.
    :param headers: Headers of the caller.
    """

    method: str
    url: str
    body: str
    records: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan(ABC, Generic[Unit]):
    """
    What is to be delivered, and how.

    :param source: The records.
    :param settings: The connection to Lago.
    :param user_agent: ``User-Agent`` of the requests.
    :param concurrency: Requests in flight.
    :param requests_per_second: Upper bound of the pace; None for no bound.
    :param policy: How often and how patiently a failed request is tried again.
    """

    source: Source
    settings: ConnectionSettings
    user_agent: str
    concurrency: int = 8
    requests_per_second: float | None = None
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    #: What the records become, in the plural, for log lines.
    noun: ClassVar[str]
    #: Field of a payload that names it.
    id_field: ClassVar[str]
    #: What ``accepted`` is made of, where it is split further; together they are all accepted records.
    kinds: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def goes_to(self) -> str:
        """Verb and URL, for the log."""

    @abstractmethod
    def units(self, ledger: Ledger) -> Iterator[Unit]:
        """
        Return what the source gives to send; the ledger gets the records that will not be sent.

        :raises ValueError: if the settings are wrong.
        """

    @abstractmethod
    def courier(self, transport: Transport, ledger: Ledger, responses: Responses) -> Courier[Unit]:
        """Return what delivers the units."""

    @abstractmethod
    def samples(self, unit: Unit) -> list[Sample]:
        """Return the requests that would change something in Lago for a unit, if Lago held nothing yet."""
