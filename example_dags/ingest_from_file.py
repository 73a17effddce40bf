"""
Deliver the files of a folder to Lago.

What: a first task stands in for whatever exports your usage and writes JSON lines; the operator delivers them. The
records already have the names of Lago's fields, so nothing has to be mapped. One of them has no number of tokens:
it is refused before it is sent, written to ``rejected.jsonl`` with the reason, and tolerated by ``max_rejected``.

Why: files are the way for many records. They are read line by line and never pass through Airflow's database.

Prerequisites: an Airflow connection ``lago_default``; in Lago, a subscription ``acme-2026`` to a plan with a metric
``tokens`` that sums up the property ``tokens``. Lago takes events of subscriptions and metrics that it does not know
without a word, and bills nothing for them.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_lago.operators import LagoIngestEventsOperator

FOLDER = os.environ.get("LAGO_DEMO_FOLDER") or str(Path(tempfile.gettempdir()) / "lago-demo")


@task
def export(folder: str) -> None:
    """Write the usage of two hours; the 7th record lacks its number of tokens."""
    Path(folder, "usage").mkdir(parents=True, exist_ok=True)
    for hour in (9, 10):
        lines = []
        for minute in range(60):
            record = {
                "transaction_id": f"acme-2026-11-02-{hour:02}-{minute:02}",
                "external_subscription_id": "acme-2026",
                "timestamp": f"2026-11-02T{hour:02}:{minute:02}:00Z",
                "model": "large",
                "tokens": 1000 + minute,
            }
            if (hour, minute) == (9, 6):
                record["tokens"] = None
            lines.append(json.dumps(record) + "\n")
        Path(folder, "usage", f"{hour:02}.jsonl").write_text("".join(lines), encoding="utf-8")


@dag(
    schedule=None,
    catchup=False,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={"folder": Param(FOLDER, type="string", description="Where the usage and the report files are written.")},
)
def ingest_from_file() -> None:
    folder = "{{ params.folder }}"
    deliver = LagoIngestEventsOperator(
        task_id="deliver",
        files=f"{folder}/usage/*.jsonl",
        constants={"code": "tokens"},
        properties=["tokens", "model"],
        max_rejected="1%",
        report_path=f"{folder}/usage-report",
    )
    export(folder) >> deliver


ingest_from_file()
