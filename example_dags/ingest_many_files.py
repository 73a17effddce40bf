"""
Deliver many files, each by a task of its own, and check the books in the end.

What: a task lists the files; the operator is mapped over them, so that each file has a task instance with a report
folder, a log and retries of its own; a last task adds up the summaries and fails if a record is unaccounted for.

Why: files are delivered side by side, and when one of them is broken the others are in Lago nevertheless, and only that
one is cleared and run again.

Prerequisites: an Airflow connection ``lago_default``; in Lago, subscriptions ``acme-0`` to ``acme-4`` to a plan with a
metric ``storage`` that sums up the property ``gb``. Workers must share the folder of the files.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Param, dag, task

from airflow_provider_lago.operators import LagoIngestEventsOperator

FOLDER = os.environ.get("LAGO_DEMO_FOLDER") or str(Path(tempfile.gettempdir()) / "lago-demo")
OUTCOMES = ("accepted", "duplicate", "rejected", "skipped")

log = logging.getLogger(__name__)


@task
def export(folder: str) -> list[str]:
    """Write a file for each account, and list them; stands in for whatever writes yours."""
    target = Path(folder, "storage")
    target.mkdir(parents=True, exist_ok=True)
    for account in range(5):
        lines = [
            json.dumps(
                {"account": f"acme-{account}", "hour": f"2026-11-02T{hour:02}:00:00Z", "gb": 10 * account + hour}
            )
            for hour in range(24)
        ]
        if account == 3:
            lines[7] = lines[7][:20]  # a line that was cut while it was written
        (target / f"acme-{account}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sorted(str(path) for path in target.glob("*.jsonl"))


@task
def check_the_books(summaries: Any) -> dict[str, int]:
    """Add up what became of all records; nothing may be missing."""
    whole = dict.fromkeys(("read", *OUTCOMES), 0)
    for summary in summaries:
        for name in whole:
            whole[name] += summary[name]
    log.info("All files together: %s", whole)
    if whole["read"] != sum(whole[outcome] for outcome in OUTCOMES):
        raise AirflowFailException(f"Records are unaccounted for: {whole}")
    return whole


@dag(
    schedule=None,
    catchup=False,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={"folder": Param(FOLDER, type="string", description="Where the usage and the report files are written.")},
)
def ingest_many_files() -> None:
    folder = "{{ params.folder }}"
    deliver = LagoIngestEventsOperator.partial(
        task_id="deliver",
        fields={"external_subscription_id": "account", "timestamp": "hour"},
        constants={"code": "storage"},
        properties=["gb"],
        transaction_id=["account", "hour"],
        max_rejected=1,
        report_path=f"{folder}/storage-report",
        # Two files at a time: all of them share Lago's rate limit.
        max_active_tis_per_dagrun=2,
    ).expand(files=export(folder))
    check_the_books(deliver.output)


ingest_many_files()
