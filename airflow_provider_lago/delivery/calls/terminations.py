"""Ending subscriptions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow_provider_lago.api.calls import Call, build_call
from airflow_provider_lago.api.objects import as_choice, check_id, check_known
from airflow_provider_lago.api.paths import path
from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.delivery.calls.conversation import Conversation, Job, rejected
from airflow_provider_lago.delivery.calls.lookups import Held, find
from airflow_provider_lago.delivery.calls.plan import CallPlan
from airflow_provider_lago.delivery.ledger import Entry
from airflow_provider_lago.delivery.outcomes import Outcome, Settled
from airflow_provider_lago.sources.rows import Row

#: The options of an ending and their values; each may come from the record too.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "status": ("active", "pending"),
    "on_termination_credit_note": ("credit", "refund", "skip", "offset"),
    "on_termination_invoice": ("generate", "skip"),
}

#: The state that a subscription is in once it is ended.
_ENDED = {"active": "terminated", "pending": "canceled"}

#: How far a server's clock may be from this one.
_CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class TerminationPlan(CallPlan):
    """
    What subscriptions are to end; see :class:`~airflow_provider_lago.delivery.calls.plan.CallPlan` for the rest.

    :param status: Which subscription of an id: ``active`` or ``pending``.
    :param on_termination_credit_note: What becomes of what is paid in advance; None for Lago's default.
    :param on_termination_invoice: Whether there is a last invoice; None for Lago's default.
    """

    status: str = "active"
    on_termination_credit_note: str | None = None
    on_termination_invoice: str | None = None

    noun: ClassVar[str] = "subscriptions"
    id_field: ClassVar[str] = "external_id"
    kinds: ClassVar[tuple[str, ...]] = ("terminated", "canceled")
    known: ClassVar[Collection[str] | None] = frozenset({"external_id", *OPTIONS})
    what: ClassVar[str] = "the end of a subscription"

    @property
    def goes_to(self) -> str:
        """Verb and URL, for the log."""
        return f"DELETE {self.settings.api_url}/subscriptions/..."

    def job(self, row: Row, record: Mapping[str, Any], payload: dict[str, Any]) -> Job:
        """Return how a subscription ends."""
        given = {name: value for name, value in payload.items() if value is not None}
        check_known(given, self.known or ())
        external_id = check_id(given, "external_id")
        if "." in external_id:
            raise InvalidRecord(
                "external_id: holds a dot",
                f"releases of Lago up to 1.51 would cut it at the dot and end subscription "
                f"{external_id.partition('.')[0]!r} instead: end it in Lago's web interface",
            )
        options = {name: as_choice(given[name], name, OPTIONS[name]) for name in OPTIONS if name in given}
        query = {name: options.get(name, getattr(self, name)) for name in OPTIONS}
        status = query["status"]
        # Twice does no harm: the second one finds nothing, and what it finds then tells.
        call = build_call(
            "DELETE",
            path("subscriptions", external_id),
            params={**query, "status": status if status == "pending" else None},
            idempotent=True,
            expects="subscription",
        )
        termination = Termination(external_id, status, call)
        return Job([Entry(row, external_id, None)], call, termination.talk, order=external_id)


class Termination:
    """
    Ends one subscription.

    :param external_id: Its id.
    :param status: Which one of that id.
    :param call: What ends it.
    """

    def __init__(self, external_id: str, status: str, call: Call) -> None:
        self._external_id = external_id
        self._status = status
        self._call = call
        self._begun: datetime | None = None  # also if the conversation begins anew

    def talk(self) -> Conversation:
        """End it; where there is none, find out whether it has ended before."""
        again, ended = self._begun is not None, _ENDED[self._status]
        self._begun = self._begun or datetime.now(UTC)
        reply = yield self._call
        if reply.succeeded:
            return _ended(Outcome.ACCEPTED, reply.part("subscription"), ended)
        if reply.status == 404 and reply.refusal.code == "resource_not_found":
            return rejected(reply, "a proxy on the way decodes the slash in the id, so that Lago sees another path")
        if reply.status != 404 and not reply.unknown:
            return rejected(reply, "refused by Lago; the subscription is as it was")
        if reply.unknown:
            held = yield from find("subscription", self._external_id, status=self._status)
            if held is not None:
                return held if isinstance(held, Settled) else rejected(reply, "the subscription is as it was")
        held = yield from find("subscription", self._external_id, status=ended)
        if isinstance(held, Settled):
            return held
        if held is not None:
            # An answer that was lost is told apart from an ending by somebody else, or long ago.
            mine = (reply.repeated or reply.unknown or again) and self._is_recent(held)
            return _ended(Outcome.ACCEPTED if mine else Outcome.SKIPPED, held, ended)
        other = "pending" if self._status == "active" else "active"
        held = yield from find("subscription", self._external_id, status=other)
        hint = f"; there is one that is {other}: set status={other!r} where that is meant"
        shown = hint if held is not None and not isinstance(held, Settled) else ""
        return rejected(reply, f"there is no {self._status} subscription of that id, and none has ended{shown}")

    def _is_recent(self, held: Held) -> bool:
        """Tell whether a subscription ended after this was begun, as far as the two clocks agree."""
        at = held.get("terminated_at") or held.get("canceled_at")
        try:
            moment = datetime.fromisoformat(at) if isinstance(at, str) else None
            return moment is None or self._begun is None or moment >= self._begun - _CLOCKS_DIFFER
        except (ValueError, TypeError):
            return True


def _ended(outcome: Outcome, held: Held, kind: str) -> Settled:
    reason = f"already {kind}" if outcome is Outcome.SKIPPED else ""
    return Settled(outcome, kind, reason=reason, lago_id=held.get("lago_id"), facts={"status": held.get("status")})
