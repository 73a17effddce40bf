"""Customers in accounting, tax and CRM systems: ``integration_customers``."""

from __future__ import annotations

import uuid
from typing import Any

from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.world import World

_OF_TYPE = {"netsuite": ("subsidiary_id",), "hubspot": ("targeted_object", "email")}


def add_integration(kind: str, code: str, world: World) -> Doc:
    """A system that the organization is connected to; in Lago, people set it up in the web interface."""
    return world.store.add("integration", f"{kind}/{code}", {"kind": kind, "code": code})


def linked(held: list[Doc], given: object, world: World) -> list[Doc]:
    """
    Replace the links by ``id``: those whose id is not given go first, and come back as new ones.

    An item whose system the organization does not have is passed over without a word.
    """
    if not isinstance(given, list):
        return held
    items = [item for item in given if isinstance(item, dict)]
    ids = {str(item["id"]) for item in items if item.get("id") is not None}
    rows = {(row["type"], row["integration_code"]): row for row in held if row["lago_id"] in ids}
    for item in items:
        kind, code = str(item.get("integration_type")), str(item.get("integration_code"))
        row = rows.get((kind, code))
        if world.store.find("integration", f"{kind}/{code}") is None:
            continue
        if row is None and not (item.get("sync_with_provider") or item.get("external_customer_id")):
            continue
        rows[kind, code] = _row(row, item, kind, code)
    return list(rows.values())


def _row(row: Doc | None, item: dict[str, Any], kind: str, code: str) -> Doc:
    names = ("external_customer_id", "sync_with_provider", *_OF_TYPE.get(kind, ()))
    changed = row or {
        "lago_id": str(uuid.uuid4()),
        "type": kind,
        "integration_code": code,
        **dict.fromkeys(names),
    }
    changed = {**changed, **{name: item[name] for name in names if name in item}}
    if changed["external_customer_id"] is None:
        # The other system gives an id; Lago waits for it in the background.
        changed["external_customer_id"] = f"{kind}_{uuid.uuid4().hex[:12]}"
    return changed
