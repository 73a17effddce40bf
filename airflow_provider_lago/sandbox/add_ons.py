"""Add-ons: what one-off invoices charge for."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox import taxes
from airflow_provider_lago.sandbox.answers import Answer, invalid, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.codes import CURRENCIES
from airflow_provider_lago.sandbox.resources import listed, must_be_new, must_find, require
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso
from airflow_provider_lago.sandbox.world import World

_CHANGEABLE = ("name", "code", "invoice_display_name", "amount_cents", "amount_currency", "description")


def _check(given: dict[str, Any]) -> None:
    errors = require(given, "name", "code", "amount_cents")
    if "amount_cents" not in errors and (not isinstance(given["amount_cents"], int) or given["amount_cents"] < 0):
        errors["amount_cents"] = ["value_is_out_of_range"]
    if given.get("amount_currency") not in CURRENCIES:
        errors["amount_currency"] = ["value_is_invalid"]
    if errors:
        raise invalid(errors)


def _shown(doc: Doc, world: World) -> Doc:
    return {**doc, "taxes": taxes.carried(doc["taxes"], world)}


def create_add_on(call: Call, world: World) -> Answer:
    """``POST /add_ons``."""
    given = call.root("add_on")
    _check(given)
    code = str(given["code"])
    must_be_new(world, "add_on", code)
    doc = {name: given.get(name) for name in _CHANGEABLE}
    doc.update(code=code, created_at=iso(world.now()))
    doc["taxes"] = taxes.replaced([], given.get("tax_codes"), world)
    return ok({"add_on": _shown(world.store.add("add_on", code, doc), world)})


def update_add_on(call: Call, world: World) -> Answer:
    """``PUT /add_ons/{code}``."""
    doc = must_find(world, "add_on", call.ids[0])
    given = call.root("add_on")
    changed = {**doc, **{name: given[name] for name in _CHANGEABLE if name in given}}
    _check(changed)
    changed["code"] = str(changed["code"])
    if changed["code"] != doc["code"]:
        must_be_new(world, "add_on", changed["code"])
    if isinstance(given.get("tax_codes"), list):
        changed["taxes"] = taxes.replaced(doc["taxes"], given["tax_codes"], world)
    world.store.save(changed, key=changed["code"])
    return ok({"add_on": _shown(changed, world)})


def delete_add_on(call: Call, world: World) -> Answer:
    """``DELETE /add_ons/{code}``."""
    doc = must_find(world, "add_on", call.ids[0])
    world.store.remove(doc)
    return ok({"add_on": _shown(doc, world)})


def show_add_on(call: Call, world: World) -> Answer:
    """``GET /add_ons/{code}``."""
    return ok({"add_on": _shown(must_find(world, "add_on", call.ids[0]), world)})


def list_add_ons(call: Call, world: World) -> Answer:
    """``GET /add_ons``."""
    return listed(call, world, "add_on", "add_ons", shown=_shown)
