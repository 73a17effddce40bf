"""
What a customer must be before it is sent, and how it differs from the one that Lago holds. Pure.

``POST /customers`` creates or changes by ``external_id``: a key that is missing stays as it is, a null clears. Lago
drops what it does not know, and parts that are of another type, without a word; that is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_lago.api.objects import (
    as_choice,
    as_flag,
    as_list,
    as_object,
    as_text,
    as_whole,
    check_id,
    check_known,
    put,
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
    "provider_payment_methods": as_list,
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
    "tax_codes": as_list,
    "invoice_custom_section_codes": as_list,
    "integration_customers": as_list,
}

_PARTS: dict[str, dict[str, _Read]] = {"billing_configuration": _BILLING, "shipping_address": _ADDRESS}

#: Every field of a customer.
CUSTOMER_FIELDS = frozenset({"external_id", "metadata", *_FIELDS, *_PARTS})

_PROVIDER = "billing_configuration.payment_provider"

#: Fields in which Lago ignores a null, and what to write instead.
_NEVER_NULL = {
    "shipping_address": "name the parts to clear, such as shipping_address.city",
    "billing_configuration": "name the parts to clear, such as billing_configuration.document_locale",
    "integration_customers": "write [] to remove all links",
    "tax_codes": "write [] to remove all taxes",
    "invoice_custom_section_codes": "write [] to remove all",
}

#: One piece of metadata: its value, and whether invoices show it; None for one that is to go.
Metadata = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Customer:
    """
    A customer that may be sent.

    :param external_id: What the user calls it.
    :param payload: All fields but the metadata.
    :param metadata: Metadata by key; None where the record says nothing of it.
    """

    external_id: str
    payload: Mapping[str, Any]
    metadata: Metadata | None = None

    @property
    def syncs(self) -> bool:
        """Whether it makes Lago call a payment provider, which Lago does each time it is asked."""
        billing = self.payload.get("billing_configuration") or {}
        return bool(billing.get("sync") or billing.get("sync_with_provider"))


@dataclass(frozen=True, slots=True)
class Clearing:
    """
    What clears a field.

    :param nulls: Whether a null in a record does; else it is as if it were not there.
    :param fields: Fields (dotted for nested ones) that are cleared where the record has no value for them.
    """

    nulls: bool = True
    fields: Collection[str] = field(default_factory=tuple)


def check_customer(payload: Mapping[str, Any], clearing: Clearing) -> Customer:
    """
    Check a customer and return it as it is sent.

    :param payload: The customer, with Lago's field names.
    :param clearing: What clears a field.
    :raises InvalidRecord: if Lago would refuse it, drop a part of it, or lose a payment method over a null.
    """
    given = dict(payload) if clearing.nulls else without_nulls(payload)
    for path in clearing.fields:
        put(given, path, None)
    check_known(given, CUSTOMER_FIELDS)
    external_id = check_id(given, "external_id")
    checked: dict[str, Any] = {"external_id": external_id}
    for name, value in given.items():
        if value is None and name in _NEVER_NULL:
            raise InvalidRecord(f"{name}: null", f"Lago ignores a null here: {_NEVER_NULL[name]}")
        if name in _FIELDS:
            checked[name] = None if value is None else _FIELDS[name](value, name)
        elif name in _PARTS:
            checked[name] = _check_part(name, as_object(value, name), clearing)
    if checked.get("invoice_custom_section_codes") and checked.get("skip_invoice_custom_sections"):
        raise InvalidRecord(
            "invoice_custom_sections: contradiction",
            "invoice_custom_section_codes and skip_invoice_custom_sections exclude each other",
        )
    refuse_unsendable(checked, "")
    metadata = read_metadata(given["metadata"]) if "metadata" in given else None
    return Customer(external_id, checked, metadata)


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
    """Return a payload without the nulls in it and in its parts; those in metadata say which keys are to go."""
    kept: dict[str, Any] = {}
    for name, value in payload.items():
        if isinstance(value, Mapping) and name in _PARTS:
            kept[name] = {key: part for key, part in value.items() if part is not None}
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
        text = str(value).lower() if isinstance(value, bool) else as_text(value, f"metadata.{name}", None)
        if not text.strip() or len(text) > LONGEST_VALUE:
            what = "metadata: value too long" if text.strip() else "metadata: empty value"
            raise InvalidRecord(what, f"{name!r}: {_limit(text, LONGEST_VALUE)}")
        found[name] = {"value": text, **({} if shown is None else {"display_in_invoice": as_flag(shown, "metadata")})}
    kept = [key for key, value in found.items() if value is not None]
    if len(kept) > MOST_METADATA:
        raise _too_many(kept)
    return found


def _pairs(given: Any) -> Iterable[tuple[Any, Any, Any]]:
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return ((key, value, None) for key, value in given.items())
    items = [as_object(item, "metadata") for item in as_list(given, "metadata")]
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
        key = row["key"]
        mine = given.get(key)
        if mine is None and (replace or key in given):
            continue
        kept = {"id": row["lago_id"], "key": key, "value": row["value"]}
        items.append({**kept, "display_in_invoice": row.get("display_in_invoice", False), **(mine or {})})
    known = {row["key"] for row in held}
    items += [{"key": key, **mine} for key, mine in given.items() if mine is not None and key not in known]
    if len(items) > MOST_METADATA:
        raise _too_many([item["key"] for item in items])
    return items


def changes(customer: Customer, held: Mapping[str, Any], *, replace_metadata: bool) -> list[str]:
    """
    Return the fields in which a customer differs from what Lago holds; what cannot be compared counts as different.

    :param customer: The customer to be sent.
    :param held: The customer as Lago answers it.
    :param replace_metadata: As for :func:`metadata_list`.
    """
    names = [name for name, value in customer.payload.items() if _differs(name, value, held)]
    if customer.metadata is not None and metadata_changes(customer.metadata, held, replace=replace_metadata):
        names.append("metadata")
    return names


def metadata_changes(given: Metadata, held: Mapping[str, Any], *, replace: bool) -> bool:
    """Tell whether sending metadata would change what Lago holds."""
    rows = held.get("metadata") or []
    before = [
        {"id": row["lago_id"], **{name: row.get(name) for name in ("key", "value", "display_in_invoice")}}
        for row in rows
    ]
    return metadata_list(given, rows, replace=replace) != before


def _differs(name: str, value: Any, held: Mapping[str, Any]) -> bool:
    if name == "tax_codes":
        return set(value) != _codes(held.get("taxes"))
    if name == "invoice_custom_section_codes":
        return set(value) != _codes(held.get("applicable_invoice_custom_sections"))
    if name == "integration_customers":
        return not _are_linked(value, held.get("integration_customers") or [])
    if name in _PARTS:
        part = held.get(name) or {}
        return any(_part_differs(key, wanted, part) for key, wanted in value.items())
    if name == "finalize_zero_amount_invoice" and value is None:
        value = "inherit"
    return not _same(value, held.get(name))


def _part_differs(key: str, wanted: Any, part: Mapping[str, Any]) -> bool:
    if key in {"sync", "sync_with_provider"}:
        # They ask for a customer at the provider: there is nothing left to do once there is one.
        return bool(wanted) and not part.get("provider_customer_id")
    if isinstance(wanted, list):
        return set(map(str, wanted)) != set(map(str, part.get(key) or ()))
    return not _same(wanted, part.get(key))


def _same(wanted: Any, held: Any) -> bool:
    if wanted in {None, ""} and held in {None, ""}:
        return True
    return type(wanted) is type(held) and bool(wanted == held)


def _codes(held: Any) -> set[Any]:
    return {row.get("code") for row in held or ()}


def _are_linked(wanted: Sequence[Any], held: Sequence[Mapping[str, Any]]) -> bool:
    names = {"integration_type": "type"}
    if len(wanted) != len(held) or not all(isinstance(link, Mapping) for link in wanted):
        return False
    return all(
        any(all(row.get(names.get(key, key), row.get(key)) == value for key, value in link.items()) for row in held)
        for link in wanted
    )
