"""Customers: created and changed by the same POST, keyed by ``external_id``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from airflow_provider_lago.sandbox import customer_metadata, integrations, payment_providers, taxes
from airflow_provider_lago.sandbox.answers import Answer, invalid, missing_param, not_found, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.customer_checks import check
from airflow_provider_lago.sandbox.lifecycle import end
from airflow_provider_lago.sandbox.releases import CURRENCY_FREE_TO_CHANGE
from airflow_provider_lago.sandbox.resources import must_find, text
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso
from airflow_provider_lago.sandbox.world import World

_ADDRESS = ("address_line1", "address_line2", "state", "zipcode", "email", "city")
_TEXTS = [
    "name",
    "firstname",
    "lastname",
    "customer_type",
    "country",
    "address_line1",
    "address_line2",
    "state",
    "zipcode",
    "email",
    "city",
    "url",
    "phone",
    "logo_url",
    "legal_name",
    "legal_number",
    "currency",
    "tax_identification_number",
    "net_payment_term",
    "external_salesforce_id",
]
_BILLING = [
    "invoice_grace_period",
    "payment_provider",
    "payment_provider_code",
    "document_locale",
    "subscription_invoice_issuing_date_anchor",
    "subscription_invoice_issuing_date_adjustment",
]
_SHIPPING = ("address_line1", "address_line2", "city", "zipcode", "state", "country")
_PERMITTED = {
    *_TEXTS,
    *["external_id", "account_type", "timezone", "finalize_zero_amount_invoice", "skip_invoice_custom_sections"],
    *["billing_entity_code", "integration_customers", "billing_configuration", "metadata", "shipping_address"],
    *("tax_codes", "invoice_custom_section_codes"),
}
# Rows of other tables in Lago: a change of one of them does not touch the customer's own row.
_NOT_IN_ROW = ("metadata", "taxes", "integration_customers", "provider_customer", "updated_at")


def upsert_customer(call: Call, world: World) -> Answer:
    """``POST /customers``: a missing key keeps its value, an explicit null clears it."""
    root = call.params.get("customer")
    if not isinstance(root, dict) or not _PERMITTED & root.keys():
        raise missing_param("customer")
    external_id = text(root.get("external_id"))
    existing = world.store.find("customer", external_id) if external_id else None
    given = _cleaned(root, world, is_new=existing is None)
    check(given, external_id, premium=world.premium)
    with world.store.transaction():
        doc = existing or _bare(world, external_id)
        before = _row(doc) if existing else b""
        _check_currency(doc, given, world)
        _apply(doc, given, world)
        if isinstance(given.get("tax_codes"), list):
            doc["taxes"] = taxes.replaced(doc["taxes"], given["tax_codes"], world)
        if given.get("metadata") is not None:
            doc["metadata"] = customer_metadata.replaced(doc["metadata"], given["metadata"], iso(world.now()))
        if existing is None:
            doc = world.store.add("customer", external_id, doc)
        else:
            _touch(doc, before, world)
    _after_commit(doc, given, call, world, is_new=existing is None)
    return ok({"customer": shown(doc, world)})


def _after_commit(doc: Doc, given: dict[str, Any], call: Call, world: World, *, is_new: bool) -> None:
    """Lago looks up payment providers after it committed the customer: a 422 leaves that in place."""
    billing = given.get("billing_configuration")
    if isinstance(billing, dict):
        before = _row(doc)
        try:
            payment_providers.configure(doc, billing, call, world, is_new=is_new)
        finally:
            _touch(doc, before, world)
    if given.get("integration_customers") is not None:
        doc["integration_customers"] = integrations.linked(
            doc["integration_customers"], given["integration_customers"], world
        )
        world.store.save(doc)


def _row(doc: Doc) -> bytes:
    return msgspec.json.encode({key: value for key, value in doc.items() if key not in _NOT_IN_ROW})


def _touch(doc: Doc, before: bytes, world: World) -> None:
    """Save; Rails leaves ``updated_at`` alone where no column of the row changed."""
    if _row(doc) != before:
        doc["updated_at"] = iso(world.now())
    world.store.save(doc)


def set_currency(doc: Doc, currency: str | None, world: World) -> None:
    """
    Take over the currency of a plan or of money that a customer without one is given.

    :raises Refusal: 422 if it has another one, up to 1.51.
    """
    if doc["currency"] is None and currency is not None:
        before = _row(doc)
        doc["currency"] = currency
        _touch(doc, before, world)
    elif currency not in (None, doc["currency"]) and world.release < CURRENCY_FREE_TO_CHANGE:
        raise invalid({"currency": ["currencies_does_not_match"]})


def _check_currency(doc: Doc, given: dict[str, Any], world: World) -> None:
    if "currency" not in given or given["currency"] == doc["currency"] or "lago_id" not in doc:
        return
    bound = ("subscription", "wallet", "invoice", "applied_coupon")
    if world.release < CURRENCY_FREE_TO_CHANGE and any(world.store.count(k, owner=doc["lago_id"]) for k in bound):
        raise invalid({"currency": ["currencies_does_not_match"]})


def new_customer(world: World, external_id: str) -> Doc:
    """A bare customer, as a subscription for an unknown one creates it too."""
    return world.store.add("customer", external_id, _bare(world, external_id))


def _bare(world: World, external_id: str) -> Doc:
    last = world.store.newest("customer")
    number = 1 if last is None else int(last["sequential_id"]) + 1
    now = iso(world.now())
    return {
        "billing_entity_code": world.slug,
        "external_id": external_id,
        "account_type": "customer",
        "name": None,
        "firstname": None,
        "lastname": None,
        "customer_type": None,
        "sequential_id": number,
        "slug": f"{world.document_prefix}-{number:03d}",
        "created_at": now,
        "updated_at": now,
        "country": None,
        **dict.fromkeys(_ADDRESS),
        **dict.fromkeys(("url", "phone", "logo_url", "legal_name", "legal_number", "currency")),
        "tax_identification_number": None,
        "timezone": None,
        "applicable_timezone": "UTC",
        "net_payment_term": None,
        "external_salesforce_id": None,
        "finalize_zero_amount_invoice": "inherit",
        "billing_configuration": dict.fromkeys(_BILLING),
        "provider_customer": None,
        "shipping_address": dict.fromkeys(_SHIPPING),
        "skip_invoice_custom_sections": False,
        "metadata": [],
        "taxes": [],
        "integration_customers": [],
        "applicable_invoice_custom_sections": [],
        "error_details": [],
    }


def shown(doc: Doc, world: World, without: Collection[str] = ()) -> Doc:
    """A customer as Lago shows it."""
    seen = {
        **doc,
        "billing_configuration": payment_providers.shown(doc),
        "taxes": taxes.carried(doc["taxes"], world),
    }
    return {key: value for key, value in seen.items() if key != "provider_customer" and key not in without}


def _cleaned(root: dict[str, Any], world: World, *, is_new: bool) -> dict[str, Any]:
    given = {key: value for key, value in root.items() if key in _PERMITTED}
    if given.get("billing_entity_code") not in (None, world.slug):
        raise not_found("billing_entity")
    if isinstance(given.get("country"), str):
        given["country"] = given["country"].upper()
    billing = given.get("billing_configuration")
    if isinstance(billing, dict) and billing.get("payment_provider") not in (None, *payment_providers.KINDS):
        # An unknown provider's name is ignored on create and unlinks the present one on update.
        billing = {**billing, "payment_provider": None}
        given["billing_configuration"] = {
            key: value for key, value in billing.items() if key != "payment_provider" or not is_new
        }
    return given


def _apply(doc: Doc, given: dict[str, Any], world: World) -> None:
    for name in _TEXTS:
        if name in given and not isinstance(given[name], (dict, list)):
            doc[name] = given[name]
    for name in ("finalize_zero_amount_invoice", "skip_invoice_custom_sections"):
        if name in given:
            default = "inherit" if name.startswith("finalize") else False
            doc[name] = default if given[name] is None else given[name]
    if world.premium and "timezone" in given:
        # Silently ignored without a licence.
        doc["timezone"] = given["timezone"]
        doc["applicable_timezone"] = given["timezone"] or "UTC"
    address = given.get("shipping_address")
    if isinstance(address, dict):
        if isinstance(address.get("country"), str):
            address = {**address, "country": address["country"].upper()}
        doc["shipping_address"].update({key: address[key] for key in _SHIPPING if key in address})


def show_customer(call: Call, world: World) -> Answer:
    """``GET /customers/{external_id}``."""
    return ok({"customer": shown(must_find(world, "customer", call.ids[0]), world)})


def delete_customer(call: Call, world: World) -> Answer:
    """``DELETE /customers/{external_id}``: its subscriptions, wallets and coupons end with it."""
    with world.store.transaction():
        doc = must_find(world, "customer", call.ids[0])
        doc["updated_at"] = iso(world.now())
        world.store.save(doc)
        world.store.remove(doc)
        for subscription in world.store.all("subscription", owner=doc["lago_id"]):
            end(subscription, world)
        for kind in ("wallet", "applied_coupon"):
            for held in world.store.all(kind, owner=doc["lago_id"]):
                if held["status"] == "active":
                    held.update(status="terminated", terminated_at=iso(world.now()))
                    world.store.save(held)
    return ok({"customer": shown(doc, world)})


def find_or_create(world: World, external_id: str) -> Doc:
    """A subscription for an unknown customer creates a bare one: a typo makes a ghost."""
    return world.store.find("customer", external_id) or new_customer(world, external_id)
