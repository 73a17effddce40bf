"""Creating and changing customers."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.customers import (
    CUSTOMER_FIELDS,
    PREMIUM,
    Clearing,
    Customer,
    changes,
    check_customer,
    dropped,
    may_differ,
    reaches_others,
    saved_at_once,
    to_send,
)
from airflow_provider_lago.api.records import InvalidRecord, encode
from airflow_provider_lago.delivery.calls.conversation import Conversation, Job, Lost, Reply, rejected, throttled
from airflow_provider_lago.delivery.calls.lookups import Held, find
from airflow_provider_lago.delivery.calls.plan import CallPlan
from airflow_provider_lago.delivery.ledger import Entry
from airflow_provider_lago.delivery.outcomes import Outcome, Settled
from airflow_provider_lago.sources.rows import Row

#: Refusals that another request at the same time brings about, and that pass with another look: the key of the
#: error's details -> the code in it.
_LOST_CREATION = {"external_id": ["value_already_exist"]}
_RACES = (_LOST_CREATION, {"key": ["value_already_exist"]})

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

    _unlicensed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """
        Check what is to be cleared, before a record is read.

        :raises ValueError: if Lago cannot clear it.
        """
        super().__post_init__()
        self.clearing.check(replace_metadata=self.replace_metadata)

    @property
    def goes_to(self) -> str:
        """Verb and URL, for the log."""
        return f"POST {self.settings.api_url}/customers"

    def job(self, row: Row, record: Mapping[str, Any], payload: dict[str, Any]) -> Job:
        """Return how a customer gets into Lago."""
        customer = check_customer(payload, self.clearing)
        upsert = Upsert(
            customer,
            replace_metadata=self.replace_metadata,
            skip_unchanged=self.skip_unchanged,
            unlicensed=self._unlicensed,
        )
        call = upsert.post(None)
        return Job([Entry(row, customer.external_id, call.body)], call, upsert.talk, order=customer.external_id)


class Upsert:
    """
    Brings one customer into Lago.

    :param customer: The customer.
    :param replace_metadata: Whether metadata that it does not name is deleted.
    :param skip_unchanged: Whether nothing is sent where nothing would change.
    :param unlicensed: Premium fields that an answer showed to be dropped; shared by all customers.
    """

    def __init__(
        self, customer: Customer, *, replace_metadata: bool, skip_unchanged: bool, unlicensed: set[str]
    ) -> None:
        self._customer = customer
        self._replace = replace_metadata
        self._skip_unchanged = skip_unchanged
        self._unlicensed = unlicensed
        # At the first look, also if the conversation begins anew:
        self._was_there: bool | None = None
        self._differed: list[str] = []
        self._may_be_saved = False  # by a post without an answer

    def post(self, held: Held | None) -> Call:
        """
        Return the call that creates the customer, or changes the one that Lago holds.

        :raises InvalidRecord: if there would be too much metadata.
        """
        payload = to_send(self._customer, held, replace_metadata=self._replace)
        # Lago calls the other system each time it is asked to, so that post is not repeated unseen.
        repeatable = not reaches_others(payload)
        return Call("POST", "customers", body=encode({"customer": payload}), repeatable=repeatable, expects="customer")

    def talk(self) -> Conversation:
        """Look up, post, and find out what became of it."""
        for posts in range(1, _MOST_POSTS + 1):
            held = yield from find("customer", self._customer.external_id)
            if isinstance(held, Settled):
                return held
            try:
                settled, call = self._look_at(held), self.post(held)
            except InvalidRecord as error:
                return Settled(Outcome.REJECTED, reason=error.reason, detail=error.detail)
            if settled is not None:
                return settled
            reply = yield call
            if reply.succeeded:
                return self._accepted(reply.part("customer"))
            if reply.unknown:
                # 500 again and again while others are fine is about this customer; else what came of it shows.
                self._may_be_saved = True
                silence = yield from self._after_silence(reply, call, is_last=posts == _MOST_POSTS)
                if silence is not None:
                    return silence
                continue
            if _details(reply) == _LOST_CREATION and not (reply.repeated or self._may_be_saved):
                self._was_there = True  # another one made it meanwhile
            if reply.status == 429 and reply.repeated:
                break
            if not _is_race(reply) and reply.status != 429:
                return (yield from self._after_refusal(reply))
        if reply.status == 429:
            return throttled(reply, "POST customers")
        return rejected(reply, "others change this customer at the same time, again and again")

    def _look_at(self, held: Held | None) -> Settled | None:
        """Remember what was there at first; return the outcome where nothing has to be sent."""
        if self._was_there is not None:
            return None
        self._was_there = held is not None
        self._differed = [] if held is None else self._changes(held)
        if held is None or not self._skip_unchanged or not set(self._differed) <= self._unlicensed:
            return None
        return Settled(Outcome.SKIPPED, "unchanged", reason="unchanged", lago_id=held.get("lago_id"))

    def _changes(self, held: Held) -> list[str]:
        return changes(self._customer, held, replace_metadata=self._replace)

    def _accepted(self, customer: Held, *, answered: bool = True) -> Settled:
        kind = "updated" if self._was_there else "created"
        # A premium field without a licence, or what only a customer without subscriptions may change.
        lost = dropped(self._changes(customer)) if self._customer.may_be_dropped else []
        first = [name for name in lost if name not in self._unlicensed]
        if answered:  # what Lago holds without having answered may never have been asked to change
            self._unlicensed.update(PREMIUM.intersection(lost))
        detail = f"Lago did not take over {', '.join(first)} (no premium licence, or not for this customer)"
        facts = {"not_taken": lost} if lost else {}
        return Settled(
            Outcome.ACCEPTED, kind, detail=detail if first else "", lago_id=customer.get("lago_id"), facts=facts
        )

    def _after_silence(
        self, reply: Reply, call: Call, *, is_last: bool
    ) -> Generator[Call, Reply, Settled | Lost | None]:
        """Find out what came of a post; None where another one does no harm after this look."""
        held = yield from find("customer", self._customer.external_id)
        if isinstance(held, Settled):
            return held
        if held is not None and self._shows_the_post(held):
            return self._accepted(held, answered=False)
        if not call.repeatable:
            if reply.status != 500:
                return Lost(f"POST customers: {reply.refusal.reason}")
            billing = self._customer.payload.get("billing_configuration") or {}
            if not (is_last or reaches_others({"billing_configuration": billing})):
                return None  # links get their ids by the look, so that one 500 weighs no more than for others
        if held is not None and self._is_saved(held):
            return self._saved_but(reply, held)
        return rejected(reply, "refused by Lago, or on the way to it")

    def _after_refusal(self, reply: Reply) -> Generator[Call, Reply, Settled]:
        """Tell a refusal from one that came after Lago had saved the customer: it calls payment providers then."""
        named = _names_provider(reply)
        if reply.status == 422 and reply.refusal.code == "validation_errors" and not named:
            return rejected(reply, "refused by Lago; the customer is as it was")
        held = yield from find("customer", self._customer.external_id)
        if held is None or isinstance(held, Settled):
            return rejected(reply, "refused by Lago")
        return self._saved_but(reply, held) if self._is_saved(held) else rejected(reply, "refused by Lago")

    def _shows_the_post(self, held: Held) -> bool:
        """Tell whether Lago holds what the post asked for, but for fields of which it is known that it drops them."""
        differing = self._changes(held)
        if set(differing) <= self._unlicensed:
            return True
        return may_differ(differing) == differing and self._is_saved(held)

    def _is_saved(self, held: Held) -> bool:
        """Tell whether Lago took over what it saves first, of a customer that it holds."""
        return not self._was_there or (bool(saved_at_once(self._differed)) and not saved_at_once(self._changes(held)))

    def _saved_but(self, reply: Reply, held: Held) -> Settled:
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
