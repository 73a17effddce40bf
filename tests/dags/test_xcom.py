"""Records that other tasks hand on: what XCom makes of them, in Airflow's database and in an object store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import task
from support.airflow_runs import new_dag, run
from support.deliveries import usage

from airflow_provider_lago.operators import LagoIngestEventsOperator

BACKEND = "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"

MANY = 20_000

#: Airflow picks the backend when it is imported, so that only a new process can have another one.
STORED = """
import sys
from airflow.utils.db import initdb
initdb()
from airflow.providers.common.compat.sdk import task
from support.airflow_runs import new_dag, run
from support.deliveries import usage
from airflow_provider_lago.operators import LagoIngestEventsOperator

with new_dag() as dag:

    @task
    def many():
        return usage(300)

    @task
    def some(first):
        return usage(100, first)

    LagoIngestEventsOperator(task_id="deliver", records=many())
    LagoIngestEventsOperator(task_id="together", records=some.expand(first=[300, 400]))
outcome = run(dag)
sys.exit(outcome.state != "success")
"""


@pytest.fixture
def sandbox(lago_sandbox, lago_sandbox_connection):
    return lago_sandbox


def ids(sandbox):
    return sorted(event["transaction_id"] for event in sandbox.events())


def test_a_dict_of_another_task_is_one_record(sandbox):
    with new_dag() as dag:

        @task
        def produce():
            return usage(1)[0]

        LagoIngestEventsOperator(task_id="deliver", records=produce())
    assert run(dag).returned("deliver")["accepted"] == 1
    assert ids(sandbox) == [usage(1)[0]["transaction_id"]]


def test_texts_of_another_task_are_not_rendered_as_templates(sandbox):
    """What is measured may look like a template; it is billed as it is, and costs no rendering."""
    with new_dag() as dag:

        @task
        def produce():
            return [{**usage(1)[0], "properties": {"path": "{{ ds }}"}}]

        LagoIngestEventsOperator(task_id="deliver", records=produce())
    assert run(dag).state == "success"
    assert sandbox.events()[0]["properties"] == {"path": "{{ ds }}"}


def test_a_delivery_is_mapped_over_lists_of_another_task(sandbox):
    with new_dag() as dag:

        @task
        def produce():
            return [usage(20), usage(30, 20)]

        LagoIngestEventsOperator.partial(task_id="deliver").expand(records=produce())
    outcome = run(dag)
    assert [outcome.returned("deliver", n)["accepted"] for n in range(2)] == [20, 30]
    assert ids(sandbox) == sorted(event["transaction_id"] for event in usage(50))


def test_a_task_that_yields_hands_on_nothing_and_the_delivery_says_so(sandbox, caplog, capfd):
    with new_dag() as dag:

        @task
        def produce():
            yield from usage(3)

        LagoIngestEventsOperator(task_id="deliver", records=produce())
    try:
        state = run(dag).state
        said = caplog.text + "".join(capfd.readouterr())
    except Exception as error:  # noqa: BLE001 - 2.11's dag.test() lets out whatever a task raises
        state, said = "failed", str(error)
    assert state == "failed"
    assert "an upstream task may have returned None" in said
    assert sandbox.count() == 0


def test_what_comes_by_xcom_is_not_rendered_element_by_element(sandbox):
    """A literal list is: at about a millisecond for each element."""
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


def test_records_that_xcom_keeps_in_an_object_store_are_delivered(sandbox, tmp_path):
    pytest.importorskip("airflow.providers.common.io.xcom.backend")
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", STORED],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests))),
            "AIRFLOW_HOME": str(tmp_path / "home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__XCOM_BACKEND": BACKEND,
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{tmp_path}/xcom",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1000",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert sum(path.is_file() for path in (tmp_path / "xcom").rglob("*")) >= 3
    assert ids(sandbox) == sorted(event["transaction_id"] for event in usage(500))
