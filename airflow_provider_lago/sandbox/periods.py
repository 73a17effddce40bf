"""Billing periods of a subscription: calendar ones, and ones that follow the subscription's own day."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta

from airflow_provider_lago.sandbox.times import SECOND, day_of, of_datetime

_MONTHS = {"monthly": 1, "quarterly": 3, "semiannual": 6, "yearly": 12}
_PER_YEAR = {"weekly": 52, "monthly": 12, "quarterly": 4, "semiannual": 2, "yearly": 1}

INTERVALS = frozenset(_PER_YEAR)


def yearly_amount(amount_cents: int, interval: str) -> int:
    """What a plan costs in a year: the measure by which Lago tells an upgrade from a downgrade."""
    return amount_cents * _PER_YEAR[interval]


def _on_day(year: int, month_index: int, day: int) -> date:
    year, month = year + month_index // 12, month_index % 12 + 1
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))


def _start_of_day(day: date) -> int:
    return of_datetime(datetime(day.year, day.month, day.day, tzinfo=UTC))


def period(interval: str, billing_time: str, anchor: int, now: int) -> tuple[int, int]:
    """
    First and last second of the period that holds an instant.

    :param interval: the plan's interval.
    :param billing_time: ``calendar`` or ``anniversary``.
    :param anchor: ``subscription_at``, whose day an anniversary follows.
    :param now: the instant, in microseconds.
    """
    today, first = day_of(now), day_of(anchor)
    if interval == "weekly":
        weekday = first.weekday() if billing_time == "anniversary" else 0
        start = today - timedelta(days=(today.weekday() - weekday) % 7)
        return _start_of_day(start), _start_of_day(start + timedelta(days=7)) - SECOND
    months = _MONTHS[interval]
    if billing_time == "anniversary":
        day, offset = first.day, (first.month - 1) % months
    else:
        day, offset = 1, 0
    index = today.month - 1
    index -= (index - offset) % months
    start = _on_day(today.year, index, day)
    if start > today:
        index -= months
        start = _on_day(today.year, index, day)
    return _start_of_day(start), _start_of_day(_on_day(today.year, index + months, day)) - SECOND
