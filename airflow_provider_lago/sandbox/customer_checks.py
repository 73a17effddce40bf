"""What Lago refuses in a customer, before it stores anything."""

from __future__ import annotations

import re
import zoneinfo
from typing import Any

from airflow_provider_lago.sandbox.answers import invalid
from airflow_provider_lago.sandbox.codes import COUNTRIES, CURRENCIES, LOCALES
from airflow_provider_lago.sandbox.customer_metadata import LIMIT
from airflow_provider_lago.sandbox.resources import MANDATORY, text

_EMAIL = re.compile(r"[^\s@,]+@[^\s@,.]+(\.[^\s@,.]+)+")
_ZERO_INVOICE = frozenset({"inherit", "skip", "finalize"})


def check(given: dict[str, Any], external_id: str, *, premium: bool) -> None:
    """Raise the 422 for what is wrong: three checks one at a time, then all fields together."""
    for errors in _one_by_one(given):
        raise invalid(errors)
    wrong = {**_wrong_texts(given), **_wrong_choices(given)}
    if not external_id:
        wrong["external_id"] = MANDATORY
    if isinstance(given.get("net_payment_term"), int) and given["net_payment_term"] < 0:
        wrong["net_payment_term"] = ["value_is_out_of_range"]
    if given.get("invoice_custom_section_codes") and given.get("skip_invoice_custom_sections"):
        wrong["invoice_custom_sections"] = ["skip_sections_and_selected_ids_sent_together"]
    if premium and given.get("timezone") and given["timezone"] not in zoneinfo.available_timezones():
        wrong["timezone"] = ["invalid_timezone"]
    if wrong:
        raise invalid(wrong)


def _one_by_one(given: dict[str, Any]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    if len(given.get("metadata") or []) > LIMIT:
        found.append({"metadata": ["invalid_count"]})
    if given.get("finalize_zero_amount_invoice") not in (None, *_ZERO_INVOICE):
        found.append({"finalize_zero_amount_invoice": ["invalid_value"]})
    links = given.get("integration_customers")
    types = [item.get("integration_type") for item in links if isinstance(item, dict)] if links else []
    if len({str(name) for name in types}) != len(types):
        found.append({"integration_customers": ["invalid_count_per_integration_type"]})
    return found


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
    if len(text(given.get("name"))) > 255:
        errors["name"] = ["value_is_too_long"]
    return errors


def _wrong_choices(given: dict[str, Any]) -> dict[str, object]:
    errors: dict[str, object] = {}
    if given.get("customer_type") not in (None, "company", "individual"):
        errors["customer_type"] = ["value_is_invalid"]
    billing = given.get("billing_configuration")
    locale = billing.get("document_locale") if isinstance(billing, dict) else None
    if locale is not None and locale not in LOCALES:
        errors["document_locale"] = ["not_a_valid_language_code"]
    return errors
