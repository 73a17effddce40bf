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
from airflow_provider_lago.api.answers import Answer, read_error
from airflow_provider_lago.api.calls import Call, build_call
from airflow_provider_lago.api.held_events import differences, second_of
from airflow_provider_lago.api.paths import PathError, path
from airflow_provider_lago.delivery.events.batching import Event

#: Rows of a page, and pages of a list that are looked through for one event, or for the metrics.
_PAGE = 100
_MOST_PAGES = 10

#: Differing fields that a message names; ``conflicts.jsonl`` has them all.
_NAMED = 5

_KNOWN = "Lago says that it holds an event of this id and subscription, but"

#: Sends a call; None where the delivery is over.
Send = Callable[[Call], Awaitable[Answer | None]]


class AuditEnded(RuntimeError):
    """The delivery is over before it was known what Lago holds."""


class _NotShown(Exception):
    """Lago does not show an event that it says it holds; the text says what was seen instead."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """
    An event of the source that Lago holds with another content.

    :param detail: What was found, for a person.
    :param differs: In which fields; empty where what Lago holds was not found.
    :param held: What Lago holds, as JSON; None where it was not found.
    """

    detail: str
    differs: list[str] = field(default_factory=list)
    held: bytes | None = None


class Auditor:
    """
    Compares events with what Lago holds. Several coroutines may use it at the same time.

    :param send: Sends a call until there is an answer about it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._computed: dict[str, str] | None = None

    async def conflict(self, event: Event) -> Conflict | None:
        """
        Return in what Lago's event differs; None where it says the same.

        :param event: The event that Lago called a duplicate.
        :raises AuditEnded: if the delivery ended meanwhile.
        """
        try:
            held = await self._held(event)
        except _NotShown as why:
            return Conflict(f"{_KNOWN} {why}")
        differs = differences(event.checked.payload, held)
        if any(name.startswith("properties") for name in differs):
            computed = await self._computed_property(held.get("code"))
            differs = [name for name in differs if computed is None or name != f"properties.{computed}"]
        return Conflict(_describe(differs), differs, exact_json.encode(held)) if differs else None

    async def _held(self, event: Event) -> Mapping[str, Any]:
        shown = await self._shown(event)
        if shown is not None and _is_it(shown, event):
            return shown
        begin, end = second_of(event.checked.payload)
        of_then = {
            "external_subscription_id": event.checked.external_subscription_id,
            "timestamp_from": begin,
            "timestamp_to": end,
        }
        seen = 0
        async for listed in self._listed("events", of_then):
            if _is_it(listed, event):
                return listed
            seen += 1
        if seen < _PAGE * _MOST_PAGES:
            raise _NotShown("shows none at this time")
        raise _NotShown(f"it is not among the first {seen:,} that it shows of this second")

    async def _shown(self, event: Event) -> Mapping[str, Any] | None:
        """
        Return what Lago shows by the id alone: of several events with this id, in other subscriptions, any.

        Nothing where the id does not get through: dots before Lago 1.42, steps of a path, firewalls.
        """
        try:
            answer = await self._get(path("events", event.checked.transaction_id), "event")
        except PathError:
            return None
        shown = _read(answer).get("event")
        return shown if isinstance(shown, Mapping) else None

    async def _computed_property(self, code: object) -> str | None:
        """Return the property that Lago computes itself for events of a metric with an expression."""
        if self._computed is None:
            # All at once: most organizations have a page of metrics, and a path cannot hold a code with a dot.
            self._computed = {
                str(metric.get("code")): str(metric.get("field_name"))
                async for metric in self._listed("billable_metrics", {})
                if metric.get("expression") and metric.get("field_name")
            }
        return self._computed.get(str(code))

    async def _listed(self, endpoint: str, query: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
        for page in range(1, _MOST_PAGES + 1):
            answer = await self._get(endpoint, endpoint, {**query, "per_page": _PAGE, "page": page})
            if answer.status != 200:
                raise _NotShown(f"does not list {endpoint}: {read_error(answer).message}")
            body = _read(answer)
            for listed in body.get(endpoint) or ():
                yield listed
            if not (body.get("meta") or {}).get("next_page"):
                return

    async def _get(self, endpoint: str, expects: str, query: Mapping[str, Any] | None = None) -> Answer:
        answer = await self._send(build_call("GET", endpoint, params=query, expects=expects))
        if answer is None:
            raise AuditEnded
        return answer


def _describe(differs: list[str]) -> str:
    more = f" and {len(differs) - _NAMED:,} more" if len(differs) > _NAMED else ""
    return f"Lago holds another {', '.join(differs[:_NAMED])}{more} under this id and subscription, and keeps it"


def _read(answer: Answer) -> Mapping[str, Any]:
    """Return the body of a success, with every digit; nothing of any other answer."""
    try:
        body = exact_json.decode(answer.body) if answer.status == 200 else {}
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, Mapping) else {}


def _is_it(held: Mapping[str, Any], event: Event) -> bool:
    checked = event.checked
    return (
        held.get("transaction_id") == checked.transaction_id
        and held.get("external_subscription_id") == checked.external_subscription_id
    )
