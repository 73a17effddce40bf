"""The command in a process of its own, with an Airflow that has no database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.deliveries import KEY
from support.scripted import Reply, ScriptedServer, as_json

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def environment(tmp_path):
    (home := tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "PYTHONPATH": str(PROJECT),
    }


#: A shell's background job ignores Ctrl-C, and so would all that it starts, this included.
HEEDING_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def start(environment, *argv, **options):
    command = [sys.executable, "-c", HEEDING_CTRL_C, "-m", "airflow_provider_lago", *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, env=environment, **{**pipes, **options})


def connection(url):
    return json.dumps({"conn_type": "lago", "host": url, "password": KEY})


def test_a_preview_is_quiet_and_needs_no_database(environment, one_task):
    path = one_task("records=[event(1)]")
    process = start({**environment, "AIRFLOW_CONN_LAGO_DEFAULT": connection("http://127.0.0.1:9")}, "preview", path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    assert out.startswith("LagoIngestEventsOperator, task 'deliver' of DAG 'd'\n")
    assert out.endswith("Nothing was sent.\n")
    assert not (Path(environment["AIRFLOW_HOME"]) / "airflow.db").exists()


def test_ctrl_c_ends_a_delivery_cleanly_and_says_how_far_it_came(environment, one_task):
    def answer(request):
        if request.path.endswith("/organizations"):
            return as_json(200, {"organization": {"lago_id": "1", "name": "Acme"}})
        process.send_signal(signal.SIGINT)
        return Reply(200, b"{}", delay=30)

    with ScriptedServer(answer) as server:
        given = {**environment, "AIRFLOW_CONN_LAGO_DEFAULT": connection(server.url)}
        process = start(given, "send", one_task("records=[event(1)]"), "--yes")
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "\nEnded by Ctrl-C.\n"
    assert "Not done: read 1, accepted 0" in out.splitlines()[-1]
    assert "may have reached Lago" in out.splitlines()[-1]


def test_help_and_wrong_usage_do_not_wait_for_airflow(environment):
    probe = "import sys; from airflow_provider_lago.shell.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
