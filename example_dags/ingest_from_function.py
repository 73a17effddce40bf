"""
Deliver the records that a function yields.

What: ``@task.lago_ingest_events`` makes a delivery of a function. The function asks for usage page by page and yields
the records of each page; they are on their way to Lago while it asks for the next one.

Why: the way for usage behind an API or a query. It is never held in memory as a whole and never passes through
Airflow's database, and the function may use hooks, connections and Variables as any task may.

Prerequisites: an Airflow connection ``lago_default``; in Lago, subscriptions ``acme-2026`` and ``globex-2026`` to a
plan with a metric ``api_calls`` that counts events. ``fetch`` stands in for your API.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag

from airflow_provider_lago.decorators.events import lago_ingest_events_task

FOLDER = os.environ.get("LAGO_DEMO_FOLDER") or str(Path(tempfile.gettempdir()) / "lago-demo")
PAGES = 12


def fetch(day: str, page: int) -> dict[str, Any]:
    """Stand in for an API: the same page of the same day holds the same calls, so that a retry adds nothing."""
    calls = [
        {
            "id": f"{day}-{page * 50 + n}",
            "account": ("acme-2026", "globex-2026")[n % 2],
            "at": f"{day}T{page:02}:{n:02}:00Z",
            "endpoint": "/v1/chat",
        }
        for n in range(50)
    ]
    return {"calls": calls, "next": page + 1 if page + 1 < PAGES else None}


# Where this provider is installed, this is @task.lago_ingest_events(...), with ``task`` from airflow.sdk.
@lago_ingest_events_task(
    fields={"transaction_id": "id", "external_subscription_id": "account", "timestamp": "at"},
    constants={"code": "api_calls"},
    properties=["endpoint"],
    report_path="{{ params.folder }}/calls-report",
)
def deliver_calls(day: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the calls of a day, a page at a time."""
    page: int | None = 0
    while page is not None:
        answer = fetch(day, page)
        yield answer["calls"]
        page = answer["next"]


@dag(
    schedule=None,
    catchup=False,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={
        "day": Param("2026-11-02", type="string", format="date", description="The day whose calls are delivered."),
        "folder": Param(FOLDER, type="string", description="Where the report files are written."),
    },
)
def ingest_from_function() -> None:
    deliver_calls("{{ params.day }}")


ingest_from_function()
