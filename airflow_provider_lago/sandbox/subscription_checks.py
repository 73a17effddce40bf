"""What Lago refuses in a subscription before it looks at those that are there."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox.answers import invalid
from airflow_provider_lago.sandbox.resources import MANDATORY, text
from airflow_provider_lago.sandbox.times import day_of, parse_iso

_BILLING_TIMES = ("calendar", "anniversary")
_CREDIT_NOTES = ("credit", "refund", "skip", "offset")
_INVOICES = ("generate", "skip")
_PAYMENT_METHODS = ("provider", "manual")


def check(given: dict[str, Any], now: int) -> None:
    """Raise the 422 for what is wrong in a new subscription, all fields together."""
    errors = _wrong_dates(given, now) | _wrong_rules(given.get("activation_rules"))
    if given.get("billing_time") not in (None, *_BILLING_TIMES):
        errors["billing_time"] = ["value_is_invalid"]
    if not text(given.get("external_id")):
        errors["external_id"] = MANDATORY
    if len(text(given.get("purchase_order_number"))) > 255:
        errors["purchase_order_number"] = ["value_is_too_long"]
    method = given.get("payment_method")
    if isinstance(method, dict) and (
        method.get("payment_method_type") not in (None, *_PAYMENT_METHODS) or method.get("payment_method_id")
    ):
        # The sandbox keeps no payment methods: every id is an unknown one.
        errors["payment_method"] = ["invalid_payment_method"]
    if errors:
        raise invalid(errors)


def _wrong_dates(given: dict[str, Any], now: int) -> dict[str, object]:
    errors: dict[str, object] = {}
    start = now
    if given.get("subscription_at") is not None:
        parsed = parse_iso(given["subscription_at"])
        if parsed is None:
            errors["subscription_at"] = ["invalid_date"]
        start = now if parsed is None else parsed
    if given.get("ending_at") is not None:
        end_at = parse_iso(given["ending_at"])
        if end_at is None or day_of(end_at) <= day_of(now) or day_of(end_at) <= day_of(start):
            errors["ending_at"] = ["invalid_date"]
    return errors


def _wrong_rules(rules: object) -> dict[str, object]:
    if rules is None:
        return {}
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        return {"activation_rules": ["invalid_format"]}
    types = [rule.get("type") for rule in rules]
    if any(kind != "payment" for kind in types):
        return {"activation_rules": ["invalid_type"]}
    if len(set(types)) != len(types):
        return {"activation_rules": ["duplicated_type"]}
    hours = [rule.get("timeout_hours") for rule in rules]
    if any(value is not None and (not isinstance(value, int) or value < 0) for value in hours):
        return {"timeout_hours": ["value_must_be_positive_or_zero"]}
    return {}


def check_termination(given: dict[str, Any]) -> None:
    """Raise the 422 for words about the end that Lago does not know."""
    errors: dict[str, object] = {}
    for name, allowed in (("on_termination_credit_note", _CREDIT_NOTES), ("on_termination_invoice", _INVOICES)):
        if given.get(name) not in (None, "", *allowed):
            errors[name] = ["invalid_value"]
    if errors:
        raise invalid(errors)
