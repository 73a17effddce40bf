"""
What Lago holds under an id that it called a duplicate: the same event, or another one.

Lago compares ids and never contents: an event that was billed with 10 stays so when the source says 12, and the answer
is the same "already exists". Its ClickHouse store reports no duplicates at all, so there is nothing to look at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import Call, build_call
from airflow_provider_lago.api.held_events import differences, second_of
from airflow_provider_lago.api.paths import PathError, path
from airflow_provider_lago.delivery.events.batching import Event

#: Pages of the events of one second that are looked through for one event.
_MOST_PAGES = 10

#: Sends a call; None where the delivery is over.
Send = Callable[[Call], Awaitable[Answer | None]]


class AuditEnded(RuntimeError):
    """The delivery is over before it was known what Lago holds."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """
    An event of the source that Lago holds with another content.

    :param differs: In which fields; empty where what Lago holds was not found.
    :param held: What Lago holds, as JSON; None where it was not found.
    """

    differs: list[str] = field(default_factory=list)
    held: bytes | None = None


class Auditor:
    """
    Compares events with what Lago holds. Several coroutines may use it at the same time.

    :param send: Sends a call until there is an answer about it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._computed: dict[str, str | None] = {}

    async def conflict(self, event: Event) -> Conflict | None:
        """
        Return in what Lago's event differs; None where it says the same.

        :param event: The event that Lago called a duplicate.
        :raises AuditEnded: if the delivery ended meanwhile.
        """
        held = await self._held(event)
        if held is None:
            return Conflict()
        differs = differences(event.checked.payload, held)
        if any(name.startswith("properties") for name in differs):
            computed = await self._computed_property(str(held.get("code")))
            differs = [name for name in differs if name != f"properties.{computed}"]
        return Conflict(differs, exact_json.encode(held)) if differs else None

    async def _held(self, event: Event) -> Mapping[str, Any] | None:
        checked = event.checked
        try:
            # Not scoped to a subscription: of several events with this id it shows any.
            shown = (await self._get(path("events", checked.transaction_id), "event")).get("event")
        except PathError:
            shown = None  # an id that no path can hold: the list has it
        if isinstance(shown, Mapping) and _is_it(shown, event):
            return shown
        async for listed in self._listed(event):
            if _is_it(listed, event):
                return listed
        return None

    async def _listed(self, event: Event) -> AsyncIterator[Mapping[str, Any]]:
        """Yield Lago's events of the same subscription and second."""
        begin, end = second_of(event.checked.payload)
        query = {
            "external_subscription_id": event.checked.external_subscription_id,
            "timestamp_from": begin,
            "timestamp_to": end,
            "per_page": 100,
        }
        for page in range(1, _MOST_PAGES + 1):
            answer = await self._get("events", "events", {**query, "page": page})
            for listed in answer.get("events") or ():
                yield listed
            if not (answer.get("meta") or {}).get("next_page"):
                return

    async def _computed_property(self, code: str) -> str | None:
        """Return the property that Lago computes itself for events of a metric with an expression."""
        if code not in self._computed:
            metric: Any = {}
            try:
                answer = await self._get(path("billable_metrics", code), "billable_metric")
                metric = answer.get("billable_metric") or {}
            except PathError:
                pass
            self._computed[code] = metric.get("field_name") if metric.get("expression") else None
        return self._computed[code]

    async def _get(self, endpoint: str, expects: str, query: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Return what Lago holds; nothing where it says that it holds none."""
        answer = await self._send(build_call("GET", endpoint, params=query, expects=expects))
        if answer is None:
            raise AuditEnded
        try:
            body = exact_json.decode(answer.body) if answer.status == 200 else {}
        except msgspec.DecodeError:
            body = {}
        return body if isinstance(body, Mapping) else {}


def _is_it(held: Mapping[str, Any], event: Event) -> bool:
    checked = event.checked
    return (
        held.get("transaction_id") == checked.transaction_id
        and held.get("external_subscription_id") == checked.external_subscription_id
    )
