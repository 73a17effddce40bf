"""Plans of single subscriptions: copies with other prices, behind the code of the plan they were copied from."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.sandbox.periods import yearly_amount
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.world import World

_KIND = "plan_override"
_OWN = ("amount_cents", "amount_currency", "description", "invoice_display_name", "name", "trial_period")
_OF_CHARGES = ("min_amount_cents", "invoice_display_name", "properties", "filters")
_UNITS = {"id", "units", "apply_units_immediately"}


def plan_of(subscription: Doc, world: World) -> Doc:
    """The plan a subscription sits on, overridden or not; also one that was deleted since."""
    lago_id = subscription["plan_id"]
    return world.store.get("plan", lago_id) or world.store.get(_KIND, lago_id) or {}


def asked(given: dict[str, Any]) -> dict[str, Any] | None:
    """
    The overrides of a request.

    Other units of fixed charges alone do not make another plan.
    """
    overrides = given.get("plan_overrides")
    return overrides if isinstance(overrides, dict) else None


def _only_units(overrides: dict[str, Any]) -> bool:
    fixed = overrides.get("fixed_charges")
    items = fixed if isinstance(fixed, list) else []
    return overrides.keys() == {"fixed_charges"} and all(item.keys() <= _UNITS for item in items)


def overridden(plan: Doc, overrides: dict[str, Any] | None, world: World) -> Doc:
    """The plan for a new subscription: the plan itself, or a child of it."""
    if overrides is None or _only_units(overrides):
        return plan
    child = {key: value for key, value in plan.items() if key != "lago_id"}
    return world.store.add(_KIND, plan["code"], _changed({**child, "parent_id": plan["lago_id"]}, overrides))


def override_again(subscription: Doc, overrides: dict[str, Any], world: World) -> None:
    """What an update does: it changes the child if there is one, and else puts one in place of the plan."""
    plan = plan_of(subscription, world)
    if plan["parent_id"] is None:
        subscription["plan_id"] = overridden(plan, overrides, world)["lago_id"]
    else:
        world.store.save(_changed(plan, overrides))


def _changed(plan: Doc, overrides: dict[str, Any]) -> Doc:
    wanted = overrides.get("charges")
    changes = {item["id"]: item for item in wanted if "id" in item} if isinstance(wanted, list) else {}
    charges = [
        {**charge, **{key: item for key, item in changes.get(charge["lago_id"], {}).items() if key in _OF_CHARGES}}
        for charge in plan["charges"]
    ]
    return {**plan, **{name: overrides[name] for name in _OWN if name in overrides}, "charges": charges}


def yearly(plan: Doc, overrides: dict[str, Any] | None = None) -> int:
    """What a plan costs in a year, at the price that is asked for."""
    asked_cents = (overrides or {}).get("amount_cents")
    cents = plan["amount_cents"] if asked_cents is None else int(asked_cents)
    return yearly_amount(cents, plan["interval"])
