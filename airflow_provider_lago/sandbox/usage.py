"""``GET /customers/{external_id}/current_usage``: what the stored events amount to in the running period."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from airflow_provider_lago.sandbox.answers import Answer, invalid, not_allowed, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.expressions import plain
from airflow_provider_lago.sandbox.lifecycle import current_period
from airflow_provider_lago.sandbox.plan_overrides import plan_of
from airflow_provider_lago.sandbox.resources import must_find
from airflow_provider_lago.sandbox.store import Doc, EventRow
from airflow_provider_lago.sandbox.times import day_of, iso
from airflow_provider_lago.sandbox.world import World

# Values that do not look like this count as missing.
_NUMERIC = re.compile(r"-?\d+(\.\d+)?", re.ASCII)


def current_usage(call: Call, world: World) -> Answer:
    """The usage of one active subscription of a customer, charge by charge."""
    customer = must_find(world, "customer", call.ids[0])
    external_id = call.query.get("external_subscription_id")
    if not isinstance(external_id, str) or not external_id:
        raise invalid({"external_subscription_id": ["value_is_mandatory"]})
    active = [
        doc
        for doc in world.store.all("subscription", key=external_id)
        if doc["status"] == "active" and doc["lago_customer_id"] == customer["lago_id"]
    ]
    if not active:
        raise not_allowed("no_active_subscription")
    plan = plan_of(active[-1], world)
    first, last = current_period(active[-1], plan, world.now()) or (world.now(), world.now())
    wanted = call.query.get("billable_metric_code")
    world.store.index_usage()
    charges = [
        _charge_usage(charge, plan["amount_currency"], external_id, (first, last), world)
        for charge in plan["charges"]
        if wanted in (None, charge["billable_metric_code"])
    ]
    amount = sum(charge["amount_cents"] for charge in charges)
    return ok(
        {
            "customer_usage": {
                "from_datetime": iso(first),
                "to_datetime": iso(last),
                "issuing_date": str(day_of(last) + timedelta(days=1)),
                "currency": plan["amount_currency"],
                "amount_cents": amount,
                "total_amount_cents": amount,
                "taxes_amount_cents": 0,
                "lago_invoice_id": None,
                "charges_usage": charges,
            }
        }
    )


def _charge_usage(charge: Doc, currency: str, external_id: str, bounds: tuple[int, int], world: World) -> Doc:
    metric = world.store.get("billable_metric", charge["lago_billable_metric_id"]) or {}
    units, events = _measured(metric, external_id, bounds, world)
    return {
        "units": plain(units),
        "total_aggregated_units": plain(units),
        "events_count": events,
        "amount_cents": price(charge["charge_model"], charge["properties"], units, events),
        "amount_currency": currency,
        "pricing_unit_details": None,
        "charge": {
            "lago_id": charge["lago_id"],
            "charge_model": charge["charge_model"],
            "invoice_display_name": charge["invoice_display_name"],
        },
        "billable_metric": {
            "lago_id": metric["lago_id"],
            "name": metric["name"],
            "code": metric["code"],
            "aggregation_type": metric["aggregation_type"],
        },
        "filters": [],
        "grouped_usage": [],
    }


def _measured(metric: Doc, external_id: str, bounds: tuple[int, int], world: World) -> tuple[Decimal, int]:
    """Units and number of events of a metric in a period."""
    # The period's last second belongs to it to its end.
    where = ("external_subscription_id = ?", "code = ?", "timestamp >= ?", "timestamp < ?")
    values = (external_id, metric["code"], bounds[0], bounds[1] + 1_000_000)
    if metric["aggregation_type"] == "count_agg" and world.store.flavour == "postgres":
        count = world.store.count_events(where, values)
        return Decimal(count), count
    rows = world.store.events(where, values, order="timestamp, seq")
    if world.store.flavour == "clickhouse":
        # The same code, subscription, id and millisecond is one event there, and the last one wins.
        rows = list({(row.transaction_id, row.timestamp // 1000): row for row in rows}.values())
    return aggregate(metric["aggregation_type"], metric["field_name"], rows, bounds), len(rows)


def aggregate(kind: str, field_name: str | None, rows: Sequence[EventRow], bounds: tuple[int, int]) -> Decimal:
    """
    Units of a metric.

    :param rows: the period's events, oldest first.
    :param bounds: the period, over which a weighted sum is spread.
    """
    if kind == "count_agg":
        return Decimal(len(rows))
    held = [(row.timestamp, msgspec.json.decode(row.properties)) for row in rows]
    if kind == "unique_count_agg":
        return Decimal(len(_present(field_name, [properties for _, properties in held])))
    values = [
        (at, Decimal(str(value)))
        for at, value in ((at, properties.get(field_name or "")) for at, properties in held)
        if not isinstance(value, bool) and _NUMERIC.fullmatch(str(value))
    ]
    numbers = [value for _, value in values]
    if kind == "max_agg":
        return max(numbers, default=Decimal(0))
    if kind == "latest_agg":
        return numbers[-1] if numbers else Decimal(0)
    if kind == "weighted_sum_agg":
        length = Decimal(bounds[1] + 1_000_000 - bounds[0])
        return sum((value * (bounds[1] + 1_000_000 - at) / length for at, value in values), Decimal(0))
    return sum(numbers, Decimal(0))


def _present(field_name: str | None, held: list[dict[str, Any]]) -> set[str]:
    present: set[str] = set()
    for properties in held:
        value = properties.get(field_name or "")
        if value is None:
            continue
        change = present.discard if properties.get("operation_type") == "remove" else present.add
        change(str(value))
    return present


def price(model: str, properties: dict[str, Any], units: Decimal, events: int) -> int:
    """Cents for units under a charge model; a model the sandbox does not know costs nothing."""
    pricing = _MODELS.get(model)
    if pricing is None:
        return 0
    return int((pricing(properties, units, events) * 100).to_integral_value(rounding=ROUND_HALF_UP))


def _decimal(value: object) -> Decimal:
    text = str(value)
    return Decimal(text) if _NUMERIC.fullmatch(text) else Decimal(0)


def _standard(properties: dict[str, Any], units: Decimal, _events: int) -> Decimal:
    return units * _decimal(properties.get("amount"))


def _package(properties: dict[str, Any], units: Decimal, _events: int) -> Decimal:
    billed = max(units - _decimal(properties.get("free_units")), Decimal(0))
    return -(-billed // (_decimal(properties.get("package_size")) or 1)) * _decimal(properties.get("amount"))


def _percentage(properties: dict[str, Any], units: Decimal, events: int) -> Decimal:
    share = units * _decimal(properties.get("rate")) / 100
    free = int(_decimal(properties.get("free_units_per_events")))
    return share + _decimal(properties.get("fixed_amount")) * max(events - free, 0)


def _graduated(properties: dict[str, Any], units: Decimal, _events: int) -> Decimal:
    total, reached = Decimal(0), Decimal(0)
    for step in properties.get("graduated_ranges") or []:
        if units <= reached:
            break
        top = units if step.get("to_value") is None else min(units, _decimal(step["to_value"]))
        total += _decimal(step.get("flat_amount")) + (top - reached) * _decimal(step.get("per_unit_amount"))
        reached = top
    return total


def _volume(properties: dict[str, Any], units: Decimal, _events: int) -> Decimal:
    for step in properties.get("volume_ranges") or []:
        if units > 0 and (step.get("to_value") is None or units <= _decimal(step["to_value"])):
            return _decimal(step.get("flat_amount")) + units * _decimal(step.get("per_unit_amount"))
    return Decimal(0)


_MODELS: dict[str, Callable[[dict[str, Any], Decimal, int], Decimal]] = {
    "standard": _standard,
    "package": _package,
    "percentage": _percentage,
    "graduated": _graduated,
    "volume": _volume,
}
