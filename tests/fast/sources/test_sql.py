"""Rows of a database, with SQLite and with drivers that behave in another way; PostgreSQL is in tests/faults."""

from __future__ import annotations

import sqlite3
import sys
from types import ModuleType, SimpleNamespace

import pytest

from airflow_provider_lago.sources import sql as module
from airflow_provider_lago.sources.rows import BrokenOff, Cells, SourceError, Start
from airflow_provider_lago.sources.sql import SqlSource
from airflow_provider_lago.sources.sql_drivers import UnreadableJson, is_mistake, read_json


class Watched(sqlite3.Connection):
    """Tells whether it was closed."""

    closed = False

    def close(self):
        self.closed = True
        super().close()


class Database:
    """A SQLite file, and the connections that were made to it."""

    def __init__(self, path):
        self.path = path
        self.made = []

    def write(self, script):
        with sqlite3.connect(self.path) as connection:
            connection.executescript(script)
        connection.close()

    def connect(self):
        self.made.append(sqlite3.connect(self.path, factory=Watched))
        return self.made[-1]

    def source(self, statement, parameters=None, **settings):
        return SqlSource(statement, parameters, self.connect, name="connection 'db'", **settings)


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "usage.db")
    database.write(
        """
        CREATE TABLE usage (id INTEGER PRIMARY KEY, account TEXT, gb REAL, note TEXT);
        INSERT INTO usage VALUES (1, 'acme', 1.5, NULL), (2, 'globex', 2, 'five % off'), (3, 'acme', NULL, '');
        """
    )
    return database


def records(source):
    return [row.data for row in source.rows()]


def test_each_row_is_a_record_by_the_names_of_its_columns(database):
    rows = list(database.source("SELECT id, account AS who, gb FROM usage ORDER BY id").rows())
    assert [row.data for row in rows[:2]] == [{"id": 1, "who": "acme", "gb": 1.5}, {"id": 2, "who": "globex", "gb": 2}]
    assert [(row.position, row.origin, row.where) for row in rows] == [
        (1, "sql", "row 1"),
        (2, "sql", "row 2"),
        (3, "sql", "row 3"),
    ]


def test_null_is_a_missing_value_and_an_empty_text_is_not(database):
    first, second, third = records(database.source("SELECT id, gb, note FROM usage ORDER BY id"))
    assert (type(first), first["note"]) == (Cells, None)
    assert type(second) is dict
    assert (type(third), third["gb"], third["note"]) == (Cells, None, "")


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        ("SELECT id FROM usage WHERE account = ? AND id > ?", ["acme", 1]),
        ("SELECT id FROM usage WHERE account = :who AND id > :least", {"who": "acme", "least": 1}),
    ],
)
def test_parameters_are_bound(database, statement, parameters):
    assert records(database.source(statement, parameters)) == [{"id": 3}]


def test_a_parameter_is_never_read_as_sql(database):
    assert records(database.source("SELECT id FROM usage WHERE account = ?", ["x' OR '1'='1"])) == []


def test_without_parameters_a_percent_sign_is_one(database):
    assert records(database.source("SELECT id FROM usage WHERE note LIKE '%\\% off' ESCAPE '\\'")) == [{"id": 2}]


def test_more_rows_than_are_asked_for_at_a_time_come_in_order_and_are_all_read(database, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    statement = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) SELECT i FROM n"
    rows = list(database.source(statement).rows())
    assert [(row.position, row.data["i"]) for row in rows] == [(n, n) for n in range(1, 51)]


def test_no_more_rows_than_a_block_are_fetched_ahead(database):
    asked = []
    connection = database.connect()
    connection.create_function("seen", 1, lambda n: asked.append(n) or n)
    statement = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT seen(i) AS i FROM n"
    )
    rows = SqlSource(statement, None, lambda: connection, name="x").rows()
    next(rows)
    assert len(asked) <= module.BLOCK + 1
    rows.close()


def test_the_connection_is_made_when_reading_begins_and_closed_at_the_end(database):
    source = database.source("SELECT id FROM usage")
    assert database.made == []
    assert len(records(source)) == 3
    assert [connection.closed for connection in database.made] == [True]


def test_a_source_that_is_left_in_the_midst_is_closed(database):
    source = database.source("SELECT id FROM usage")
    rows = source.rows()
    next(rows)
    source.close()
    assert database.made[0].closed
    assert list(rows) == []
    source.close()


def test_a_source_that_was_never_read_can_be_closed(database):
    database.source("SELECT 1 AS a").close()
    assert database.made == []


def test_a_failed_statement_leaves_no_connection_open(database):
    with pytest.raises(SourceError):
        records(database.source("SELECT nothing FROM usage"))
    assert database.made[0].closed


def test_no_other_try_goes_on_in_the_midst_of_a_result(database):
    source = database.source("SELECT id FROM usage ORDER BY id")
    assert source.fingerprint() is None
    assert source.start_after(2) == Start()
    assert source.share_done() is None


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT id, account, id FROM usage", r"two columns .* 'id' \(1 and 3\): alias them"),
        ('SELECT id, account AS "" FROM usage', "column 2 of the rows has no name: alias it"),
        ("SELECT id FROM usages", "no such table: usages"),
        ("SELECT idd FROM usage", "no such column: idd"),
        ("SELEC id FROM usage", "syntax error; sql must be a SELECT"),
        ("SELECT id FROM usage; SELECT 2 AS id", "one statement"),
        ("UPDATE usage SET gb = 0", "readonly database; sql must be a SELECT"),
        ("INSERT INTO usage VALUES (4, 'x', 1, '') RETURNING id", "readonly database; sql must be a SELECT"),
        ("PRAGMA foreign_keys = ON", "gives no rows"),
        ("-- nothing", "gives no rows"),
        ("SELECT id FROM usage WHERE account = ?", "parameter|bindings"),
    ],
)
def test_a_statement_that_cannot_be_a_source_is_an_error_that_says_why(database, statement, says):
    with pytest.raises(SourceError, match=says) as caught:
        records(database.source(statement))
    assert str(caught.value).startswith("connection 'db'")


def test_a_statement_that_writes_changes_nothing(database):
    for statement in ("DELETE FROM usage", "UPDATE usage SET gb = 0", "DROP TABLE usage"):
        with pytest.raises(SourceError):
            records(database.source(statement))
    assert len(records(database.source("SELECT id FROM usage WHERE gb > 0"))) == 2


def test_a_statement_is_not_taken_for_something_else_because_of_comments_before_it(database):
    statement = "-- usage\n/* of; today */ ( SELECT id FROM usage )"
    with pytest.raises(SourceError) as caught:
        records(database.source(statement.replace("id", "idd")))
    assert "must be a SELECT" not in str(caught.value)


def test_a_lock_of_sqlite_may_be_gone_at_another_try(database):
    writer = sqlite3.connect(database.path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    source = SqlSource("SELECT id FROM usage", None, lambda: sqlite3.connect(database.path, timeout=0), name="x")
    with pytest.raises(BrokenOff, match="database is locked"):
        records(source)
    writer.close()


def test_a_database_that_cannot_be_reached_may_be_there_at_another_try(tmp_path):
    source = SqlSource("SELECT 1 AS a", None, lambda: sqlite3.connect(tmp_path / "no" / "file.db"), name="x")
    with pytest.raises(BrokenOff, match="x cannot be reached: OperationalError: unable to open database file"):
        records(source)


def test_a_text_that_is_not_utf8_costs_no_other_row(database):
    database.write("INSERT INTO usage VALUES (4, CAST(x'ff41' AS TEXT), 1, '')")
    assert records(database.source("SELECT account FROM usage ORDER BY id"))[2:] == [
        {"account": "acme"},
        {"account": "\udcffA"},
    ]


def test_secrets_are_taken_out_of_messages():
    def connect():
        raise RuntimeError("no route to db:hunter22@host\nand more of it: hunter22")

    source = SqlSource("SELECT 1", None, connect, name="x", clean=lambda text: text.replace("hunter22", "***"))
    with pytest.raises(BrokenOff) as caught:
        records(source)
    assert str(caught.value) == "x cannot be reached: RuntimeError: no route to db:***@host"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


class Cursor:
    """A cursor of a driver that nobody knows; ``rows`` may hold an error."""

    def __init__(self, rows, description=(("a",), ("b",))):
        self.rows = list(rows)
        self.description = description
        self.executed = []

    def execute(self, *arguments):
        self.executed.append(arguments)

    def fetchmany(self, size):
        taken, self.rows = self.rows[:size], self.rows[size:]
        for row in taken:
            if isinstance(row, Exception):
                raise row
        return taken


def of_cursor(cursor, **settings):
    connection = SimpleNamespace(cursor=lambda: cursor, close=lambda: None)
    return SqlSource("SELECT a, b", None, lambda: connection, name="x", **settings)


def test_a_driver_that_may_load_the_whole_result_is_named_in_the_log():
    told = []
    cursor = Cursor([(1, 2)])
    assert records(of_cursor(cursor, tell=told.append)) == [{"a": 1, "b": 2}]
    (line,) = told
    assert line.startswith("The driver types is not one of those")
    assert "whole result into memory" in line
    assert cursor.executed == [("SELECT a, b",)]


def test_rows_may_be_mappings():
    assert records(of_cursor(Cursor([{"a": 1, "b": None}]))) == [{"a": 1, "b": None}]


@pytest.mark.parametrize("driver", ["MySQLdb", "pymysql"])
def test_drivers_of_mysql_leave_the_result_on_the_server_and_may_not_write(driver, monkeypatch):
    """No MySQL is asked here: the test holds what the drivers are told."""
    done = []

    class Plain(Cursor):
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            done.append("closed")

        def execute(self, *arguments):
            done.append(arguments)

    class Unbuffered(Plain):
        pass

    class Connection:
        __module__ = f"{driver}.connections"

        def cursor(self, kind=Plain):
            done.append(kind)
            return kind([(1, 2)])

        def rollback(self):
            done.append("rolled back")

        def close(self):
            done.append("connection closed")

    monkeypatch.setitem(sys.modules, driver, ModuleType(driver))
    monkeypatch.setitem(sys.modules, f"{driver}.cursors", SimpleNamespace(SSCursor=Unbuffered))
    told = []
    source = SqlSource("SELECT a, b", [5], Connection, name="x", tell=told.append)
    assert records(source) == [{"a": 1, "b": 2}]
    assert done == [
        Plain,
        ("SET SESSION TRANSACTION READ ONLY",),
        "closed",
        "rolled back",
        Unbuffered,
        ("SELECT a, b", [5]),
        "connection closed",
    ]
    assert told == []


def named(name, **attributes):
    """Return an error of a driver, by the name that PEP 249 gives it."""
    return type(name, (Exception,), attributes)("what the driver says\nLINE 1: SELECT")


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (named("ProgrammingError"), True),
        (named("DataError"), True),
        (named("OperationalError"), False),
        (named("InterfaceError"), False),
        (named("DatabaseError"), False),
        (named("OperationalError", sqlstate="42P01"), True),
        (named("InternalError", pgcode="25006"), True),
        (named("InternalError", pgcode="25P03"), False),
        (named("OperationalError", sqlstate="57P01"), False),
        (named("ProgrammingError", sqlstate="08006"), False),
        (named("OperationalError", pgcode=None), False),
        (TypeError("not all arguments converted"), True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), True),
        (RuntimeError("whatever"), False),
        (OSError("no route to host"), False),
    ],
)
def test_an_error_is_final_where_another_try_would_end_the_same_way(error, is_final):
    assert is_mistake(error) is is_final
    with pytest.raises(SourceError if is_final else BrokenOff, match=r"^x cannot read the rows of sql: ") as caught:
        records(of_cursor(Cursor([(1, 2), error])))
    assert "LINE 1" not in str(caught.value)


def test_rows_before_an_error_are_handed_on():
    rows = of_cursor(Cursor([(n, n) for n in range(module.BLOCK)] + [named("OperationalError")])).rows()
    assert [next(rows).position for _ in range(module.BLOCK)][-1] == module.BLOCK
    with pytest.raises(BrokenOff):
        next(rows)


def test_json_that_python_cannot_hold_costs_no_other_value():
    deep = "[" * 100_000 + "]" * 100_000
    value = read_json(deep)
    assert isinstance(value, UnreadableJson)
    assert repr(value) == deep
    assert repr(read_json('{"a": 1.10, "b": 12345678901234567890123}')) == (
        "{'a': Decimal('1.10'), 'b': 12345678901234567890123}"
    )
