"""The command line, and what of a DAG file it means. No Lago."""

import pytest

from airflow_provider_lago.api.connection import parse_connection
from airflow_provider_lago.shell.safety import is_live, why_not_asked, why_not_billed


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["show", "x.py"],
        ["preview"],
        ["preview", "x.py", "--settings", "x.json"],
        ["preview", "--settings", "x.json", "--dag-id", "d"],
        ["preview", "x.py", "--limit", "0"],
        ["preview", "x.py", "--limit", "some"],
        ["send", "x.py", "--limit", "all"],
        ["preview", "x.py", "--set", "tokens"],
        ["preview", "x.py", "--set", "=12"],
        ["preview", "x.py", "--set", "properties.=12"],
        ["preview", "x.py", "--logical-date", "yesterday"],
        ["preview", "x.py", "--yes"],
        ["preview", "there_is_none.py"],
    ],
    ids=" ".join,
)
def test_wrong_usage_has_exit_status_2(shell, argv):
    ended = shell(*argv)
    assert ended.code == 2
    assert ended.err
    assert "Traceback" not in ended.err


def address(**fields):
    given = {"host": None, "schema": None, "port": None, "login": None, "password": "k" * 36, "extra": {}, **fields}
    return parse_connection(conn_id="c", **given)


@pytest.mark.parametrize(
    ("fields", "live"),
    [
        ({"host": "http://127.0.0.1:3000"}, False),
        ({"host": "http://127.8.9.10"}, False),
        ({"host": "http://[::1]:3000"}, False),
        ({"host": "http://[::ffff:127.0.0.1]:3000"}, False),
        ({"host": "http://localhost:3000"}, False),
        ({"host": "http://lago.localhost"}, False),
        ({}, True),
        ({"extra": {"region": "eu"}}, True),
        ({"host": "http://10.0.0.7:3000"}, True),
        ({"host": "http://host.docker.internal:3000"}, True),
        ({"host": "http://lago"}, True),
        ({"host": "https://localhost.example.com"}, True),
        ({"host": "http://localhost:3000", "extra": {"ingest_host": "https://ingest.example.com"}}, True),
    ],
)
def test_whatever_is_not_on_this_machine_is_live(fields, live):
    assert is_live(address(**fields)) is live


@pytest.mark.parametrize("bills", [True, False])
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("agreed", [True, False])
def test_only_billed_and_live_without_consent_is_refused(bills, live, agreed):
    refusal = why_not_billed(bills=bills, live=live, agreed=agreed, address="https://x")
    assert (refusal is not None) == (bills and live and not agreed)


@pytest.mark.parametrize(("agreed", "terminal", "refused"), [(0, 0, True), (1, 0, False), (0, 1, False), (1, 1, False)])
def test_the_question_needs_a_terminal(agreed, terminal, refused):
    assert (why_not_asked(agreed=bool(agreed), terminal=bool(terminal)) is not None) == refused


TWO_DAGS = """
with DAG("first", schedule=None):
    LagoIngestEventsOperator(task_id="deliver", records=[event(1)])
    task(task_id="other")(lambda: 1)()
with DAG("second", schedule=None):
    LagoIngestEventsOperator(task_id="deliver", records=[event(2)])
    LagoIngestEventsOperator.partial(task_id="again").expand(records=[[event(3)]])
with DAG("third", schedule=None):
    task(task_id="deliver")(lambda: 1)()
"""


class TestWhichTask:
    @pytest.mark.parametrize(
        ("argv", "named"),
        [
            (["again"], "task 'again' of DAG 'second'"),
            (["deliver", "--dag-id", "second"], "task 'deliver' of DAG 'second'"),
            (["--dag-id", "first"], "task 'deliver' of DAG 'first'"),
        ],
    )
    def test_the_one_that_is_meant_is_taken(self, shell, lago, dag_file, argv, named):
        ended = shell("preview", dag_file(TWO_DAGS), *argv)
        assert ended.code == 0, ended.err
        assert ended.lines[0] == f"LagoIngestEventsOperator, {named}"

    @pytest.mark.parametrize(
        ("argv", "hint", "listed"),
        [
            ([], "--dag-id ID", ["first   deliver", "second  deliver", "second  again"]),
            (["deliver"], "--dag-id ID", ["first   deliver", "second  deliver"]),
            (["--dag-id", "second"], "the task's id", ["second  deliver", "second  again"]),
            (["other"], "no task 'other'", ["first   deliver", "second  deliver", "second  again"]),
            (["deliver", "--dag-id", "third"], "no DAG 'third' task 'deliver'", ["first   deliver"]),
        ],
    )
    def test_if_it_is_not_clear_the_candidates_are_listed(self, shell, dag_file, argv, hint, listed):
        ended = shell("preview", dag_file(TWO_DAGS), *argv)
        assert ended.code == 2
        assert hint in ended.err
        for line in listed:
            assert line in ended.err

    def test_a_file_without_such_a_task_says_so(self, shell, dag_file):
        ended = shell("preview", dag_file("with DAG('d', schedule=None):\n    task(task_id='t')(lambda: 1)()\n"))
        assert (ended.code, "no task that delivers to Lago" in ended.err) == (2, True)

    def test_a_file_that_cannot_be_loaded_is_told_in_one_line(self, shell, dag_file):
        path = dag_file("import there_is_none\n")
        ended = shell("preview", path)
        assert ended.code == 1
        line = path.read_text().splitlines().index("import there_is_none") + 1
        assert ended.err.strip().endswith(f"No module named 'there_is_none' (line {line})")
        assert len(ended.err.strip().splitlines()) == 1

    def test_a_file_may_import_its_neighbour(self, shell, lago, dag_file, tmp_path):
        (tmp_path / "lago_shell_neighbour.py").write_text("RECORDS = []\n")
        path = dag_file(
            "from lago_shell_neighbour import RECORDS\n"
            "with DAG('d', schedule=None):\n    LagoIngestEventsOperator(task_id='t', records=[*RECORDS, event(1)])\n"
        )
        assert shell("preview", path).code == 0
