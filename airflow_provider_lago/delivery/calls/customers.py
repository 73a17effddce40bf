"""Creating and changing customers."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.customers import (
    CUSTOMER_FIELDS,
    Clearing,
    Customer,
    changes,
    check_customer,
    metadata_changes,
    metadata_list,
)
from airflow_provider_lago.api.records import InvalidRecord, encode
from airflow_provider_lago.delivery.calls.conversation import Conversation, Job, Lost, Reply, rejected
from airflow_provider_lago.delivery.calls.lookups import Held, find
from airflow_provider_lago.delivery.calls.plan import CallPlan
from airflow_provider_lago.delivery.ledger import Entry
from airflow_provider_lago.delivery.outcomes import Outcome, Settled
from airflow_provider_lago.sources.rows import Row

#: Refusals that another request at the same time brings about, and that pass with another look: the key of the
#: error's details -> the code in it.
_RACES = ({"external_id": ["value_already_exist"]}, {"key": ["value_already_exist"]})

#: What a refusal names when Lago had saved the customer before: it sets these after that.
_SET_LAST = frozenset(
    {
        "base",
        "payment_provider",
        "payment_provider_code",
        "provider_customer_id",
        "document_locale",
        "invoice_grace_period",
    }
)

#: Posts of one customer, the first one included, before what comes in between is no accident any more.
_MOST_POSTS = 3


@dataclass(frozen=True, kw_only=True)
class CustomerPlan(CallPlan):
    """
    What customers are to be in Lago; see :class:`~airflow_provider_lago.delivery.calls.plan.CallPlan` for the rest.

    :param clearing: What clears a field.
    :param replace_metadata: Whether metadata that a record does not name is deleted.
    :param skip_unchanged: Whether a customer that Lago holds as it is to be is not sent.
    """

    clearing: Clearing = field(default_factory=Clearing)
    replace_metadata: bool = False
    skip_unchanged: bool = False

    noun: ClassVar[str] = "customers"
    id_field: ClassVar[str] = "external_id"
    kinds: ClassVar[tuple[str, ...]] = ("created", "updated")
    known: ClassVar[Collection[str] | None] = CUSTOMER_FIELDS
    what: ClassVar[str] = "a customer"

    @property
    def goes_to(self) -> str:
        """Verb and URL, for the log."""
        return f"POST {self.settings.api_url}/customers"

    def job(self, row: Row, record: Mapping[str, Any], payload: dict[str, Any]) -> Job:
        """Return how a customer gets into Lago."""
        customer = check_customer(payload, self.clearing)
        upsert = Upsert(customer, replace_metadata=self.replace_metadata, skip_unchanged=self.skip_unchanged)
        call = upsert.post(None)
        return Job([Entry(row, customer.external_id, call.body)], call, upsert.talk, order=customer.external_id)


class Upsert:
    """
    Brings one customer into Lago.

    :param customer: The customer.
    :param replace_metadata: Whether metadata that it does not name is deleted.
    :param skip_unchanged: Whether nothing is sent where nothing would change.
    """

    def __init__(self, customer: Customer, *, replace_metadata: bool, skip_unchanged: bool) -> None:
        self._customer = customer
        self._replace = replace_metadata
        self._skip_unchanged = skip_unchanged
        self._was_there: bool | None = None  # at the first look, also if the conversation begins anew

    def post(self, held: Held | None) -> Call:
        """
        Return the call that creates the customer, or changes the one that Lago holds.

        :raises InvalidRecord: if there would be too much metadata.
        """
        payload, metadata = dict(self._customer.payload), self._customer.metadata
        if metadata is not None and (held is None or metadata_changes(metadata, held, replace=self._replace)):
            rows = held.get("metadata") or [] if held else []
            payload["metadata"] = metadata_list(metadata, rows, replace=self._replace)
        body = encode({"customer": payload})
        # Lago calls the payment provider each time it is asked to, so that post is not repeated unseen.
        return Call("POST", "customers", body=body, repeatable=not self._customer.syncs)

    def talk(self) -> Conversation:
        """Look up, post, and find out what became of it."""
        for _ in range(_MOST_POSTS):
            held = yield from find("customer", self._customer.external_id)
            if isinstance(held, Settled):
                return held
            if self._was_there is None:
                self._was_there = held is not None
                if held is not None and self._skip_unchanged and not self._changes(held):
                    return Settled(Outcome.SKIPPED, "unchanged", reason="unchanged", lago_id=held.get("lago_id"))
            try:
                call = self.post(held)
            except InvalidRecord as error:
                return Settled(Outcome.REJECTED, reason=error.reason, detail=error.detail)
            reply = yield call
            if reply.succeeded:
                return self._accepted(reply.part("customer"))
            if reply.unknown:
                # 500 again and again while others are fine is about this customer; else what came of it shows.
                return (yield from self._after_silence(reply))
            if not _is_race(reply):
                return (yield from self._after_refusal(reply))
        return rejected(reply, "others change this customer at the same time, again and again")

    def _changes(self, held: Held) -> list[str]:
        return changes(self._customer, held, replace_metadata=self._replace)

    def _accepted(self, customer: Mapping[str, Any], detail: str = "") -> Settled:
        kind = "updated" if self._was_there else "created"
        return Settled(Outcome.ACCEPTED, kind, detail=detail, lago_id=customer.get("lago_id"))

    def _after_silence(self, reply: Reply) -> Generator[Call, Reply, Settled | Lost]:
        held = yield from find("customer", self._customer.external_id)
        if isinstance(held, Settled):
            return held
        if held is not None and not self._changes(held):
            return self._accepted(held)
        if self._customer.syncs and reply.status != 500:
            return Lost(f"POST customers: {reply.refusal.reason}")
        return rejected(reply, "refused by Lago, or on the way to it")

    def _after_refusal(self, reply: Reply) -> Generator[Call, Reply, Settled]:
        """Tell a refusal from one that came after Lago had saved the customer: it calls payment providers then."""
        if reply.status == 422 and reply.refusal.code == "validation_errors" and not _names_provider(reply):
            return rejected(reply, "refused by Lago; the customer is as it was")
        held = yield from find("customer", self._customer.external_id)
        saved = held is not None and not isinstance(held, Settled) and (not self._was_there or not self._changes(held))
        if not saved or held is None or isinstance(held, Settled):
            return rejected(reply, "refused by Lago")
        refusal = reply.refusal
        return Settled(
            Outcome.REJECTED,
            reason=f"saved, but {refusal.reason}",
            detail=f"the customer itself was {'updated' if self._was_there else 'created'}; what comes after, such as "
            "its payment provider, was refused: mend it and deliver the record again",
            code=refusal.code,
            lago_id=held.get("lago_id"),
            facts={"saved": True},
        )


def _details(reply: Reply) -> Any:
    body = reply.json()
    return body.get("error_details") if isinstance(body, dict) else None


def _is_race(reply: Reply) -> bool:
    return reply.status == 422 and _details(reply) in _RACES


def _names_provider(reply: Reply) -> bool:
    """Tell whether a refusal is about the payment provider, the locale or the grace period, which Lago sets last."""
    details = _details(reply)
    return isinstance(details, dict) and not _SET_LAST.isdisjoint(details)
