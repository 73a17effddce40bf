"""The organization and its billable metrics."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, invalid, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.expressions import (
    EvaluationFailed,
    InvalidExpression,
    evaluate,
    parse,
)
from airflow_provider_lago.sandbox.releases import EVENTS_STORE_SHOWN
from airflow_provider_lago.sandbox.resources import listed, must_be_new, must_find
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso
from airflow_provider_lago.sandbox.world import World

AGGREGATIONS = ("count_agg", "sum_agg", "max_agg", "unique_count_agg", "weighted_sum_agg", "latest_agg")

_ORGANIZATION_FIELDS = [
    "country",
    "address_line1",
    "address_line2",
    "state",
    "zipcode",
    "email",
    "city",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "net_payment_term",
    "default_currency",
    "document_numbering",
    "finalize_zero_amount_invoice",
]
NO_COUNTS = {"active_subscriptions_count": 0, "draft_invoices_count": 0}


# Organization


def _organization(world: World, kept: Doc) -> Doc:
    nothing = dict.fromkeys(("address_line1", "address_line2", "state", "zipcode", "email", "city"))
    return {
        "lago_id": world.organization_id,
        "name": world.organization_name,
        "slug": world.slug,
        "default_currency": "USD",
        "created_at": iso(kept["created_at"]),
        "webhook_url": "",
        "webhook_urls": [],
        "country": None,
        **nothing,
        "legal_name": None,
        "legal_number": None,
        "timezone": "UTC",
        "net_payment_term": 0,
        "email_settings": [],
        "document_numbering": "per_customer",
        "document_number_prefix": world.document_prefix,
        "tax_identification_number": None,
        "finalize_zero_amount_invoice": True,
        "billing_configuration": {"invoice_footer": None, "invoice_grace_period": 0, "document_locale": "en"},
        **({"events_store": world.store.flavour} if world.release >= EVENTS_STORE_SHOWN else {}),
        **kept["fields"],
    }


def show_organization(_call: Call, world: World) -> Answer:
    """``GET /organizations``."""
    return ok({"organization": _organization(world, must_find(world, "organization", ""))})


def update_organization(call: Call, world: World) -> Answer:
    """``PUT /organizations``; unlike the read, its answer lists the taxes."""
    given = call.root("organization")
    kept = must_find(world, "organization", "")
    kept["fields"].update({name: given[name] for name in _ORGANIZATION_FIELDS if name in given})
    world.store.save(kept)
    return ok({"organization": {**_organization(world, kept), "taxes": []}})


# Billable metrics


def create_metric(call: Call, world: World) -> Answer:
    """``POST /billable_metrics``."""
    given = call.root("billable_metric")
    _check_metric(given)
    must_be_new(world, "billable_metric", str(given["code"]))
    doc = {
        "name": given["name"],
        "code": str(given["code"]),
        "description": given.get("description"),
        "aggregation_type": given["aggregation_type"],
        "weighted_interval": given.get("weighted_interval"),
        "recurring": bool(given.get("recurring", False)),
        "rounding_function": given.get("rounding_function"),
        "rounding_precision": given.get("rounding_precision"),
        "created_at": iso(world.now()),
        "field_name": given.get("field_name"),
        "expression": given.get("expression"),
        **NO_COUNTS,
        "plans_count": 0,
        "filters": given.get("filters") or [],
    }
    doc = world.store.add("billable_metric", doc["code"], doc)
    world.load_expressions()
    return ok({"billable_metric": doc})


def _check_metric(given: dict[str, Any]) -> None:
    errors: dict[str, object] = {}
    aggregation = given.get("aggregation_type")
    if aggregation != "count_agg" and not given.get("field_name"):
        errors["field_name"] = ["value_is_mandatory"]
    if aggregation not in AGGREGATIONS:
        errors["aggregation_type"] = ["value_is_invalid"]
    if aggregation == "weighted_sum_agg" and given.get("weighted_interval") != "seconds":
        errors["weighted_interval"] = ["value_is_invalid"]
    for name in ("code", "name"):
        if not given.get(name):
            errors[name] = ["value_is_mandatory"]
    if given.get("expression"):
        try:
            parse(str(given["expression"]))
        except InvalidExpression:
            errors["expression"] = ["invalid_expression"]
    if errors:
        raise invalid(errors)


def update_metric(call: Call, world: World) -> Answer:
    """``PUT /billable_metrics/{code}``."""
    doc = must_find(world, "billable_metric", call.ids[0])
    given = call.root("billable_metric")
    changeable = ("name", "description", "rounding_function", "rounding_precision", "expression", "field_name")
    changed = {**doc, **{name: given[name] for name in changeable if name in given}}
    _check_metric(changed)
    world.store.save(changed)
    world.load_expressions()
    return ok({"billable_metric": changed})


def delete_metric(call: Call, world: World) -> Answer:
    """``DELETE /billable_metrics/{code}``."""
    doc = must_find(world, "billable_metric", call.ids[0])
    world.store.remove(doc)
    world.load_expressions()
    return ok({"billable_metric": doc})


def show_metric(call: Call, world: World) -> Answer:
    """``GET /billable_metrics/{code}``."""
    return ok({"billable_metric": must_find(world, "billable_metric", call.ids[0])})


def list_metrics(call: Call, world: World) -> Answer:
    """``GET /billable_metrics``."""
    return listed(call, world, "billable_metric", "billable_metrics")


def evaluate_expression(call: Call, _world: World) -> Answer:
    """``POST /billable_metrics/evaluate_expression``."""
    text = call.params.get("expression")
    if not isinstance(text, str) or not text.strip():
        raise invalid({"expression": ["value_is_mandatory"]})
    try:
        node = parse(text)
    except InvalidExpression:
        raise invalid({"expression": ["invalid_expression"]}) from None
    event = call.params.get("event")
    try:
        value = evaluate(node, event if isinstance(event, dict) else {})
    except EvaluationFailed:
        raise invalid({"event": ["invalid_event"]}) from None
    return ok({"expression_result": {"value": value}})
