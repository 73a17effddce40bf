"""
What a subscription must be before it is created, and how it compares with the one that Lago holds. Pure.

``POST /subscriptions`` with an id that is taken is no error: with the same plan Lago answers the subscription that is
there, whatever else the request says; with another plan it changes the plan and bills. So nothing is posted before it
is known what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from airflow_provider_lago.api.objects import (
    as_choice,
    as_flag,
    as_object,
    as_objects,
    as_text,
    check_id,
    check_known,
    refuse_unsendable_parts,
)
from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.api.timestamps import InvalidTime, to_iso

_IDS = ("external_customer_id", "plan_code", "external_id")
_TIMES = ("subscription_at", "ending_at")


def _part(*known: str) -> Callable[[Any, str], dict[str, Any]]:
    def read(value: Any, name: str) -> dict[str, Any]:
        part = as_object(value, name)
        check_known(part, known, f"{name}.")
        return part

    return read


# A misspelt override is dropped by Lago in silence, and the customer billed at the plan's own price.
_overrides = _part(
    "amount_cents",
    "amount_currency",
    "description",
    "name",
    "invoice_display_name",
    "trial_period",
    "tax_codes",
    "minimum_commitment",
    "charges",
    "fixed_charges",
    "usage_thresholds",
)

_FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "name": as_text,
    "billing_time": lambda value, name: as_choice(value, name, ("calendar", "anniversary")),
    "billing_entity_code": as_text,
    "billing_entity_id": as_text,
    "progressive_billing_disabled": as_flag,
    "consolidate_invoice": as_flag,
    "purchase_order_number": as_text,
    "invoice_custom_section": _part("skip_invoice_custom_sections", "invoice_custom_section_codes"),
    "activation_rules": as_objects,
    "payment_method": _part("payment_method_type", "payment_method_id"),
    "usage_thresholds": as_objects,
    "plan_overrides": _overrides,
    "authorization": _part("amount_cents", "amount_currency"),
}

#: Every field of a subscription; ``authorization`` stands beside it in the request.
SUBSCRIPTION_FIELDS = frozenset({*_IDS, *_TIMES, *_FIELDS})

#: States in which an id is taken.
LIVE = ("active", "pending", "incomplete")

#: The same, in the order in which a post meets them.
_MET = ("incomplete", "active", "pending")

#: Fields that Lago ignores where the subscription exists already, and that can be compared.
_COMPARED = ("name", "billing_time", "ending_at", "purchase_order_number", "consolidate_invoice")


@dataclass(frozen=True, slots=True)
class Subscription:
    """
    A subscription that may be created.

    :param external_id: What the user calls it.
    :param external_customer_id: The customer.
    :param plan_code: The plan.
    :param payload: The subscription as it is sent.
    :param authorization: What stands beside it in the request, or None.
    """

    external_id: str
    external_customer_id: str
    plan_code: str
    payload: Mapping[str, Any]
    authorization: Mapping[str, Any] | None = None

    @property
    def overrides_plan(self) -> bool:
        """Whether it has prices of its own: Lago takes each post of such a one for a change of plan, and bills it."""
        return bool(self.payload.get("plan_overrides"))

    @property
    def repeatable(self) -> bool:
        """Whether creating it twice does no harm; an authorization reserves money on a card each time."""
        return not self.overrides_plan and self.authorization is None


def check_subscription(payload: Mapping[str, Any], zone: tzinfo = UTC) -> Subscription:
    """
    Check a subscription and return it as it is sent. Nulls are as if they were not there.

    :param payload: The subscription, with Lago's field names.
    :param zone: Time zone of times that name none.
    :raises InvalidRecord: if Lago would refuse it, or drop a part of it.
    """
    given = {name: value for name, value in payload.items() if value is not None}
    check_known(given, SUBSCRIPTION_FIELDS)
    checked: dict[str, Any] = {name: check_id(given, name) for name in _IDS}
    for name, value in given.items():
        if name in _TIMES:
            checked[name] = _time(value, name, zone)
        elif name in _FIELDS:
            checked[name] = _FIELDS[name](value, name)
    start, end = (checked.get(name) for name in _TIMES)
    if start and end and end[:10] <= start[:10]:
        raise InvalidRecord("ending_at: not after subscription_at", f"{end} is not a day after {start}")
    refuse_unsendable_parts(checked)
    authorization = checked.pop("authorization", None)
    return Subscription(
        checked["external_id"], checked["external_customer_id"], checked["plan_code"], checked, authorization
    )


def _time(value: Any, name: str, zone: tzinfo) -> str:
    try:
        return to_iso(value, zone)
    except InvalidTime as error:
        raise InvalidRecord(f"{name}: not a time", str(error)) from None


def current(rows: Sequence[Mapping[str, Any]], external_customer_id: str) -> Mapping[str, Any] | None:
    """
    Return the one of several with the same id that a post would meet.

    A downgrade leaves two: the active one, and the pending one that follows it. Two customers may have pending ones of
    the same id; then it is the customer's own that counts.

    :param rows: Subscriptions as Lago answers them.
    :param external_customer_id: Whose subscription is to be created.
    """
    live = [row for row in rows if row.get("status") in _MET]
    own = [row for row in live if row.get("external_customer_id") == external_customer_id]
    return min(own or live, key=lambda row: _MET.index(row["status"]), default=None)


def ignored(subscription: Subscription, held: Mapping[str, Any]) -> list[str]:
    """
    Return the fields that differ from what Lago holds and that posting would not change.

    :param subscription: What the record says.
    :param held: What Lago holds.
    """
    return [
        name
        for name in _COMPARED
        if name in subscription.payload and not _same(subscription.payload[name], held.get(name))
    ]


def _same(wanted: Any, held: Any) -> bool:
    if wanted == held or (wanted == "" and held is None):
        return True
    try:
        return _instant(wanted) == _instant(held)
    except (TypeError, ValueError):
        return False


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
