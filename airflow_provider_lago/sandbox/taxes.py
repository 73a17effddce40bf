"""Taxes, and what of them other objects carry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, invalid, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.resources import decimal, listed, must_be_new, must_find, require
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso
from airflow_provider_lago.sandbox.world import World


def _check(given: dict[str, Any]) -> None:
    errors = require(given, "name", "code", "rate")
    if "rate" not in errors and decimal(given["rate"]) is None:
        errors["rate"] = ["not_a_number"]
    if errors:
        raise invalid(errors)


def create_tax(call: Call, world: World) -> Answer:
    """``POST /taxes``."""
    given = call.root("tax")
    _check(given)
    must_be_new(world, "tax", str(given["code"]))
    doc = {
        "name": given["name"],
        "code": str(given["code"]),
        "description": given.get("description"),
        "rate": float(given["rate"]),
        "applied_to_organization": bool(given.get("applied_to_organization", False)),
        "created_at": iso(world.now()),
    }
    return ok({"tax": world.store.add("tax", doc["code"], doc)})


def update_tax(call: Call, world: World) -> Answer:
    """``PUT /taxes/{code}``."""
    doc = must_find(world, "tax", call.ids[0])
    given = call.root("tax")
    changeable = ("name", "code", "description", "rate", "applied_to_organization")
    changed = {**doc, **{name: given[name] for name in changeable if name in given}}
    _check(changed)
    changed.update(code=str(changed["code"]), rate=float(changed["rate"]))
    if changed["code"] != doc["code"]:
        must_be_new(world, "tax", changed["code"])
    world.store.save(changed, key=changed["code"])
    return ok({"tax": changed})


def delete_tax(call: Call, world: World) -> Answer:
    """``DELETE /taxes/{code}``: it is gone from all that carried it."""
    doc = must_find(world, "tax", call.ids[0])
    world.store.remove(doc)
    return ok({"tax": doc})


def show_tax(call: Call, world: World) -> Answer:
    """``GET /taxes/{code}``."""
    return ok({"tax": must_find(world, "tax", call.ids[0])})


def list_taxes(call: Call, world: World) -> Answer:
    """``GET /taxes``."""
    return listed(call, world, "tax", "taxes")


def replaced(held: list[str], codes: object, world: World) -> list[str]:
    """
    The ids of the taxes with these codes, those that are held already first.

    :raises Refusal: 404 if one is not there.
    """
    asked = dict.fromkeys(str(code) for code in codes) if isinstance(codes, list) else {}
    wanted = [must_find(world, "tax", code)["lago_id"] for code in asked]
    return [lago_id for lago_id in held if lago_id in wanted] + [lago_id for lago_id in wanted if lago_id not in held]


def carried(ids: Iterable[str], world: World) -> list[Doc]:
    """The taxes with these ids that are still there."""
    return [doc for lago_id in ids if (doc := world.store.present("tax", lago_id)) is not None]
