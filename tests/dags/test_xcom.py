"""Records by XCom: many of them, and through the backend that keeps large ones in files or an object store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.airflow_runs import new_dag, run
from support.deliveries import usage

from airflow_provider_lago.operators import LagoIngestEventsOperator

PROJECT = Path(__file__).parents[2]
MANY = 20_000

_RUN = """
import sys

from airflow.providers.common.compat.sdk import task
from airflow.utils.db import initdb
from support.airflow_runs import new_dag, run
from support.deliveries import usage

from airflow_provider_lago.operators import LagoIngestEventsOperator

initdb()
with new_dag() as dag:

    @task
    def produce(first):
        return usage(1_000, first)

    LagoIngestEventsOperator(task_id="one", records=produce.override(task_id="whole")(0))
    LagoIngestEventsOperator(task_id="mapped", records=produce.expand(first=[1_000, 2_000]))
outcome = run(dag)
assert outcome.state == "success", outcome.state
"""


@pytest.fixture
def sandbox(lago_sandbox, lago_sandbox_connection):
    return lago_sandbox


def test_what_comes_by_xcom_is_not_rendered_element_by_element(sandbox):
    """A literal list is: at about a millisecond for each element."""
    from airflow.providers.common.compat.sdk import task

    rendered = []

    class Counting(LagoIngestEventsOperator):
        def render_template(self, content, *args, **kwargs):
            rendered.append(1)
            return super().render_template(content, *args, **kwargs)

    with new_dag() as dag:

        @task
        def produce():
            return usage(MANY)

        Counting(task_id="deliver", records=produce())
    outcome = run(dag)
    assert outcome.returned("deliver")["accepted"] == MANY
    assert sandbox.count() == MANY
    assert 0 < len(rendered) < 200


def test_the_backend_that_keeps_large_xcoms_in_files_gives_the_same_records(sandbox, tmp_path):
    files = tmp_path / "xcoms"
    files.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        env={
            **os.environ,
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}",
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
            "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{files}",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "10000",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert len([path for path in files.rglob("*") if path.is_file()]) == 3
    assert {event["transaction_id"] for event in sandbox.events()} == {f"t{n}" for n in range(3_000)}
    assert sandbox.count() == 3_000
