"""
Read the events of an interval from Lago and add them up.

What: ``extract`` reads the events of the run's data interval, page by page, into files of JSON lines; ``add_up`` reads
the files line by line and sums up the property ``tokens`` by subscription. With the params ``start`` and ``end`` a run
takes another interval, for a backfill by hand.

Why: intervals that touch share no event and miss none, so each run adds exactly its own. An interval in the past does
not move while it is read. When the task is retried, it goes on with the page where it stopped. Sums are decimals: the
files hold every digit that Lago sent.

Prerequisites: an Airflow connection ``lago_default``; events with the code ``tokens``. Events that reach Lago after
their interval was read are in no file: let the schedule run late enough behind them.
"""

from __future__ import annotations

import glob
import json
import os
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_lago.operators import LagoExtractOperator

FOLDER = os.environ.get("LAGO_DEMO_FOLDER") or str(Path(tempfile.gettempdir()) / "lago-demo")


@task
def add_up(extracted: Any) -> dict[str, str]:
    """Return the tokens of each subscription, in the files that the summary names."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for path in sorted(glob.glob(extracted["files"])):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line, parse_float=Decimal)
                sums[event["external_subscription_id"]] += Decimal(event["properties"]["tokens"])
    return {subscription: str(total) for subscription, total in sorted(sums.items())}


@dag(
    schedule="@daily",
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={
        "folder": Param(FOLDER, type="string", description="Where the files are written."),
        "start": Param("", type="string", description="First time to read; empty for the run's data interval."),
        "end": Param("", type="string", description="First time not to read; empty for the run's data interval."),
    },
)
def extract_events() -> None:
    extract = LagoExtractOperator(
        task_id="extract",
        endpoint="events",
        filters={"code": "tokens"},
        timestamp_from="{{ params.start or data_interval_start }}",
        timestamp_to="{{ params.end or data_interval_end }}",
        path="{{ params.folder }}/events/{{ run_id }}",
        retries=3,
    )
    add_up(extract.output)


extract_events()
