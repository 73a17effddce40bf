"""Rows of a real PostgreSQL: its types with both drivers, transactions, lost connections, memory."""

import json
import subprocess
import sys
import textwrap
import time
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from support.tasks import context

from airflow_provider_lago.exceptions import LagoDeliveryError, LagoFatalDeliveryError, LagoRejectedError
from airflow_provider_lago.operators import LagoIngestEventsOperator
from airflow_provider_lago.sources.rows import BrokenOff, SourceError
from airflow_provider_lago.sources.sql import BLOCK, SqlSource

PROJECT = Path(__file__).parents[2]
EVENTS = """
CREATE TABLE usage AS SELECT
  'e' || n AS transaction_id, 's' AS external_subscription_id, 'c' AS code,
  timestamptz '2026-11-01 00:00:00Z' + n * interval '1 s' AS timestamp, n * 1.10 AS gb
FROM generate_series(1, {count}) AS n
"""


@pytest.fixture
def database(postgres):
    return postgres.new_database()


@pytest.fixture(params=["psycopg2", "psycopg"])
def read(request, postgres, database):
    """Return a function that reads all rows of a statement through one of the drivers."""
    driver = pytest.importorskip(request.param)

    def read(statement, parameters=None):
        connect = lambda: driver.connect(postgres.url(database))  # noqa: E731
        return [row.data for row in SqlSource(statement, parameters, connect, name="the database").rows()]

    return read


@pytest.fixture
def sandbox(lago_sandbox, lago_sandbox_connection):
    return lago_sandbox


@pytest.fixture
def connected(postgres, database, monkeypatch):
    """Make the Airflow connection ``usage_db``; return a function that gives its other settings."""

    def connect(**changes):
        settings = {
            "conn_type": "postgres",
            "host": postgres.host,
            "port": postgres.port,
            "login": postgres.user,
            "password": postgres.password,
            "schema": database,
            **changes,
        }
        monkeypatch.setenv("AIRFLOW_CONN_USAGE_DB", json.dumps(settings))

    connect()
    return connect


def delivery(**arguments):
    return LagoIngestEventsOperator(
        **{
            "task_id": "deliver",
            "sql": "SELECT * FROM usage",
            "sql_conn_id": "usage_db",
            "properties": ["gb"],
            **arguments,
        }
    )


def open_connections(postgres, database, within=30):
    """Return what is connected to a database, once nothing is or the time is up: a server notices an end a bit later."""
    deadline = time.monotonic() + within
    statement = f"SELECT state, query FROM pg_stat_activity WHERE datname = '{database}'"
    while (found := postgres.run(statement)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


TYPES = {
    "1.10::numeric": Decimal("1.10"),
    "123456789012345678901234567890.123456789::numeric": Decimal("123456789012345678901234567890.123456789"),
    "9223372036854775807": 9223372036854775807,
    "0.1::float8": 0.1,
    "0.1::float4": 0.1,
    "true": True,
    "'a'::text": "a",
    "'a'::char(2)": "a ",
    "timestamptz '2026-01-02 03:04:05.123456+02'": datetime(2026, 1, 2, 1, 4, 5, 123456, UTC),
    "timestamp '2026-01-02 03:04:05.5'": datetime(2026, 1, 2, 3, 4, 5, 500000),
    "date '2026-01-02'": date(2026, 1, 2),
    "time '03:04:05.5'": time_of_day(3, 4, 5, 500000),
    "timetz '03:04:05+02'": time_of_day(3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
    "interval '1 day 2 hours'": timedelta(days=1, hours=2),
    "uuid '11111111-2222-4333-8444-555555555555'": UUID("11111111-2222-4333-8444-555555555555"),
    """'{"a": 1.10, "b": [1, 12345678901234567890123], "c": null}'::jsonb""": {
        "a": Decimal("1.10"),
        "b": [1, 12345678901234567890123],
        "c": None,
    },
    "'1.10'::json": Decimal("1.10"),
    "'null'::jsonb": None,
    "NULL::int": None,
    "'\\x0102'::bytea": b"\1\2",
    "ARRAY[1.50, NULL]": [Decimal("1.50"), None],
    "ARRAY[ARRAY['a', 'b'], ARRAY['c', 'd']]": [["a", "b"], ["c", "d"]],
    """ARRAY['{"a": 1.5}'::jsonb]""": [{"a": Decimal("1.5")}],
    "ARRAY[timestamptz '2026-01-02 03:00:00+02']": [datetime(2026, 1, 2, 1, tzinfo=UTC)],
    "ARRAY[uuid '11111111-2222-4333-8444-555555555555']": [UUID("11111111-2222-4333-8444-555555555555")],
    "inet '10.0.0.1'": "10.0.0.1",
    # What Python cannot hold is the database's own text, and neither another time nor the end of the delivery.
    "'infinity'::timestamptz": "infinity",
    "'-infinity'::date": "-infinity",
    "'0044-03-15 BC'::date": "0044-03-15 BC",
    "time '24:00'": "24:00:00",
    "ARRAY['infinity'::timestamp]": ["infinity"],
}


@pytest.mark.parametrize("expression", TYPES)
def test_a_value_keeps_its_type_and_every_digit(read, expression):
    (record,) = read(f"SELECT {expression} AS value")
    value = record["value"]
    assert (value, type(value), repr(value)) == (TYPES[expression], type(TYPES[expression]), repr(TYPES[expression]))


def test_a_time_does_not_depend_on_the_zone_of_the_session(read, postgres, database):
    postgres.run(f"ALTER DATABASE {database} SET TimeZone = 'Asia/Kathmandu'")
    statement = "SELECT timestamptz '2026-01-02 03:04:05Z' AS at, current_setting('TimeZone') AS zone"
    (record,) = read(statement)
    assert record == {"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "zone": "Asia/Kathmandu"}
    assert record["at"].tzinfo is UTC


def test_values_that_are_no_number_or_no_json_are_kept_apart(read):
    (record,) = read("SELECT 'NaN'::numeric AS nan, (repeat('[', 5000) || repeat(']', 5000))::jsonb AS deep, 1 AS n")
    assert record["nan"].is_nan()
    assert type(record["deep"]).__name__ == "UnreadableJson"
    assert record["n"] == 1


@pytest.mark.parametrize(
    ("statement", "parameters", "records"),
    [
        (
            "SELECT %s::int + 1 AS n, %s AS text",
            [1, "x'; DROP TABLE usage"],
            [{"n": 2, "text": "x'; DROP TABLE usage"}],
        ),
        ("SELECT %(n)s::int AS n", {"n": "5"}, [{"n": 5}]),
        ("SELECT '5%' AS share", None, [{"share": "5%"}]),
        ("SELECT '5%' AS share;", {}, [{"share": "5%"}]),
        ("SELECT 1 AS n WHERE false", None, []),
        ("WITH a AS (SELECT 1 AS n) SELECT n FROM a", None, [{"n": 1}]),
        ("VALUES (1), (2)", None, [{"column1": 1}, {"column1": 2}]),
    ],
)
def test_statements_with_and_without_parameters(read, statement, parameters, records):
    assert read(statement, parameters) == records


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT * FROM missing", 'relation "missing" does not exist'),
        ("SELEC 1", 'syntax error at or near "SELEC"; sql must be a SELECT'),
        ("UPDATE usage SET gb = 0", 'syntax error at or near "UPDATE"; sql must be a SELECT'),
        ("SELECT 1 AS a, 2 AS a", "two columns"),
        ("SELECT 1 AS a, 1 + 1", "column 2 of the rows has no name"),
        ("SELECT 1 AS a; SELECT 2 AS a", "several|multiple commands"),
        ("SELECT nextval('numbers') AS n", "read-only transaction"),
        ("WITH a AS (DELETE FROM usage RETURNING *) SELECT * FROM a", "must not contain data-modifying"),
        (
            "SELECT set_config('transaction_read_only', 'off', false) AS a, nextval('numbers') AS n",
            "read-only|read-write",
        ),
        (f"SELECT 1 / (n - {BLOCK + 5}) AS a FROM generate_series(1, {BLOCK * 2}) AS n", "division by zero"),
    ],
)
def test_a_statement_that_cannot_be_a_source_ends_for_good_and_changes_nothing(
    read, postgres, database, statement, says
):
    postgres.run(EVENTS.format(count=3) + "; CREATE SEQUENCE numbers", database)
    with pytest.raises(SourceError, match=says):
        read(statement)
    assert open_connections(postgres, database) == ""
    assert postgres.run("SELECT count(*), min(gb), (SELECT last_value FROM numbers) FROM usage", database) == "3|1.10|1"


def test_a_lost_connection_may_be_there_at_another_try(read):
    with pytest.raises(BrokenOff, match="cannot read the rows of sql"):
        read("SELECT pg_terminate_backend(pg_backend_pid()) AS a")


def test_rows_are_delivered_with_their_types_and_a_column_that_no_json_holds_costs_its_record(
    sandbox, connected, postgres, database, tmp_path
):
    postgres.run(EVENTS.format(count=2), database)
    statement = "SELECT u.*, timestamp at time zone 'UTC' AS naive, '\\x01'::bytea AS bytes FROM usage AS u"
    result = delivery(sql=statement, fields={"timestamp": "naive"}, timezone="Europe/Berlin").execute(context())
    assert result["accepted"] == 2
    assert [(event["timestamp"], str(event["properties"]["gb"])) for event in sandbox.events()] == [
        ("2026-10-31T23:00:01.000Z", "1.1"),
        ("2026-10-31T23:00:02.000Z", "2.2"),
    ]
    with pytest.raises(LagoRejectedError, match=r"2 of 2 records were rejected: properties: not JSON"):
        delivery(sql=statement, properties=["bytes"], report_path=str(tmp_path), fields={}).execute(context())
    assert open_connections(postgres, database) == ""


def test_the_connection_is_closed_when_lago_ends_the_delivery_early(sandbox, connected, postgres, database):
    postgres.run(EVENTS.format(count=20_000), database)
    sandbox.fault("error", path="/events/batch", status=401, times=1_000)
    with pytest.raises(LagoFatalDeliveryError):
        delivery().execute(context())
    assert open_connections(postgres, database) == ""


def test_the_connection_is_closed_after_a_dry_run_and_a_limit(sandbox, connected, postgres, database):
    postgres.run(EVENTS.format(count=20_000), database)
    assert len(delivery(dry_run=True).execute(context())["preview"]) == 3
    assert open_connections(postgres, database) == ""
    assert delivery(limit=7).execute(context())["accepted"] == 7
    assert open_connections(postgres, database) == ""


def test_a_connection_that_is_lost_in_the_midst_is_made_up_for_by_a_retry(
    sandbox, connected, postgres, database, tmp_path
):
    postgres.run(EVENTS.format(count=5_000), database)
    lost = []

    def lose_once(record):
        if not lost and record["transaction_id"] == "e1200":
            lost.append(record)
            postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        return record

    task = {"transform": lose_once, "report_path": str(tmp_path), "receipts": True}
    with pytest.raises(LagoDeliveryError, match="connection 'usage_db' cannot read the rows of sql") as caught:
        delivery(**task).execute(context())
    assert not isinstance(caught.value, LagoFatalDeliveryError)
    assert postgres.password not in str(caught.value)
    assert 0 < sandbox.count() < 5_000
    before = sandbox.count()
    result = delivery(**task).execute(context(try_number=2))
    assert (result["read"], result["duplicate"], result["accepted"]) == (5_000, before, 5_000 - before)
    assert sandbox.count() == 5_000
    assert len({event["transaction_id"] for event in sandbox.events()}) == 5_000


def test_a_retry_never_goes_on_by_number(sandbox, connected, postgres, database, tmp_path):
    """The rows of another try may come in another order: here they do, and the first try ended in the midst of them."""
    postgres.run(EVENTS.format(count=3_000), database)
    sandbox.fault("error", path="/events/batch", status=401, skip=10, times=1_000)
    with pytest.raises(LagoFatalDeliveryError):
        delivery(sql="SELECT * FROM usage ORDER BY gb", report_path=str(tmp_path)).execute(context())
    sandbox.clear_faults()
    again = delivery(sql="SELECT * FROM usage ORDER BY gb DESC", report_path=str(tmp_path))
    assert again.execute(context(try_number=2))["read"] == 3_000
    assert sandbox.count() == 3_000


@pytest.mark.parametrize(
    "changes",
    [{"password": "hunter2!/?"}, {"port": 1}, {"schema": "missing"}, {"host": "127.0.0.1,hunter2!/?"}],
    ids=["wrong password", "nobody there", "no such database", "odd host"],
)
def test_a_database_that_cannot_be_reached_is_tried_again_and_shows_no_password(sandbox, connected, changes):
    connected(**{"password": "hunter2!/?", **changes})
    with pytest.raises(LagoDeliveryError, match="connection 'usage_db' cannot be reached") as caught:
        delivery().execute(context())
    assert not isinstance(caught.value, LagoFatalDeliveryError)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_memory_does_not_depend_on_the_number_of_rows(driver, postgres, database):
    pytest.importorskip(driver)
    postgres.run(EVENTS.format(count=300_000), database)
    script = f"""
        import resource, sys
        import {driver} as driver
        from airflow_provider_lago.sources.sql import SqlSource

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

        def read(count):
            source = SqlSource("SELECT * FROM usage LIMIT %s", [count], lambda: driver.connect(sys.argv[1]), name="x")
            assert sum(1 for _ in source.rows()) == count
            return peak()

        print(read(3_000), read(300_000))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), postgres.url(database)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(float, done.stdout.split())
    assert many - few <= 8
