"""
What a customer must be before it is sent, and how it differs from the one that Lago holds. Pure.

``POST /customers`` creates or changes by ``external_id``: a key that is missing stays as it is, a null clears. Lago
drops what it does not know, and parts that are of another type, without a word; that is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from airflow_provider_lago.api.objects import (
    as_choice,
    as_flag,
    as_object,
    as_objects,
    as_text,
    as_texts,
    as_whole,
    check_id,
    check_known,
    put,
    refuse_unsendable_parts,
)
from airflow_provider_lago.api.records import InvalidRecord, refuse_unsendable

#: Lago's limits of a customer's metadata.
MOST_METADATA = 5
LONGEST_KEY = 20
LONGEST_VALUE = 100

_Read = Callable[[Any, str], Any]


def _choice(*choices: str) -> _Read:
    return lambda value, name: as_choice(value, name, choices)


def _country(value: Any, name: str) -> str:
    text = as_text(value, name).upper()
    if len(text) != 2:
        raise InvalidRecord(f"{name}: not a country code", f"{text[:40]!r} is no ISO 3166 code of two letters")
    return text


def _long(value: Any, name: str) -> str:
    return as_text(value, name, None)


_LINK = frozenset(
    {
        "id",
        "code",
        "external_customer_id",
        "integration_type",
        "integration_code",
        "subsidiary_id",
        "sync_with_provider",
        "targeted_object",
    }
)


def _links(value: Any, name: str) -> list[dict[str, Any]]:
    links = as_objects(value, name)
    for link in links:
        check_known(link, _LINK, f"{name}[].")
    return links


_ADDRESS: dict[str, _Read] = {
    "address_line1": as_text,
    "address_line2": as_text,
    "city": as_text,
    "zipcode": as_text,
    "state": as_text,
    "country": _country,
}

_BILLING: dict[str, _Read] = {
    "invoice_grace_period": as_whole,
    "subscription_invoice_issuing_date_anchor": _choice("current_period_end", "next_period_start"),
    "subscription_invoice_issuing_date_adjustment": _choice("keep_anchor", "align_with_finalization_date"),
    "payment_provider": _choice("stripe", "gocardless", "cashfree", "adyen", "flutterwave", "moneyhash"),
    "payment_provider_code": as_text,
    "provider_customer_id": as_text,
    "sync": as_flag,
    "sync_with_provider": as_flag,
    "document_locale": as_text,
    "provider_payment_methods": as_texts,
}

_FIELDS: dict[str, _Read] = {
    **_ADDRESS,
    "account_type": _choice("customer", "partner"),
    "name": as_text,
    "firstname": as_text,
    "lastname": as_text,
    "customer_type": _choice("company", "individual"),
    "email": _long,
    "url": _long,
    "phone": as_text,
    "logo_url": _long,
    "legal_name": as_text,
    "legal_number": as_text,
    "tax_identification_number": as_text,
    "currency": as_text,
    "timezone": as_text,
    "net_payment_term": as_whole,
    "external_salesforce_id": as_text,
    "finalize_zero_amount_invoice": _choice("inherit", "skip", "finalize"),
    "skip_invoice_custom_sections": as_flag,
    "billing_entity_code": as_text,
    "tax_codes": as_texts,
    "invoice_custom_section_codes": as_texts,
    "integration_customers": _links,
}

_PARTS: dict[str, dict[str, _Read]] = {"billing_configuration": _BILLING, "shipping_address": _ADDRESS}

#: Every field of a customer.
CUSTOMER_FIELDS = frozenset({"external_id", "metadata", *_FIELDS, *_PARTS})

_PROVIDER = "billing_configuration.payment_provider"

#: Lists that a null does not empty, as it may stand for "nothing known".
_LISTS = frozenset({"integration_customers", "tax_codes", "invoice_custom_section_codes"})

#: Fields in which a null is refused, and what to write instead.
_NEVER_NULL = {
    "shipping_address": "Lago ignores it; name the parts to clear, such as shipping_address.city",
    "billing_configuration": "Lago ignores it; name the parts to clear, such as billing_configuration.document_locale",
    **dict.fromkeys(_LISTS, "write [] to remove all, or leave nulls out with nulls='keep'"),
}

#: What Lago has where nothing was given, so that a null means the same.
_DEFAULTS = {
    "finalize_zero_amount_invoice": "inherit",
    "skip_invoice_custom_sections": False,
    "account_type": "customer",
}

#: Fields that Lago drops in silence without a premium licence: what one answer shows of them holds for all customers.
PREMIUM = frozenset({"timezone", "billing_configuration.invoice_grace_period"})

#: Fields that Lago drops in silence for customers that have subscriptions, or without a licence.
_DROPPED = PREMIUM | {"account_type", "billing_entity_code"}

#: Parts that Lago sets after it has saved the rest, one of them in the background.
_AFTERWARDS = ("billing_configuration.", "integration_customers")

#: One piece of metadata: its value, and whether invoices show it; None for one that is to go.
Metadata = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Customer:
    """
    A customer that may be sent.

    :param external_id: What the user calls it.
    :param payload: All fields but the metadata.
    :param metadata: Metadata by key; None where the record says nothing of it.
    :param clears_metadata: Whether all of it is to go, whatever keys there are.
    """

    external_id: str
    payload: Mapping[str, Any]
    metadata: Metadata | None = None
    clears_metadata: bool = False

    @property
    def may_be_dropped(self) -> bool:
        """Whether it has fields that Lago may drop without a word."""
        billing = self.payload.get("billing_configuration") or {}
        return not _DROPPED.isdisjoint(self.payload) or "invoice_grace_period" in billing


@dataclass(frozen=True, slots=True)
class Clearing:
    """
    What clears a field.

    :param nulls: Whether a null in a record does; else it is as if it were not there.
    :param fields: Fields (dotted for nested ones) that are cleared where the record has no value for them.
    """

    nulls: bool = True
    fields: Collection[str] = field(default_factory=tuple)

    def check(self, *, replace_metadata: bool) -> None:
        """
        Check that Lago can clear the fields.

        :param replace_metadata: Whether metadata that a record does not name goes anyway.
        :raises ValueError: naming one that it cannot.
        """
        for path in self.fields:
            name, dot, part = path.partition(".") if isinstance(path, str) else ("", "", "")
            known = part in _PARTS[name] if name in _PARTS and dot else name in CUSTOMER_FIELDS
            if not known or (dot and name not in _PARTS and name != "metadata"):
                raise ValueError(f"clear: {path!r} is no field of a customer")
            if name == "external_id":
                raise ValueError("clear: external_id is what a customer is known by, it cannot be cleared")
            if name in _PARTS and not dot:
                raise ValueError(f"clear: {path!r} cannot be cleared as a whole: {_NEVER_NULL[name]}")
            if name == "metadata" and dot and replace_metadata:
                raise ValueError(
                    f"clear: {path!r} means nothing with metadata_mode='replace', where all that a record does not "
                    "name goes"
                )


def reaches_others(payload: Mapping[str, Any]) -> bool:
    """
    Tell whether a post makes Lago call another system, which it does each time it is asked.

    That is a payment provider, or one that a link leads to: a link without its id is destroyed and made anew.

    :param payload: The customer as it is sent.
    """
    billing = payload.get("billing_configuration") or {}
    links = payload.get("integration_customers") or ()
    return bool(
        billing.get("sync")
        or billing.get("sync_with_provider")
        or any(link.get("sync_with_provider") or not link.get("id") for link in links)
    )


def check_customer(payload: Mapping[str, Any], clearing: Clearing) -> Customer:
    """
    Check a customer and return it as it is sent.

    :param payload: The customer, with Lago's field names.
    :param clearing: What clears a field.
    :raises InvalidRecord: if Lago would refuse it, drop a part of it, or lose a payment method over a null.
    """
    given = dict(payload) if clearing.nulls else without_nulls(payload)
    gone = [path.removeprefix("metadata.") for path in clearing.fields if path.startswith("metadata.")]
    for path in clearing.fields:
        if not path.startswith("metadata."):  # a key may have dots of its own
            put(given, path, [] if path in _LISTS else None)
    check_known(given, CUSTOMER_FIELDS)
    external_id = check_id(given, "external_id")
    checked: dict[str, Any] = {"external_id": external_id}
    for name, value in given.items():
        if value is None and name in _NEVER_NULL:
            raise InvalidRecord(f"{name}: null", _NEVER_NULL[name])
        if name in _FIELDS:
            checked[name] = None if value is None else _FIELDS[name](value, name)
        elif name in _PARTS:
            checked[name] = _check_part(name, as_object(value, name), clearing)
    if checked.get("invoice_custom_section_codes") and checked.get("skip_invoice_custom_sections"):
        raise InvalidRecord(
            "invoice_custom_sections: contradiction",
            "invoice_custom_section_codes and skip_invoice_custom_sections exclude each other",
        )
    refuse_unsendable_parts(checked)
    metadata = None
    if gone or "metadata" in given:
        metadata = {**read_metadata(dict.fromkeys(gone)), **read_metadata(given.get("metadata"))}
    return Customer(external_id, checked, metadata, clears_metadata="metadata" in given and given["metadata"] is None)


def _check_part(name: str, part: Mapping[str, Any], clearing: Clearing) -> dict[str, Any]:
    check_known(part, _PARTS[name], f"{name}.")
    checked: dict[str, Any] = {}
    for key, value in part.items():
        path = f"{name}.{key}"
        if value is None and path == _PROVIDER and path not in clearing.fields:
            raise InvalidRecord(
                f"{_PROVIDER}: null",
                "it would unlink the provider's customer and discard its payment methods; name it in clear=[...] where "
                "that is meant, or leave nulls out with nulls='keep'",
            )
        checked[key] = None if value is None else _PARTS[name][key](value, path)
    return checked


def without_nulls(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a payload without the nulls in it, in its parts and in its metadata."""
    kept: dict[str, Any] = {}
    for name, value in payload.items():
        if isinstance(value, Mapping) and name in {*_PARTS, "metadata"}:
            kept[name] = {key: part for key, part in value.items() if part is not None}
        elif name == "metadata" and isinstance(value, (list, tuple)):
            kept[name] = [item for item in value if not isinstance(item, Mapping) or item.get("value") is not None]
        elif value is not None:
            kept[name] = value
    return kept


def read_metadata(given: Any) -> Metadata:
    """
    Return metadata by key, from a dict key -> value or from Lago's own list.

    :param given: ``{"tier": "gold", "old": None}`` (None: is to go), or ``[{"key": ..., "value": ...,
        "display_in_invoice": ...}]``; None for none at all.
    :raises InvalidRecord: if a key or value is beyond Lago's limits.
    """
    pairs = _pairs(given)
    found: dict[str, Mapping[str, Any] | None] = {}
    for key, value, shown in pairs:
        name = as_text(key, "metadata: key", None).strip()
        if not name or len(name) > LONGEST_KEY:
            raise InvalidRecord("metadata: key too long" if name else "metadata: empty key", _limit(name, LONGEST_KEY))
        if name in found:
            raise InvalidRecord("metadata: key twice", f"{name!r} is there twice")
        if value is None:
            found[name] = None
            continue
        text = _metadata_text(value, f"metadata.{name}")
        if not text.strip() or len(text) > LONGEST_VALUE:
            what = "metadata: value too long" if text.strip() else "metadata: empty value"
            raise InvalidRecord(what, f"{name!r}: {_limit(text, LONGEST_VALUE)}")
        found[name] = {"value": text, **({} if shown is None else {"display_in_invoice": as_flag(shown, "metadata")})}
    kept = [key for key, value in found.items() if value is not None]
    if len(kept) > MOST_METADATA:
        raise _too_many(kept)
    return found


def _metadata_text(value: Any, name: str) -> str:
    """Return a plain value as the text that Lago keeps."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, (float, Decimal)) and math.isfinite(value):
        text = f"{value:f}" if isinstance(value, Decimal) and abs(value.adjusted()) <= LONGEST_VALUE else str(value)
    elif isinstance(value, date):
        text = value.isoformat()
    else:
        text = as_text(value, name, None)
    refuse_unsendable(text, name)
    return text


def _pairs(given: Any) -> Iterable[tuple[Any, Any, Any]]:
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return ((key, value, None) for key, value in given.items())
    items = as_objects(given, "metadata")
    for item in items:
        check_known(item, ("id", "key", "value", "display_in_invoice", "lago_id", "created_at"), "metadata.")
    return ((item.get("key"), item.get("value"), item.get("display_in_invoice")) for item in items)


def _limit(text: str, longest: int) -> str:
    return f"{len(text)} characters; Lago takes 1 to {longest}"


def _too_many(keys: Sequence[str]) -> InvalidRecord:
    return InvalidRecord(
        "metadata: more than 5", f"Lago holds {MOST_METADATA} for a customer, these are {len(keys)}: {', '.join(keys)}"
    )


def metadata_list(given: Metadata, held: Sequence[Mapping[str, Any]], *, replace: bool) -> list[dict[str, Any]]:
    """
    Return metadata as Lago takes it: the whole set, with the ids of the keys that it holds already.

    Lago matches by id and not by key, and creates before it deletes: a key that it holds, sent without its id, is
    refused, and what is not in the list is deleted.

    :param given: What the record says.
    :param held: What Lago holds.
    :param replace: Whether keys that the record does not name are to go.
    :raises InvalidRecord: if there would be more than Lago holds.
    """
    items: list[dict[str, Any]] = []
    for row in held:
        key = row.get("key")
        mine = given.get(str(key))
        if mine is None and (replace or key in given):
            continue
        kept = {"id": row.get("lago_id"), "key": key, "value": row.get("value")}
        items.append({**kept, "display_in_invoice": row.get("display_in_invoice", False), **(mine or {})})
    known = {row.get("key") for row in held}
    items += [{"key": key, **mine} for key, mine in given.items() if mine is not None and key not in known]
    if len(items) > MOST_METADATA:
        raise _too_many([str(item["key"]) for item in items])
    return items


def to_send(customer: Customer, held: Mapping[str, Any] | None, *, replace_metadata: bool) -> dict[str, Any]:
    """
    Return the payload of a request, with the ids of what Lago holds already.

    :param customer: The customer.
    :param held: The customer as Lago answers it; None if it holds none.
    :param replace_metadata: As for :func:`metadata_list`.
    :raises InvalidRecord: if there would be more metadata than Lago holds.
    """
    payload = dict(customer.payload)
    if held is not None and payload.get("integration_customers"):
        # Lago destroys each link whose id is not there, and makes another one.
        rows = _rows(held, "integration_customers")
        payload["integration_customers"] = [_with_id(link, rows) for link in payload["integration_customers"]]
    metadata = customer.metadata
    if metadata is not None and (held is None or metadata_changes(customer, held, replace=replace_metadata)):
        rows = _rows(held, "metadata") if held else []
        payload["metadata"] = metadata_list(metadata, rows, replace=replace_metadata or customer.clears_metadata)
    return payload


def changes(customer: Customer, held: Mapping[str, Any], *, replace_metadata: bool) -> list[str]:
    """
    Return the fields in which a customer differs from what Lago holds, dotted where they are nested.

    What cannot be compared counts as different.

    :param customer: The customer to be sent.
    :param held: The customer as Lago answers it.
    :param replace_metadata: As for :func:`metadata_list`.
    :raises InvalidRecord: if there would be more metadata than Lago holds.
    """
    names: list[str] = []
    for name, value in customer.payload.items():
        if name in _PARTS:
            part = held.get(name)
            names += [
                f"{name}.{key}"
                for key, wanted in value.items()
                if not isinstance(part, Mapping) or _part_differs(key, wanted, part)
            ]
        elif _HELD_UNDER.get(name, name) not in held or _differs(name, value, held):
            names.append(name)
    if customer.metadata is not None and (
        "metadata" not in held or metadata_changes(customer, held, replace=replace_metadata)
    ):
        names.append("metadata")
    return names


def saved_at_once(names: Iterable[str]) -> list[str]:
    """Return those of several fields that Lago saves first, and for certain: what shows that it took a request."""
    uncertain = {*_DROPPED, "invoice_custom_section_codes"}
    return [name for name in names if not name.startswith(_AFTERWARDS) and name not in uncertain]


def may_differ(names: Iterable[str]) -> list[str]:
    """Return those of several fields that may differ although Lago took them: dropped, or not shown."""
    return [name for name in names if name in {*_DROPPED, "invoice_custom_section_codes"}]


def dropped(names: Iterable[str]) -> list[str]:
    """Return those of several fields that Lago may have dropped without a word."""
    return [name for name in names if name in _DROPPED]


def metadata_changes(customer: Customer, held: Mapping[str, Any], *, replace: bool) -> bool:
    """
    Tell whether sending metadata would change what Lago holds.

    :raises InvalidRecord: if there would be more of it than Lago holds.
    """
    rows = _rows(held, "metadata")
    before = [
        {"id": row.get("lago_id"), **{name: row.get(name) for name in ("key", "value", "display_in_invoice")}}
        for row in rows
    ]
    return metadata_list(customer.metadata or {}, rows, replace=replace or customer.clears_metadata) != before


def _rows(held: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = held.get(name)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _differs(name: str, value: Any, held: Mapping[str, Any]) -> bool:
    if name == "tax_codes":
        return set(value or ()) != _codes(held, "taxes")
    if name == "invoice_custom_section_codes":
        return True  # Lago shows those that apply, be they the customer's own or inherited
    if name == "integration_customers":
        return not _are_linked(value or (), _rows(held, "integration_customers"))
    if name == "billing_entity_code" and value is None:
        return False  # each customer has one
    return not _same(_DEFAULTS.get(name) if value is None else value, held.get(name))


def _part_differs(key: str, wanted: Any, part: Mapping[str, Any]) -> bool:
    if key in {"sync", "sync_with_provider"}:
        # They ask for a customer at the provider: there is nothing left to do once there is one. Lago keeps the latter.
        kept = part.get(key) if key == "sync_with_provider" else None
        return (kept is not None and kept != wanted) or (bool(wanted) and not part.get("provider_customer_id"))
    if isinstance(wanted, list):
        return set(wanted) != set(map(str, part.get(key) or ()))
    return not _same(wanted, part.get(key))


def _same(wanted: Any, held: Any) -> bool:
    if wanted is None or wanted == "":
        return held is None or held == ""
    return type(wanted) is type(held) and bool(wanted == held)


def _codes(held: Mapping[str, Any], name: str) -> set[Any]:
    return {row.get("code") for row in _rows(held, name)}


def _are_linked(wanted: Sequence[Mapping[str, Any]], held: Sequence[Mapping[str, Any]]) -> bool:
    rows = list(held)
    for link in wanted:
        # One that names no system meets none, and two that name the same one are for Lago to refuse.
        named = link.get("integration_type") or link.get("id")
        found = next((row for row in rows if named and _is_linked(link, row)), None)
        if found is None:
            return False
        rows.remove(found)
    return not rows


def _is_linked(link: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return all(row.get(_HELD_AS.get(key, key)) == value for key, value in link.items())


def _with_id(link: Mapping[str, Any], held: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return a link with the id of the one that Lago holds to the same system."""
    same = {key: link[key] for key in ("integration_type", "integration_code") if key in link}
    found = next((row for row in held if same and _is_linked(same, row)), None)
    return link if found is None or link.get("id") else {**link, "id": found.get("lago_id")}


#: Names of a link in a request -> in an answer.
_HELD_AS = {"id": "lago_id", "integration_type": "type"}

#: Fields of a request -> where an answer has them. Lists leave some out.
_HELD_UNDER = {"tax_codes": "taxes", "invoice_custom_section_codes": "applicable_invoice_custom_sections"}
