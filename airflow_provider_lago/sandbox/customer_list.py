"""``GET /customers``: filters, and pages that read no more than they show."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, invalid, not_found, ok
from airflow_provider_lago.sandbox.call import Call, texts
from airflow_provider_lago.sandbox.codes import COUNTRIES, CURRENCIES
from airflow_provider_lago.sandbox.customers import shown
from airflow_provider_lago.sandbox.pages import cut, meta
from airflow_provider_lago.sandbox.releases import EXTERNAL_ID_FILTERS
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.world import World

_LEFT_OUT = ("applicable_invoice_custom_sections", "error_details")
# parameter -> attribute, and the values it may have if Lago checks them
_ARRAYS: tuple[tuple[str, str, frozenset[str] | None], ...] = (
    ("account_type", "account_type", frozenset({"customer", "partner"})),
    ("countries", "country", COUNTRIES),
    ("currencies", "currency", CURRENCIES),
    ("states", "state", None),
    ("zipcodes", "zipcode", None),
    ("billing_entity_codes", "billing_entity_code", None),
)
_BOOLEANS = (
    ("has_tax_identification_number", "tax_identification_number"),
    ("has_customer_type", "customer_type"),
)
_TYPES = ("company", "individual")
_SEARCHED = ("name", "firstname", "lastname", "legal_name", "external_id", "email")


def list_customers(call: Call, world: World) -> Answer:
    """``GET /customers``, newest first, without what only single reads carry."""
    query = call.query
    key = external_id_filter(query, world)
    _check(query, world)
    page, size = call.page()
    if _filters(query):
        found = [doc for doc in reversed(world.store.all("customer", key=key)) if _matches(doc, query)]
        total, docs = len(found), list(cut(found, page, size))
    else:
        total = world.store.count("customer", key=key)
        docs = world.store.page("customer", key=key, limit=size, offset=(page - 1) * size)
    numbers = meta(page, size, total)
    return ok({"customers": [shown(doc, world, _LEFT_OUT) for doc in docs], "meta": numbers})


def external_id_filter(query: dict[str, Any], world: World) -> str | None:
    """The ``external_id`` asked for; a release that does not know this filter lists all, as with any unknown one."""
    wanted = query.get("external_id")
    known = world.release >= EXTERNAL_ID_FILTERS
    return wanted if known and isinstance(wanted, str) and wanted else None


def _filters(query: dict[str, Any]) -> bool:
    arrays = any(texts(query.get(parameter)) for parameter, _, _ in _ARRAYS)
    others = ("customer_type", "search_term", "metadata", *(parameter for parameter, _ in _BOOLEANS))
    return arrays or any(query.get(name) for name in others)


def _check(query: dict[str, Any], world: World) -> None:
    errors: dict[str, object] = {}
    for parameter, _, allowed in _ARRAYS:
        wrong = [n for n, value in enumerate(texts(query.get(parameter))) if allowed and value not in allowed]
        if wrong and allowed:
            errors[parameter] = {str(n): [_one_of(sorted(allowed))] for n in wrong}
    for parameter, _ in _BOOLEANS:
        if query.get(parameter) not in (None, "true", "false"):
            errors[parameter] = [_one_of(("true", "false"))]
    if query.get("customer_type") not in (None, *_TYPES):
        errors["customer_type"] = [_one_of(_TYPES)]
    elif query.get("customer_type") and query.get("has_customer_type") == "false":
        errors["customer_type"] = ["must be nil when has_customer_type is false"]
    metadata = query.get("metadata")
    if isinstance(metadata, dict) and (nested := [k for k, value in metadata.items() if not isinstance(value, str)]):
        errors["metadata"] = {name: ["must be a string"] for name in nested}
    if errors:
        raise invalid(errors)
    if any(code != world.slug for code in texts(query.get("billing_entity_codes"))):
        raise not_found("billing_entity")


def _one_of(allowed: tuple[str, ...] | list[str]) -> str:
    return f"must be one of: {', '.join(allowed)}"


def _matches(doc: Doc, query: dict[str, Any]) -> bool:
    for parameter, name, _ in _ARRAYS:
        if (wanted := texts(query.get(parameter))) and doc[name] not in wanted:
            return False
    for parameter, name in _BOOLEANS:
        if query.get(parameter) and bool(doc[name]) != (query[parameter] == "true"):
            return False
    if query.get("customer_type") and doc["customer_type"] != query["customer_type"]:
        return False
    term, metadata = query.get("search_term"), query.get("metadata")
    if isinstance(term, str) and not any(term.lower() in doc[name].lower() for name in _SEARCHED if doc[name]):
        return False
    return not isinstance(metadata, dict) or _carries(doc, metadata)


def _carries(doc: Doc, wanted: dict[str, Any]) -> bool:
    """Whether the metadata has these values; an empty one asks for customers without the key."""
    held = {row["key"]: row["value"] for row in doc["metadata"]}
    return all(held.get(key, "") == value for key, value in wanted.items())
