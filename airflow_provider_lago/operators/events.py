"""Deliver usage events to Lago."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lago.api.timestamps import UNITS
from airflow_provider_lago.delivery.events.identity import RANDOM
from airflow_provider_lago.delivery.events.plan import LARGEST_BATCH, EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaper, EventShaping, needed_columns
from airflow_provider_lago.delivery.report import Report
from airflow_provider_lago.delivery.shaping import StartOfTry
from airflow_provider_lago.exceptions import LagoRejectedError
from airflow_provider_lago.operators.arguments import Threshold, check_choice, check_whole, check_zone
from airflow_provider_lago.operators.base import LagoDeliveryOperator

if TYPE_CHECKING:
    from airflow_provider_lago.delivery.delivery import Result

_NOW = "now"


class LagoIngestEventsOperator(LagoDeliveryOperator):
    """
    Deliver usage events to Lago: each record of the source exactly once, or into a file that says why not.

    Records are shaped into events, checked, sent in batches with several requests in flight, and settled one by one:
    a bad event costs only itself, an event that Lago already has counts as duplicate, and a lost answer is found out
    by sending the same events again. See the guide for what each answer of Lago means.

    Takes all arguments of :class:`~airflow_provider_lago.operators.base.LagoDeliveryOperator`, and returns and raises
    the same. ``fields`` maps event fields, such as ``{"external_subscription_id": "account.id"}``; those that are not
    mapped are taken from the columns of their own names. ``constants`` may nest, as in ``{"properties.region": "eu"}``;
    ``{"timestamp": "now"}`` takes the start of the delivery for all records: a retry of the task then has another
    time, which Lago's ClickHouse store bills again.

    :param properties: Columns to nest under ``properties``: a list of columns or dotted paths, or
        ``{property: column}``. A record in which one is missing or null is rejected, because Lago would not bill it;
        write ``"column?"`` where that is fine. (templated)
    :param transaction_id: How to derive the id of a record that has none: a list of columns that identify a record,
        ``"hash"`` (of the event's content: records that say exactly the same count once), a callable record -> id, or
        ``"random"``. Derived ids depend on the record
        alone, so that a repeated delivery adds nothing; ``"random"`` bills a repeated delivery again. Without it, a
        record without an id is rejected. Not templated: Airflow calls functions in template fields.
    :param timestamp_unit: Unit of timestamps that are numbers: ``s`` (default), ``ms``, ``us`` or ``ns``. Datetimes and
        ISO 8601 texts are always understood.
    :param timezone: Time zone of timestamps that name none, default ``UTC``.
    :param batch_size: Events of a request, 1 to 100 (Lago's limit); 1 sends each event alone, to ``POST /events``.
    :param on_duplicate: What to do about events that Lago has already: ``accept`` them (default), ``fail`` the task
        after everything was delivered, or ``verify``, with a request for each, that Lago holds the same. One that it
        holds with another content is rejected, and both sides are in ``conflicts.jsonl``. Events that a try of this
        task has sent itself, its answer being lost, are no duplicates, but are looked up, too. Lago's ClickHouse store
        reports none.
    """

    template_fields: Sequence[str] = (*LagoDeliveryOperator.template_fields, "properties")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **LagoDeliveryOperator.template_fields_renderers,
        "properties": "json",
    }

    def __init__(
        self,
        *,
        properties: Sequence[str] | Mapping[str, str] | None = None,
        transaction_id: str | Sequence[str] | Callable[[Mapping[str, Any]], str] | None = None,
        timestamp_unit: str = "s",
        timezone: str = "UTC",
        batch_size: int = 100,
        on_duplicate: str = "accept",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.properties = properties
        self.transaction_id = transaction_id
        self.timestamp_unit = timestamp_unit
        self.timezone = timezone
        self.batch_size = batch_size
        self.on_duplicate = on_duplicate

    @property
    def _keeps_conflicts(self) -> bool:
        return self.on_duplicate == "verify"

    @property
    def bills(self) -> bool:
        """Usage is billed, and cannot be deleted."""
        return True

    def _columns(self) -> frozenset[str] | None:
        shaping = self._event_shaping({})
        EventShaper(shaping)  # checks the settings before anything is read
        return needed_columns(shaping)

    def _plan(self, common: dict[str, Any]) -> EventPlan:
        check_choice("on_duplicate", self.on_duplicate, ("accept", "fail", "verify"))
        shaping = self._event_shaping(self._constants())
        EventShaper(shaping)
        return EventPlan(
            shaping=shaping,
            batch_size=check_whole("batch_size", self.batch_size, 1, LARGEST_BATCH),
            audit=self._keeps_conflicts,
            **common,
        )

    def _event_shaping(self, constants: Mapping[str, Any]) -> EventShaping:
        return EventShaping(
            fields=self.fields or {},
            constants=constants,
            exclude=self.exclude or (),
            transform=self.transform,
            edits=self.edits,
            properties=self.properties or (),
            transaction_id=self.transaction_id,
            timestamp_unit=check_choice("timestamp_unit", self.timestamp_unit, tuple(UNITS)),
            zone=check_zone("timezone", self.timezone),
        )

    def _constants(self) -> dict[str, Any]:
        if self.constants is not None and not isinstance(self.constants, Mapping):
            raise ValueError(f"constants must be a dict, not a {type(self.constants).__name__}")
        constants = dict(self.constants or {})
        if constants.get("timestamp") == _NOW:
            constants["timestamp"] = StartOfTry.now(UTC)
            self.log.warning(
                "All events get the time of this try, %s: a retry has another one, and where Lago stores events in "
                "ClickHouse it bills them again",
                constants["timestamp"].isoformat(),
            )
        if self.transaction_id == RANDOM:
            self.log.warning("Ids are random, as asked for: a retry or rerun of this task bills every record again")
        return constants

    def _judge(self, result: Result, threshold: Threshold, report: Report) -> None:
        super()._judge(result, threshold, report)
        tally = result.tally
        if tally.duplicate and self.on_duplicate == "fail":
            raise LagoRejectedError(
                f"{tally.duplicate:,} of {tally.read:,} records were in Lago already, or twice in the source, and "
                "on_duplicate='fail'. All others were delivered"
            )
