"""Current usage is computed from the stored events."""

from __future__ import annotations

import time

import pytest

from airflow_provider_lago.sandbox.periods import period
from airflow_provider_lago.sandbox.times import iso, parse_iso
from airflow_provider_lago.sandbox.usage import price


def seed(lago, aggregation, **metric):
    lago.sandbox.add_metric("m", aggregation, **metric)
    lago.sandbox.add_plan("p", metrics=["m"], price="0.5")
    lago.sandbox.add_subscription("s1", "c1", "p", subscription_at="2024-01-01")


def send(lago, *values, **fields):
    now = time.time() - 1
    events = [
        {
            "transaction_id": f"t{n}",
            "external_subscription_id": "s1",
            "code": "m",
            "timestamp": now + n / 1000,
            "properties": {"v": value, **fields},
        }
        for n, value in enumerate(values)
    ]
    assert lago.batch(*events).status == 200


def usage(lago):
    return lago.get("/customers/c1/current_usage?external_subscription_id=s1").json["customer_usage"]


@pytest.mark.parametrize(
    ("aggregation", "units"),
    [("count_agg", "5.0"), ("sum_agg", "8.5"), ("max_agg", "4.5"), ("latest_agg", "1.0"), ("unique_count_agg", "5.0")],
)
def test_units_of_each_aggregation(lago, aggregation, units):
    seed(lago, aggregation, field_name="v")
    send(lago, "4.5", 3, "abc", "1e-7", 1)
    charge = usage(lago)["charges_usage"][0]
    assert (charge["units"], charge["events_count"]) == (units, 5)
    assert charge["amount_cents"] == round(float(units) * 50)


def test_only_the_running_period_of_the_subscription_counts(lago):
    seed(lago, "count_agg")
    send(lago, 1, 2)
    lago.event(transaction_id="old", code="m", timestamp=1705000000)
    lago.event(transaction_id="other", code="m", external_subscription_id="s2", timestamp=time.time())
    assert usage(lago)["charges_usage"][0]["events_count"] == 2


def test_clickhouse_counts_the_same_event_once_and_another_timestamp_twice(clickhouse):
    seed(clickhouse, "count_agg")
    now = time.time()
    for stamp in (now, now, now - 2):
        clickhouse.event(code="m", timestamp=stamp)
    assert usage(clickhouse)["charges_usage"][0]["events_count"] == 2


def test_usage_needs_an_active_subscription(lago):
    seed(lago, "count_agg")
    assert lago.get("/customers/none/current_usage?external_subscription_id=s1").status == 404
    answer = lago.get("/customers/c1/current_usage?external_subscription_id=none")
    assert (answer.status, answer.json["code"]) == (405, "no_active_subscription")


@pytest.mark.parametrize(
    ("interval", "billing", "first", "last"),
    [
        ("weekly", "calendar", "2024-05-13T00:00:00Z", "2024-05-19T23:59:59Z"),
        ("monthly", "calendar", "2024-05-01T00:00:00Z", "2024-05-31T23:59:59Z"),
        ("monthly", "anniversary", "2024-04-30T00:00:00Z", "2024-05-30T23:59:59Z"),
        ("quarterly", "calendar", "2024-04-01T00:00:00Z", "2024-06-30T23:59:59Z"),
        ("quarterly", "anniversary", "2024-04-30T00:00:00Z", "2024-07-30T23:59:59Z"),
        ("semiannual", "calendar", "2024-01-01T00:00:00Z", "2024-06-30T23:59:59Z"),
        ("yearly", "calendar", "2024-01-01T00:00:00Z", "2024-12-31T23:59:59Z"),
        ("yearly", "anniversary", "2024-01-31T00:00:00Z", "2025-01-30T23:59:59Z"),
    ],
)
def test_billing_periods(interval, billing, first, last):
    found = period(interval, billing, parse_iso("2023-01-31"), parse_iso("2024-05-15T12:00:00Z"))
    assert tuple(map(iso, found)) == (first, last)


@pytest.mark.parametrize(
    ("model", "properties", "cents"),
    [
        ("standard", {"amount": "0.015"}, 38),
        ("package", {"amount": "2", "package_size": 10, "free_units": 5}, 400),
        ("percentage", {"rate": "10", "fixed_amount": "0.1"}, 280),
        (
            "graduated",
            {
                "graduated_ranges": [
                    {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "2"},
                    {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
                ]
            },
            1950,
        ),
        (
            "volume",
            {
                "volume_ranges": [
                    {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "0"},
                    {"from_value": 11, "to_value": None, "per_unit_amount": "1", "flat_amount": "3"},
                ]
            },
            2800,
        ),
        ("dynamic", {}, 0),
    ],
)
def test_prices(model, properties, cents):
    from decimal import Decimal

    assert price(model, properties, Decimal(25), 3) == cents
