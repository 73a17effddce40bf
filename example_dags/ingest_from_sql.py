"""
Deliver the rows of a database to Lago.

What: a first task stands in for whatever writes usage into your database; the operator reads one day of it with a
SELECT and delivers the rows. The SELECT names its columns like Lago's fields, so nothing has to be mapped. A row
without a region is delivered without it, as NULL is a missing value.

Why: rows are read while they are delivered, in a read-only transaction: neither memory nor Airflow's database holds
them all. The day is a parameter that the driver binds, and never becomes part of the SQL.

Prerequisites: ``pip install 'airflow-provider-lago[sql]' apache-airflow-providers-sqlite``; an Airflow connection
``lago_default``, and one ``usage_db`` of type ``sqlite`` (with PostgreSQL or MySQL the placeholder is ``%(day)s``); in
Lago, a subscription ``acme-2026`` to a plan with a metric ``traffic`` that sums up the property ``gb``.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseHook, Param, dag, task

from airflow_provider_lago.operators import LagoIngestEventsOperator

CONNECTION = "usage_db"

SELECT = """
    SELECT
        id AS transaction_id,
        account AS external_subscription_id,
        measured_at AS timestamp,
        gb,
        region
    FROM lago_demo_traffic
    WHERE day = :day
"""


@task
def measure() -> None:
    """Write the traffic of two days; that of the first hour is of no region."""
    rows = [
        (f"traffic-{day}-{hour:02}", "acme-2026", day, f"{day}T{hour:02}:00:00Z", f"{hour}.25", "eu" if hour else None)
        for day in ("2026-11-02", "2026-11-03")
        for hour in range(24)
    ]
    connection: Any = BaseHook.get_connection(CONNECTION)
    hook = connection.get_hook()
    hook.run("DROP TABLE IF EXISTS lago_demo_traffic")
    hook.run("CREATE TABLE lago_demo_traffic (id TEXT, account TEXT, day TEXT, measured_at TEXT, gb TEXT, region TEXT)")
    hook.insert_rows("lago_demo_traffic", rows)


@dag(
    schedule=None,
    catchup=False,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={"day": Param("2026-11-02", type="string", format="date", description="The day to deliver.")},
)
def ingest_from_sql() -> None:
    deliver = LagoIngestEventsOperator(
        task_id="deliver",
        sql=SELECT,
        sql_conn_id=CONNECTION,
        sql_parameters={"day": "{{ params.day }}"},
        constants={"code": "traffic"},
        properties=["gb", "region?"],
    )
    measure() >> deliver


ingest_from_sql()
