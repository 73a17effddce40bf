"""Rows of a database in Airflow's own hands: connections and hooks, templates and files of them, mapping, retries."""

import importlib.util
import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import task
from support.airflow_runs import new_dag, run

from airflow_provider_lago.operators import (
    LagoGenericRequestOperator,
    LagoIngestEventsOperator,
    LagoUpsertCustomerOperator,
)

EXAMPLES = Path(__file__).parents[2] / "example_dags"

USAGE = """
CREATE TABLE usage (id TEXT, account TEXT, at TEXT, gb TEXT, note TEXT);
INSERT INTO usage VALUES
  ('u1', 'acme', '2026-11-01T10:00:00Z', '1.10', NULL),
  ('u2', 'acme', '2026-11-02T10:00:00Z', '2.20', 'a'),
  ('u3', 'globex', '2026-11-02T11:00:00Z', '3.30', NULL);
"""
SELECT = "SELECT id AS transaction_id, account AS external_subscription_id, at AS timestamp, gb, note FROM usage"


@pytest.fixture
def sandbox(lago_sandbox, lago_sandbox_connection):
    return lago_sandbox


@pytest.fixture
def database(tmp_path, monkeypatch):
    """Make a database and its Airflow connection ``usage_db``, and return its path."""
    path = tmp_path / "usage.db"
    monkeypatch.setenv("AIRFLOW_CONN_USAGE_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    write(path, USAGE)
    return path


def write(path, script):
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def delivery(**arguments):
    return LagoIngestEventsOperator(**settings(**arguments))


def settings(**arguments):
    return {
        "task_id": "deliver",
        "sql_conn_id": "usage_db",
        "constants": {"code": "traffic"},
        "properties": ["gb", "note?"],
        **arguments,
    }


def stored(sandbox):
    return sorted(event["transaction_id"] for event in sandbox.events())


def test_the_rows_of_a_statement_are_delivered_and_null_is_a_missing_value(sandbox, database, tmp_path):
    with new_dag() as dag:
        delivery(sql=SELECT, report_path=str(tmp_path / "report"), receipts=True)
    outcome = run(dag)
    assert outcome.state == "success"
    assert outcome.returned("deliver")["accepted"] == 3
    properties = {event["transaction_id"]: event["properties"] for event in sandbox.events()}
    assert properties == {"u1": {"gb": "1.10"}, "u2": {"gb": "2.20", "note": "a"}, "u3": {"gb": "3.30"}}
    receipts = [json.loads(line) for line in (tmp_path / "report" / "receipts.jsonl").read_text().splitlines()]
    assert {(receipt["origin"], receipt["line"]) for receipt in receipts} == {("sql", 1), ("sql", 2), ("sql", 3)}


def test_a_rerun_reads_all_rows_again_and_adds_nothing(sandbox, database):
    with new_dag() as dag:
        delivery(sql=SELECT)
    assert run(dag).returned("deliver")["accepted"] == 3
    assert run(dag).returned("deliver")["duplicate"] == 3
    assert sandbox.count() == 3


def test_the_statement_and_its_parameters_are_templates(sandbox, database):
    with new_dag(params={"account": "acme", "least": 2, "column": "account"}) as dag:
        delivery(
            sql=SELECT + " WHERE {{ params.column }} = :account AND gb > :least",
            sql_conn_id="{{ 'usage' }}_db",
            sql_parameters={"account": "{{ params.account }}", "least": "{{ params.least }}"},
        )
    assert run(dag).state == "success"
    assert stored(sandbox) == ["u2"]


def test_a_parameter_that_comes_from_outside_is_never_sql(sandbox, database):
    with new_dag(params={"account": "x' OR '1'='1"}) as dag:
        delivery(sql=SELECT + " WHERE account = ?", sql_parameters=["{{ params.account }}"])
    outcome = run(dag)
    assert outcome.state == "success"
    assert (outcome.returned("deliver")["read"], sandbox.count()) == (0, 0)


def test_a_file_gives_the_statement_and_is_a_template(sandbox, database, tmp_path):
    folder = tmp_path / "queries"
    folder.mkdir()
    (folder / "usage.sql").write_text(SELECT + "\n{% include 'where.sql' %};\n")
    (folder / "where.sql").write_text("WHERE account = '{{ params.account }}' -- one account; no more")
    with new_dag(template_searchpath=[str(folder)], params={"account": "acme"}) as dag:
        delivery(sql="usage.sql")
    assert run(dag).state == "success"
    assert stored(sandbox) == ["u1", "u2"]


def test_the_name_of_the_file_may_be_a_template_too(sandbox, database, tmp_path):
    (tmp_path / "globex.sql").write_text(SELECT + " WHERE account = 'globex'")
    with new_dag(template_searchpath=str(tmp_path), params={"account": "globex"}) as dag:
        delivery(sql="{{ params.account }}.sql")
    assert run(dag).state == "success"
    assert stored(sandbox) == ["u3"]


def test_airflow_shows_the_statement_and_not_the_file(tmp_path):
    (tmp_path / "usage.sql").write_text("SELECT {{ number }} AS a FROM reports.sql")
    with new_dag(template_searchpath=str(tmp_path)):
        operator = delivery(sql="usage.sql")
    operator.render_template_fields({"number": 5})
    assert operator.sql == "SELECT 5 AS a FROM reports.sql;"
    operator.render_template_fields({"number": 6})
    assert operator.sql == "SELECT 5 AS a FROM reports.sql;"


def test_no_other_argument_is_replaced_by_a_file(sandbox, database, tmp_path):
    (tmp_path / "usage.sql").write_text(SELECT)
    with new_dag(template_searchpath=str(tmp_path)) as dag:
        operator = delivery(sql="usage.sql", constants={"code": "usage.sql"}, report_path=str(tmp_path / "x.sql"))
    dag.resolve_template_files()
    operator.render_template_fields({})
    assert (operator.constants, operator.report_path) == ({"code": "usage.sql"}, str(tmp_path / "x.sql"))
    assert run(dag).state == "success"
    assert {event["code"] for event in sandbox.events()} == {"usage.sql"}
    with new_dag(template_searchpath=str(tmp_path)):
        operator = delivery(sql=None, files="usage.sql")
    operator.render_template_fields({})
    assert operator.files == "usage.sql"


def test_mapped_tasks_each_read_their_rows(sandbox, database, tmp_path):
    (tmp_path / "usage.sql").write_text(SELECT + " WHERE account = ? AND {{ params.all }}")
    with new_dag(template_searchpath=str(tmp_path), params={"all": 1}) as dag:
        LagoIngestEventsOperator.partial(**settings(sql="usage.sql")).expand(sql_parameters=[["acme"], ["globex"]])
    outcome = run(dag)
    assert outcome.state == "success"
    assert [outcome.returned("deliver", n)["accepted"] for n in (0, 1)] == [2, 1]
    assert stored(sandbox) == ["u1", "u2", "u3"]


def test_a_task_is_mapped_over_files_of_statements(sandbox, database, tmp_path):
    for account in ("acme", "globex"):
        (tmp_path / f"{account}.sql").write_text(SELECT + f" WHERE account = '{account}'")
    with new_dag(template_searchpath=str(tmp_path)) as dag:

        @task
        def choose():
            return ["acme.sql", "globex.sql"]

        LagoIngestEventsOperator.partial(**settings()).expand(sql=choose())
    assert run(dag).state == "success"
    assert stored(sandbox) == ["u1", "u2", "u3"]


def test_customers_and_requests_of_any_kind_come_from_rows_too(sandbox, database):
    with new_dag() as dag:
        LagoUpsertCustomerOperator(
            task_id="customers",
            sql="SELECT DISTINCT account AS external_id, upper(account) AS name, NULL AS email FROM usage",
            sql_conn_id="usage_db",
        )
        LagoGenericRequestOperator(
            task_id="taxes",
            endpoint="taxes",
            root="tax",
            sql="SELECT 'VAT' AS name, 'vat' AS code, '20.0' AS rate",
            sql_conn_id="usage_db",
        )
    outcome = run(dag)
    assert outcome.state == "success"
    assert outcome.returned("customers")["accepted"] == 2
    assert outcome.returned("taxes")["accepted"] == 1


def test_no_rows_are_no_error_and_may_skip_the_task(sandbox, database):
    with new_dag() as dag:
        delivery(sql=SELECT + " WHERE 0")
        delivery(task_id="skipped", sql=SELECT + " WHERE 0", skip_on_empty=True)
    outcome = run(dag)
    assert (outcome.state_of("deliver"), outcome.state_of("skipped")) == ("success", "skipped")


def test_a_dry_run_and_a_limit_read_only_the_beginning(sandbox, database):
    with new_dag() as dag:
        delivery(sql=SELECT + " ORDER BY id", limit=2)
        delivery(task_id="shown", sql=SELECT, dry_run=True)
    outcome = run(dag)
    assert outcome.state == "success"
    assert outcome.returned("shown")["preview"][0]["records"] == 3
    assert stored(sandbox) == ["u1", "u2"]


def test_a_database_that_is_away_is_tried_again_and_the_try_begins_anew(sandbox, tmp_path, monkeypatch):
    path = tmp_path / "later" / "usage.db"
    monkeypatch.setenv("AIRFLOW_CONN_USAGE_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))

    def mend(context):
        path.parent.mkdir()
        write(path, USAGE)

    with new_dag() as dag:
        delivery(sql=SELECT, retries=1, retry_delay=timedelta(0), on_retry_callback=mend)
    outcome = run(dag)
    assert (outcome.state, outcome.tries_of("deliver")) == ("success", 2)
    assert sandbox.count() == 3


def test_the_example_delivers_the_rows_of_its_day(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_USAGE_DB", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "usage.db")}))
    spec = importlib.util.spec_from_file_location("loaded_example", EXAMPLES / "ingest_from_sql.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert run(module.ingest_from_sql()).state == "success"
    events = {event["transaction_id"]: event for event in sandbox.events()}
    assert sorted(events) == [f"traffic-2026-11-02-{hour:02}" for hour in range(24)]
    assert [events[f"traffic-2026-11-02-{hour:02}"]["properties"] for hour in (0, 7)] == [
        {"gb": "0.25"},
        {"gb": "7.25", "region": "eu"},
    ]


MISTAKES = {
    "the connection is not there": {"sql": SELECT, "sql_conn_id": "nowhere"},
    "the connection is of another type": {"sql": SELECT, "sql_conn_id": "web"},
    "the type is not known": {"sql": SELECT, "sql_conn_id": "odd"},
    "no connection": {"sql": SELECT, "sql_conn_id": None},
    "two statements": {"sql": SELECT + "; DELETE FROM usage"},
    "no statement": {"sql": " ;\n"},
    "a list": {"sql": [SELECT]},
    "no such table": {"sql": "SELECT * FROM missing"},
    "not a SELECT": {"sql": "DELETE FROM usage"},
    "two columns of one name": {"sql": "SELECT id, account AS id FROM usage"},
    "no such file": {"sql": "missing.sql"},
    "two sources": {"sql": SELECT, "records": [{}]},
    "parameters as text": {"sql": SELECT, "sql_parameters": "{{ [1] }}"},
}
SAYS = {
    "the connection is not there": "there is no connection 'nowhere'",
    "the connection is of another type": "connection 'web' of type 'http' is not one to a database: its hook is a HttpHook",
    "the type is not known": "connection 'odd' of type 'odd' has no hook here",
    "no connection": "sql needs sql_conn_id",
    "two statements": "sql must be one statement, and these are several",
    "no statement": "sql is empty",
    "a list": "sql must be one statement, as text, not a list",
    "no such table": "connection 'usage_db' cannot run sql: OperationalError: no such table: missing",
    "not a SELECT": "sql must be a SELECT",
    "two columns of one name": "alias them",
    "no such file": "sql names the file 'missing.sql', which is not in",
    "two sources": "not records and sql",
    "parameters as text": "sql_parameters must be a list or a dict of values, not a str",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_the_task_at_once_and_says_what_to_mend(mistake, sandbox, database, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_WEB", json.dumps({"conn_type": "http", "host": "x", "password": "hunter22"}))
    monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps({"conn_type": "odd", "host": "x", "password": "hunter22"}))
    errors = []
    with new_dag() as dag:
        delivery(
            retries=1,
            retry_delay=timedelta(0),
            on_failure_callback=lambda context: errors.append(str(context["exception"])),
            **MISTAKES[mistake],
        )
    outcome = run(dag)
    assert (outcome.state, outcome.tries_of("deliver")) == ("failed", 1)
    assert SAYS[mistake] in errors[0]
    assert "hunter22" not in errors[0]
    assert sandbox.count() == 0
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT count(*) FROM usage").fetchone() == (3,)
    connection.close()
