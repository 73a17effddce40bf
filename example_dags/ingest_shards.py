"""
Deliver big files by several tasks at a time, and get one summary of them all.

What: a task divides the files among four shards, between two lines; the operator is mapped over the shards, each of
which has a task instance with a checkpoint, a report folder, a log and retries of its own; a last task adds up the
summaries.

Why: one task is as fast as Lago answers. Where one worker's processor or network is the limit instead, shards run on
as many workers as Airflow's executor has.

Prerequisites: an Airflow connection ``lago_default``; in Lago, subscriptions ``acme-0`` to ``acme-4`` to a plan with a
metric ``storage`` that sums up the property ``gb``. Workers must share the folder of the files, or read them from an
object store.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_lago.operators import LagoIngestEventsOperator
from airflow_provider_lago.sharding import plan_shards, sum_summaries

FOLDER = os.environ.get("LAGO_DEMO_FOLDER") or str(Path(tempfile.gettempdir()) / "lago-demo")


@task
def export(folder: str) -> str:
    """Write the usage of a month; stands in for whatever writes yours."""
    target = Path(folder, "month")
    target.mkdir(parents=True, exist_ok=True)
    for account in range(5):
        rows = [
            f"acme-{account},2026-11-{hour // 24 + 1:02}T{hour % 24:02}:00:00Z,{10 * account + hour % 24}.5"
            for hour in range(30 * 24)
        ]
        (target / f"acme-{account}.csv").write_text("\n".join(["account,hour,gb", *rows]) + "\n", encoding="utf-8")
    return str(target / "*.csv")


@dag(
    schedule=None,
    catchup=False,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={"folder": Param(FOLDER, type="string", description="Where the usage and the report files are written.")},
)
def ingest_shards() -> None:
    folder = "{{ params.folder }}"
    shards = task(plan_shards)(export(folder), shards=4, requests_per_second=40)
    deliver = LagoIngestEventsOperator.partial(
        task_id="deliver",
        fields={"external_subscription_id": "account", "timestamp": "hour"},
        constants={"code": "storage"},
        properties=["gb"],
        transaction_id=["account", "hour"],
        report_path=f"{folder}/month-report",
    ).expand_kwargs(shards)
    task(sum_summaries)(deliver.output)


ingest_shards()
