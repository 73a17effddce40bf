"""Coupons, and what customers were given of them."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, invalid, not_found, ok
from airflow_provider_lago.sandbox.call import Call, texts
from airflow_provider_lago.sandbox.codes import CURRENCIES
from airflow_provider_lago.sandbox.customers import set_currency
from airflow_provider_lago.sandbox.resources import (
    decimal,
    listed,
    listed_docs,
    must_be_new,
    must_find,
    require,
)
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso, parse_iso
from airflow_provider_lago.sandbox.world import World

_GIVEN = ("name", "code", "description", "coupon_type", "amount_cents", "amount_currency", "percentage_rate")
_USE = ("frequency", "frequency_duration", "expiration", "expiration_at")
_CHANGEABLE = (*_GIVEN, *_USE, "reusable")
_CHOICES = (
    ("coupon_type", ("fixed_amount", "percentage")),
    ("frequency", ("once", "recurring", "forever")),
    ("expiration", ("no_expiration", "time_limit")),
)
_TAKEN_OVER = ("amount_cents", "amount_currency", "percentage_rate", "frequency", "frequency_duration")


def _check(given: dict[str, Any]) -> None:
    errors = require(given, "name", "code")
    for name, allowed in _CHOICES:
        if given.get(name) not in allowed:
            errors[name] = ["value_is_invalid"]
    if given.get("coupon_type") == "fixed_amount":
        if not isinstance(given.get("amount_cents"), int) or given["amount_cents"] <= 0:
            errors["amount_cents"] = ["value_is_out_of_range"]
        if given.get("amount_currency") not in CURRENCIES:
            errors["amount_currency"] = ["value_is_invalid"]
    elif given.get("coupon_type") == "percentage" and decimal(given.get("percentage_rate")) is None:
        errors["percentage_rate"] = ["value_is_mandatory"]
    if given.get("expiration_at") is not None and parse_iso(given["expiration_at"]) is None:
        errors["expiration_at"] = ["invalid_date"]
    if errors:
        raise invalid(errors)


def create_coupon(call: Call, world: World) -> Answer:
    """``POST /coupons``."""
    given = {"reusable": True, "expiration": "no_expiration", **call.root("coupon")}
    _check(given)
    must_be_new(world, "coupon", str(given["code"]))
    limits = given.get("applies_to")
    limits = limits if isinstance(limits, dict) else {}
    plans, metrics = (texts(limits.get(name)) for name in ("plan_codes", "billable_metric_codes"))
    code = str(given["code"])
    doc = {name: given.get(name) for name in _CHANGEABLE}
    doc.update(
        code=code,
        limited_plans=bool(plans),
        plan_codes=plans,
        limited_billable_metrics=bool(metrics),
        billable_metric_codes=metrics,
        created_at=iso(world.now()),
        terminated_at=None,
    )
    return ok({"coupon": world.store.add("coupon", code, doc)})


def update_coupon(call: Call, world: World) -> Answer:
    """``PUT /coupons/{code}``."""
    doc = must_find(world, "coupon", call.ids[0])
    given = call.root("coupon")
    changed = {**doc, **{name: given[name] for name in _CHANGEABLE if name in given}}
    _check(changed)
    changed["code"] = str(changed["code"])
    if changed["code"] != doc["code"]:
        must_be_new(world, "coupon", changed["code"])
    world.store.save(changed, key=changed["code"])
    return ok({"coupon": changed})


def delete_coupon(call: Call, world: World) -> Answer:
    """``DELETE /coupons/{code}``."""
    doc = must_find(world, "coupon", call.ids[0])
    world.store.remove(doc)
    return ok({"coupon": doc})


def show_coupon(call: Call, world: World) -> Answer:
    """``GET /coupons/{code}``."""
    return ok({"coupon": must_find(world, "coupon", call.ids[0])})


def list_coupons(call: Call, world: World) -> Answer:
    """``GET /coupons``."""
    return listed(call, world, "coupon", "coupons")


# Applied to customers


def apply_coupon(call: Call, world: World) -> Answer:
    """``POST /applied_coupons``: nothing tells a repetition from a second gift, unless the coupon is for once."""
    given = call.root("applied_coupon")
    customer = must_find(world, "customer", str(given.get("external_customer_id")))
    coupon = must_find(world, "coupon", str(given.get("coupon_code")))
    held = world.store.all("applied_coupon", owner=customer["lago_id"])
    if not coupon["reusable"] and any(one["lago_coupon_id"] == coupon["lago_id"] for one in held):
        raise invalid({"coupon": ["coupon_is_not_reusable"]})
    taken = {name: coupon[name] if given.get(name) is None else given[name] for name in _TAKEN_OVER}
    with world.store.transaction():
        if coupon["coupon_type"] == "fixed_amount":
            set_currency(customer, taken["amount_currency"], world)
        doc = {
            "lago_coupon_id": coupon["lago_id"],
            "coupon_code": coupon["code"],
            "coupon_name": coupon["name"],
            "lago_customer_id": customer["lago_id"],
            "external_customer_id": customer["external_id"],
            "status": "active",
            **taken,
            "amount_cents_remaining": taken["amount_cents"],
            "frequency_duration_remaining": taken["frequency_duration"],
            "expiration_at": coupon["expiration_at"],
            "created_at": iso(world.now()),
            "terminated_at": None,
        }
        doc = world.store.add("applied_coupon", coupon["code"], doc)
    return ok({"applied_coupon": doc})


def list_applied_coupons(call: Call, world: World) -> Answer:
    """``GET /applied_coupons`` and ``GET /customers/{external_id}/applied_coupons``."""
    query = call.query
    wanted = call.ids[0] if call.ids else query.get("external_customer_id")
    owner = must_find(world, "customer", wanted)["lago_id"] if isinstance(wanted, str) else None
    docs = world.store.page("applied_coupon", owner=owner)
    status, codes = query.get("status"), texts(query.get("coupon_code"))
    found = [
        {**doc, "credits": []}
        for doc in docs
        if (not isinstance(status, str) or doc["status"] == status) and (not codes or doc["coupon_code"] in codes)
    ]
    return listed_docs(call, "applied_coupons", found)


def remove_applied_coupon(call: Call, world: World) -> Answer:
    """``DELETE /customers/{external_id}/applied_coupons/{lago_id}``."""
    customer = must_find(world, "customer", call.ids[0])
    doc = world.store.present("applied_coupon", call.ids[1])
    if doc is None or doc["lago_customer_id"] != customer["lago_id"]:
        raise not_found("applied_coupon")
    return ok({"applied_coupon": terminate(doc, world)})


def terminate(doc: Doc, world: World) -> Doc:
    """End what a customer was given, or a wallet; once."""
    if doc["status"] != "terminated":
        doc.update(status="terminated", terminated_at=iso(world.now()))
        world.store.save(doc)
    return doc
