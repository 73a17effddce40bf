"""
Deliver the records that another task returns.

What: a task returns a list of dicts with columns of its own; the operator maps them to Lago's fields and delivers them.

Why: the shortest way for a few records, such as the seats of each account once a day. Airflow stores what a task
returns in its database: use files for more than some thousand records.

Prerequisites: an Airflow connection ``lago_default``; in Lago, subscriptions with the ids below to a plan with a metric
``seats`` that reads the property ``seats``.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_lago.operators import LagoIngestEventsOperator


@task
def count_seats() -> list[dict[str, Any]]:
    """Stand in for a query: the same day gives the same records, so that a retry adds nothing."""
    return [
        {"account": {"id": "acme-2026", "plan": "team"}, "day": "2026-11-02", "active_users": 12},
        {"account": {"id": "globex-2026", "plan": "team"}, "day": "2026-11-02", "active_users": 7},
        {"account": {"id": "initech-2026", "plan": "solo"}, "day": "2026-11-02", "active_users": 1},
    ]


@dag(schedule=None, catchup=False, tags=["lago", "example"], doc_md=__doc__)
def ingest_from_task() -> None:
    LagoIngestEventsOperator(
        task_id="deliver",
        records=count_seats(),
        fields={"external_subscription_id": "account.id", "timestamp": "day"},
        constants={"code": "seats"},
        properties={"seats": "active_users"},
        transaction_id=["account.id", "day"],
    )


ingest_from_task()
