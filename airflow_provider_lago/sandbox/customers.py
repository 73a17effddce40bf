"""Customers: created and changed by the same POST, keyed by ``external_id``."""

from __future__ import annotations

import re
import uuid
from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, invalid, missing_param, not_found, ok
from airflow_provider_lago.sandbox.call import Call, texts
from airflow_provider_lago.sandbox.codes import COUNTRIES, CURRENCIES, LOCALES
from airflow_provider_lago.sandbox.lifecycle import end
from airflow_provider_lago.sandbox.pages import cut, meta
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
_PROVIDERS = frozenset({"stripe", "gocardless", "cashfree", "adyen", "flutterwave", "moneyhash"})
_EMAIL = re.compile(r"[^\s@,]+@[^\s@,.]+(\.[^\s@,.]+)+")
_ZERO_INVOICE = frozenset({"inherit", "skip", "finalize"})
_MANDATORY = ["value_is_mandatory"]


def upsert_customer(call: Call, world: World) -> Answer:
    """``POST /customers``: a missing key keeps its value, an explicit null clears it."""
    root = call.params.get("customer")
    if not isinstance(root, dict) or not _PERMITTED & root.keys():
        raise missing_param("customer")
    external_id = _text(root.get("external_id"))
    existing = world.store.find("customer", external_id) if external_id else None
    given = _cleaned(root, world, is_new=existing is None)
    _check(given, external_id)
    with world.store.transaction():
        doc = existing or new_customer(world, external_id)
        _apply(doc, given)
        if given.get("metadata") is not None:
            doc["metadata"] = _metadata(doc["metadata"], given["metadata"], world)
        doc["updated_at"] = iso(world.now())
        world.store.save(doc)
    # Lago looks up the payment provider after it committed the customer: the 422 leaves it in place.
    billing = given.get("billing_configuration") or {}
    if billing.get("payment_provider") in _PROVIDERS and (
        billing.get("provider_customer_id") or billing.get("sync_with_provider")
    ):
        raise invalid({"base": ["payment_provider_not_found"]})
    return ok({"customer": doc})


def new_customer(world: World, external_id: str) -> Doc:
    """A bare customer, as a subscription for an unknown one creates it too."""
    last = world.store.newest("customer")
    number = 1 if last is None else int(last["sequential_id"]) + 1
    now = iso(world.now())
    return world.store.add(
        "customer",
        external_id,
        {
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
            "shipping_address": dict.fromkeys(_SHIPPING),
            "skip_invoice_custom_sections": False,
            "metadata": [],
            "taxes": [],
            "integration_customers": [],
            "applicable_invoice_custom_sections": [],
            "error_details": [],
        },
    )


def _text(value: object) -> str:
    if value is None or isinstance(value, (dict, list)):
        return ""
    return str(value).replace("\0", "").strip()


def _cleaned(root: dict[str, Any], world: World, *, is_new: bool) -> dict[str, Any]:
    given = {key: value for key, value in root.items() if key in _PERMITTED}
    if isinstance(given.get("country"), str):
        given["country"] = given["country"].upper()
    billing = given.get("billing_configuration")
    if isinstance(billing, dict) and billing.get("payment_provider") not in (None, *_PROVIDERS):
        # An unknown provider's name is ignored on create and unlinks the present one on update.
        billing = {**billing, "payment_provider": None}
        given["billing_configuration"] = {
            key: value for key, value in billing.items() if key != "payment_provider" or not is_new
        }
    if given.get("billing_entity_code") not in (None, world.slug):
        raise not_found("billing_entity")
    return given


def _check(given: dict[str, Any], external_id: str) -> None:
    errors = {**_wrong_texts(given), **_wrong_choices(given)}
    if not external_id:
        errors["external_id"] = _MANDATORY
    if isinstance(given.get("net_payment_term"), int) and given["net_payment_term"] < 0:
        errors["net_payment_term"] = ["value_is_out_of_range"]
    if given.get("invoice_custom_section_codes") and given.get("skip_invoice_custom_sections"):
        errors["invoice_custom_sections"] = ["skip_sections_and_selected_ids_sent_together"]
    if len(given.get("metadata") or []) > 5:
        errors["metadata"] = ["invalid_count"]
    if errors:
        raise invalid(errors)
    if given.get("tax_codes"):
        raise not_found("tax")


def _wrong_texts(given: dict[str, Any]) -> dict[str, object]:
    errors: dict[str, object] = {}
    currency, country, email = given.get("currency"), given.get("country"), given.get("email")
    if currency is not None and currency not in CURRENCIES:
        errors["currency"] = ["value_is_invalid"]
    if country not in (None, "") and country not in COUNTRIES:
        errors["country"] = ["not_a_valid_country_code"]
    addresses = str(email).split(",") if email else []
    if not all(_EMAIL.fullmatch(address.strip()) for address in addresses):
        errors["email"] = ["invalid_email_format"]
    if len(_text(given.get("name"))) > 255:
        errors["name"] = ["value_is_too_long"]
    return errors


def _wrong_choices(given: dict[str, Any]) -> dict[str, object]:
    errors: dict[str, object] = {}
    if given.get("customer_type") not in (None, "company", "individual"):
        errors["customer_type"] = ["value_is_invalid"]
    if given.get("finalize_zero_amount_invoice") not in (None, *_ZERO_INVOICE):
        errors["finalize_zero_amount_invoice"] = ["invalid_value"]
    billing = given.get("billing_configuration")
    locale = billing.get("document_locale") if isinstance(billing, dict) else None
    if locale is not None and locale not in LOCALES:
        errors["document_locale"] = ["not_a_valid_language_code"]
    return errors


def _apply(doc: Doc, given: dict[str, Any]) -> None:
    for name in _TEXTS:
        if name in given and not isinstance(given[name], (dict, list)):
            doc[name] = given[name]
    for name in ("finalize_zero_amount_invoice", "skip_invoice_custom_sections"):
        if name in given:
            default = "inherit" if name.startswith("finalize") else False
            doc[name] = default if given[name] is None else given[name]
    for name, keys in (("billing_configuration", _BILLING), ("shipping_address", _SHIPPING)):
        part = given.get(name)
        if isinstance(part, dict):
            # The grace period is a premium feature, silently ignored without a licence.
            doc[name].update({k: part[k] for k in keys if k in part and k != "invoice_grace_period"})


def _metadata(held: list[Doc], given: object, world: World) -> list[Doc]:
    """
    Replace the whole set, matched by ``id``.

    Lago creates the new rows before it deletes the missing ones: a key sent again without its id collides.
    """
    items = [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    by_id = {row["lago_id"]: row for row in held}
    kept: list[Doc] = []
    taken = {row["key"] for row in held}
    for item in items:
        row = by_id.get(str(item.get("id")))
        key, value = _text(item.get("key", row and row["key"])), _text(item.get("value", row and row["value"]))
        errors: dict[str, object] = {}
        for name, text, longest in (("key", key, 20), ("value", value, 100)):
            if not text:
                errors[name] = _MANDATORY
            elif len(text) > longest:
                errors[name] = ["value_is_too_long"]
        if key in taken and (row is None or row["key"] != key):
            errors.setdefault("key", ["value_already_exist"])
        if errors:
            raise invalid(errors)
        taken.add(key)
        row = row or {"lago_id": str(uuid.uuid4()), "display_in_invoice": False, "created_at": iso(world.now())}
        shown = bool(item.get("display_in_invoice", row["display_in_invoice"]))
        kept.append(
            {
                "lago_id": row["lago_id"],
                "key": key,
                "value": value,
                "display_in_invoice": shown,
                "created_at": row["created_at"],
            }
        )
    return kept


def must_find(world: World, external_id: str) -> Doc:
    """The customer of a path, or 404."""
    doc = world.store.find("customer", external_id)
    if doc is None:
        raise not_found("customer")
    return doc


def show_customer(call: Call, world: World) -> Answer:
    """``GET /customers/{external_id}``."""
    return ok({"customer": must_find(world, call.ids[0])})


def list_customers(call: Call, world: World) -> Answer:
    """``GET /customers``, newest first, without what only single reads carry."""
    query = call.query
    external_id = query.get("external_id")
    docs = world.store.all("customer", key=external_id if isinstance(external_id, str) and external_id else None)
    for name, parameter in (
        ("country", "countries"),
        ("currency", "currencies"),
        ("state", "states"),
        ("zipcode", "zipcodes"),
        ("account_type", "account_type"),
        ("billing_entity_code", "billing_entity_codes"),
    ):
        if wanted := texts(query.get(parameter)):
            docs = [doc for doc in docs if doc[name] in wanted]
    if isinstance(query.get("customer_type"), str):
        docs = [doc for doc in docs if doc["customer_type"] == query["customer_type"]]
    if isinstance(query.get("search_term"), str):
        docs = [doc for doc in docs if _mentions(doc, query["search_term"].lower())]
    if isinstance(query.get("metadata"), dict):
        docs = [doc for doc in docs if _carries(doc, query["metadata"])]
    page, size = call.page()
    numbers = meta(page, size, len(docs))
    left_out = ("applicable_invoice_custom_sections", "error_details")
    shown = [{k: v for k, v in doc.items() if k not in left_out} for doc in cut(docs[::-1], page, size)]
    return ok({"customers": shown, "meta": numbers})


def _mentions(doc: Doc, term: str) -> bool:
    names = ("name", "firstname", "lastname", "legal_name", "external_id", "email")
    return any(term in doc[name].lower() for name in names if doc[name])


def _carries(doc: Doc, wanted: dict[str, Any]) -> bool:
    held = {row["key"]: row["value"] for row in doc["metadata"]}
    return all(held.get(key, "") == value for key, value in wanted.items())


def delete_customer(call: Call, world: World) -> Answer:
    """``DELETE /customers/{external_id}``: its subscriptions end with it."""
    with world.store.transaction():
        doc = must_find(world, call.ids[0])
        doc["updated_at"] = iso(world.now())
        world.store.save(doc)
        world.store.remove(doc)
        for subscription in world.store.all("subscription"):
            if subscription["lago_customer_id"] == doc["lago_id"]:
                end(subscription, world)
    return ok({"customer": doc})


def find_or_create(world: World, external_id: str) -> Doc:
    """A subscription for an unknown customer creates a bare one: a typo makes a ghost."""
    return world.store.find("customer", external_id) or new_customer(world, external_id)
