"""Creating subscriptions, and changing their plans where that is asked for."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, ClassVar

from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.records import encode
from airflow_provider_lago.api.subscriptions import (
    LIVE,
    SUBSCRIPTION_FIELDS,
    Subscription,
    check_subscription,
    current,
    ignored,
)
from airflow_provider_lago.delivery.calls.conversation import Conversation, Job, Lost, Reply, rejected, throttled
from airflow_provider_lago.delivery.calls.lookups import Held, find, find_all, is_not_filtered
from airflow_provider_lago.delivery.calls.plan import CallPlan
from airflow_provider_lago.delivery.ledger import Entry
from airflow_provider_lago.delivery.outcomes import Outcome, Settled
from airflow_provider_lago.sources.rows import Row

KEEP = "keep"
CHANGE_PLAN = "change_plan"
FAIL = "fail"

#: Customers that are known to be there, of the latest ones that were looked up: they have many subscriptions.
_MOST_KNOWN = 10_000

#: Posts of one subscription, the first one included, while another one is made for the same new customer.
_MOST_POSTS = 3

#: What Lago says where an id is taken: that of the subscription, or of the customer that it makes along the way.
_TAKEN = {"external_id": ["value_already_exist"]}


class Memory:
    """
    What one delivery learns of Lago.

    It remembers which customers are there, as far as it reaches, and whether lists are filtered by an id.
    """

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self.filters_lists = True

    def __contains__(self, external_id: str) -> bool:
        return external_id in self._ids

    def add(self, external_id: str) -> None:
        """Remember a customer, and forget the oldest one where there are too many."""
        self._ids[external_id] = None
        if len(self._ids) > _MOST_KNOWN:
            del self._ids[next(iter(self._ids))]


@dataclass(frozen=True, kw_only=True)
class SubscriptionPlan(CallPlan):
    """
    What subscriptions are to be in Lago; see :class:`~airflow_provider_lago.delivery.calls.plan.CallPlan`.

    :param on_existing: What to do where the id is taken: ``keep``, ``change_plan`` or ``fail``.
    :param require_customer: Whether a customer that Lago does not hold rejects the record.
    :param zone: Time zone of times that name none.
    """

    on_existing: str = KEEP
    require_customer: bool = True
    zone: tzinfo = UTC
    _memory: Memory = field(default_factory=Memory)

    noun: ClassVar[str] = "subscriptions"
    id_field: ClassVar[str] = "external_id"
    kinds: ClassVar[tuple[str, ...]] = ("created", "unchanged", "upgraded", "downgraded", "changed")
    known: ClassVar[Collection[str] | None] = SUBSCRIPTION_FIELDS
    what: ClassVar[str] = "a subscription"

    @property
    def goes_to(self) -> str:
        """Verb and URL, for the log."""
        return f"POST {self.settings.api_url}/subscriptions"

    def job(self, row: Row, record: Mapping[str, Any], payload: dict[str, Any]) -> Job:
        """Return how a subscription gets into Lago."""
        subscription = check_subscription(payload, self.zone)
        creation = Creation(
            subscription, on_existing=self.on_existing, require_customer=self.require_customer, memory=self._memory
        )
        call = creation.post(None)
        entry = Entry(row, subscription.external_id, call.body)
        return Job([entry], call, creation.talk, order=subscription.external_id)


class Creation:
    """
    Brings one subscription into Lago.

    :param subscription: The subscription.
    :param on_existing: What to do where the id is taken.
    :param require_customer: Whether the customer must be there.
    :param memory: What the delivery learned of Lago.
    """

    def __init__(self, subscription: Subscription, *, on_existing: str, require_customer: bool, memory: Memory) -> None:
        self._wanted = subscription
        self._on_existing = on_existing
        self._requires_customer = require_customer
        self._memory = memory
        self._posted = False  # also if the conversation begins anew
        self._before: Held | None = None
        beside = {} if subscription.authorization is None else {"authorization": subscription.authorization}
        self._body = encode({"subscription": subscription.payload, **beside})

    def post(self, held: Held | None) -> Call:
        """
        Return the call that creates the subscription, or changes the plan of the one that Lago holds.

        Lago answers a post that comes twice with what the first one made. But one with prices of its own is a change of
        plan to it: it ends the subscription, bills it, and begins another. And a downgrade that comes twice cancels
        the one that waits and makes another.
        """
        repeatable = self._wanted.repeatable and held is None
        return Call("POST", "subscriptions", body=self._body, repeatable=repeatable, expects="subscription")

    def talk(self) -> Conversation:
        """Look up, decide, post, and find out what became of it."""
        for _ in range(_MOST_POSTS):
            held = yield from self._look_up()
            if isinstance(held, Settled):
                return held
            if self._posted and (settled := self._of_earlier_post(held)):
                return settled
            if held is None:
                missing = yield from self._miss_customer()
                if missing is not None:
                    return missing
            elif (settled := self._decide(held)) is not None:
                return settled
            self._before, self._posted = held, True
            reply = yield self.post(held)
            if reply.succeeded:
                return self._read(reply.part("subscription"))
            if reply.unknown:
                return (yield from self._after_silence(reply))
            if (reply.status != 429 or reply.repeated) and not (_is_taken(reply) and held is None):
                break
        if reply.status == 429:
            return throttled(reply, "POST subscriptions")
        if not reply.repeated:
            return rejected(reply, "refused by Lago; no subscription was created or changed")
        # An earlier try may have worked, and be what this one was refused for.
        held = yield from self._look_up()
        if isinstance(held, Settled):
            return held
        return self._of_earlier_post(held) or rejected(reply, "refused by Lago; it does not hold what was asked for")

    def _look_up(self) -> Generator[Call, Reply, Held | Settled | None]:
        wanted = self._wanted.external_id
        if self._memory.filters_lists or "." in wanted:
            rows = yield from find_all("subscription", wanted, status=list(LIVE))
            if not isinstance(rows, Settled):
                return current(rows, self._wanted.external_customer_id)
            if "." in wanted or not is_not_filtered(rows):
                return rows
            self._memory.filters_lists = False
        found: list[Held] = []
        for status in LIVE:
            held = yield from find("subscription", wanted, status=status)
            if isinstance(held, Settled):
                return held
            if held is not None:
                found.append(held)
        return current(found, self._wanted.external_customer_id)

    def _miss_customer(self) -> Generator[Call, Reply, Settled | None]:
        """Reject a record whose customer is not there: Lago would make a bare one out of a typo."""
        customer = self._wanted.external_customer_id
        if not self._requires_customer or customer in self._memory:
            return None
        held = yield from find("customer", customer)
        if isinstance(held, Settled):
            return held
        if held is None:
            return Settled(
                Outcome.REJECTED,
                reason="external_customer_id: no such customer",
                detail=f"Lago does not hold customer {customer!r} and would make an empty one: create it first, or set "
                "require_customer=False",
                code="customer_not_found",
            )
        self._memory.add(customer)
        return None

    def _decide(self, held: Held) -> Settled | None:
        """Return the outcome where there is nothing to post; None where the plan is to be changed."""
        wanted, plan = self._wanted, held.get("plan_code")
        if held.get("external_customer_id") != wanted.external_customer_id:
            return self._refuse(
                held,
                "external_id: taken by another customer",
                f"it belongs to customer {held.get('external_customer_id')!r}, the record says "
                f"{wanted.external_customer_id!r}",
            )
        waits = "it waits for a payment" if held.get("status") == "incomplete" else ""
        if waits and wanted.plan_code != plan:
            return self._refuse(
                held, "subscription: incomplete", "it waits for a payment; Lago takes no other until then"
            )
        if self._on_existing == FAIL:
            return self._refuse(
                held, "subscription: exists", f"Lago holds it with plan {plan!r} and on_existing='fail'"
            )
        following = held.get("next_plan_code")
        if wanted.plan_code == (following or plan):
            return self._unchanged(held, waits)
        if wanted.plan_code == plan and self._on_existing == KEEP:
            return self._unchanged(held, f"plan {following!r} is to follow {plan!r}")
        if self._on_existing == KEEP:
            then = f" and {following!r} after it" if following else ""
            return self._refuse(
                held,
                "plan_code: differs",
                f"Lago holds plan {plan!r}{then}, the record says {wanted.plan_code!r}; changing it moves money: set "
                "on_existing='change_plan' where that is meant",
            )
        if wanted.plan_code == plan:
            return self._refuse(
                held,
                "plan_code: another one follows",
                f"plan {plan!r} is to be followed by {following!r}, which posting would not undo: first terminate the "
                "pending subscription (status='pending')",
            )
        if wanted.overrides_plan:
            return self._refuse(
                held,
                "plan_overrides: subscription exists",
                "Lago would end the subscription, bill it and begin another: change its prices with PUT subscriptions",
            )
        return None

    def _read(self, answered: Held) -> Settled:
        """Return the outcome of a post from what Lago answers."""
        before, wanted = self._before, self._wanted.plan_code
        if before is None or not answered:
            return self._accepted("created" if before is None else "changed", answered)
        if answered.get("next_plan_code") == wanted:
            return self._accepted("downgraded", answered)
        if answered.get("lago_id") != before.get("lago_id"):
            return self._accepted("upgraded", answered)
        if answered.get("plan_code") == wanted:
            return self._accepted("changed", answered)
        return self._refuse(
            answered, "plan_code: not changed", f"Lago answers 200 and keeps {before.get('plan_code')!r}"
        )

    def _after_silence(self, reply: Reply) -> Conversation:
        """Find out whether Lago did what it was asked for without saying so."""
        held = yield from self._look_up()
        if isinstance(held, Settled):
            return held
        settled = self._of_earlier_post(held)
        if settled is not None:
            return settled
        if reply.status == 500:
            return rejected(reply, "refused by Lago; no subscription was created or changed")
        return Lost(f"POST subscriptions: {reply.refusal.reason}")

    def _of_earlier_post(self, held: Held | None) -> Settled | None:
        """Return the outcome where what Lago holds now is what an earlier post asked for; None where it is not."""
        if held is None or held.get("external_customer_id") != self._wanted.external_customer_id:
            return None
        if self._wanted.plan_code not in {held.get("plan_code"), held.get("next_plan_code")}:
            return None
        return self._read(held)

    def _unchanged(self, held: Held, detail: str = "") -> Settled:
        differing = ", ".join(ignored(self._wanted, held))
        if differing:
            detail = f"Lago would not take over {differing} by a post: change it with PUT subscriptions"
        return self._accepted("unchanged", held, detail)

    def _accepted(self, kind: str, held: Held, detail: str = "") -> Settled:
        return Settled(Outcome.ACCEPTED, kind, detail=detail, lago_id=held.get("lago_id"), facts=_facts(held))

    def _refuse(self, held: Held, reason: str, detail: str) -> Settled:
        return Settled(Outcome.REJECTED, reason=reason, detail=detail, lago_id=held.get("lago_id"), facts=_facts(held))


def _facts(held: Held) -> dict[str, Any]:
    return {name: held.get(name) for name in ("status", "plan_code", "previous_plan_code", "next_plan_code")}


def _is_taken(reply: Reply) -> bool:
    body = reply.json()
    return reply.status == 422 and isinstance(body, dict) and body.get("error_details") == _TAKEN
