"""Starting, stopping, keeping, showing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import requests

from airflow_provider_lago.sandbox import Sandbox

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def start(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_lago.sandbox", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    lines = process.stdout.readline() + process.stdout.readline()
    connection = json.loads(re.search(r"AIRFLOW_CONN_LAGO_DEFAULT='(.*)'", lines).group(1))
    return process, connection


def event(transaction_id):
    fields = {"code": "calls", "external_subscription_id": "s1", "timestamp": 1700000000}
    return {"event": {"transaction_id": transaction_id, **fields}}


def post(connection, transaction_id):
    headers = {"Authorization": f"Bearer {connection['password']}"}
    url = f"{connection['host']}/api/v1/events"
    return requests.post(url, json=event(transaction_id), headers=headers, timeout=5)


def stop(process, number):
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    return process.returncode, errors


def test_the_command_serves_keeps_its_file_and_stops_cleanly(tmp_path):
    arguments = ("--db", str(tmp_path / "lago.db"), "--api-key", "k1", "--permissions", "k1=event:write")
    process, connection = start(*arguments)
    assert connection == {"conn_type": "lago", "host": connection["host"], "password": "k1"}
    assert post(connection, "a").status_code == 200
    assert stop(process, signal.SIGTERM) == (0, "")
    process, connection = start(*arguments)
    assert post(connection, "a").status_code == 422
    headers = {"Authorization": "Bearer k1"}
    answer = requests.get(f"{connection['host']}/api/v1/events", headers=headers, timeout=5)
    assert answer.json()["code"] == "read_action_not_allowed_for_event"
    assert stop(process, signal.SIGINT) == (0, "")


def test_a_file_of_one_store_is_not_opened_as_the_other(tmp_path):
    with Sandbox(db=tmp_path / "lago.db"):
        pass
    with pytest.raises(ValueError, match="postgres store"):
        Sandbox(db=tmp_path / "lago.db", store="clickhouse")


def test_a_taken_port_is_reported(sandbox):
    command = [sys.executable, "-m", "airflow_provider_lago.sandbox", "--port", str(sandbox.port)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=20, check=False)
    assert done.returncode == 1
    assert "cannot start" in done.stderr


def test_without_its_libraries_the_error_names_the_extra():
    code = """
        import sys
        sys.modules["uvicorn"] = None
        try:
            from airflow_provider_lago.sandbox import Sandbox
        except ModuleNotFoundError as missing:
            print(missing)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert "airflow-provider-lago[sandbox]" in done.stdout


def test_the_plugin_is_cheap_and_gives_a_connection(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import json, os, sys

            def test_cheap():
                assert "uvicorn" not in sys.modules and "starlette" not in sys.modules

            def test_one(lago_sandbox, lago_sandbox_connection):
                assert lago_sandbox_connection == "lago_default"
                connection = json.loads(os.environ["AIRFLOW_CONN_LAGO_DEFAULT"])
                assert connection["host"] == lago_sandbox.url
                lago_sandbox.add_customer("c1")
                lago_sandbox.fault("error")

            def test_two(lago_sandbox):
                assert "AIRFLOW_CONN_LAGO_DEFAULT" not in os.environ
                assert lago_sandbox.state()["customers"] == 0
                assert lago_sandbox.state()["faults"] == []
            """
        )
    )
    environment = {**ENVIRONMENT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("AIRFLOW_CONN_LAGO_DEFAULT", None)
    plugin = "airflow_provider_lago.sandbox.pytest_plugin"
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert "3 passed" in done.stdout, done.stdout


def test_latency_delays_each_answer_but_not_the_others(sandbox):
    from concurrent.futures import ThreadPoolExecutor

    connection = json.loads(sandbox.connection_json)
    sandbox.latency = 0.2
    try:
        started = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda n: post(connection, str(n)).status_code, range(8)))
        assert statuses == [200] * 8
        assert 0.2 <= time.monotonic() - started < 1.5
        assert sandbox.state()["max_in_flight"] > 1
    finally:
        sandbox.latency = 0.0


def test_what_was_asked_is_counted_and_listed(lago):
    lago.event()
    lago.event()
    lago.post("/events/batch", {"events": [event(str(n))["event"] for n in range(3)]})
    lago.get("/customers/x")
    seen = [(one.method, one.path, one.status, one.events) for one in lago.sandbox.requests]
    assert seen == [
        ("POST", "/api/v1/events", 200, 1),
        ("POST", "/api/v1/events", 422, 1),
        ("POST", "/api/v1/events/batch", 200, 3),
        ("GET", "/api/v1/customers/x", 404, 0),
    ]
    state = lago.get("/_sandbox/state").json
    assert (state["events"], state["duplicates_refused"], state["requests"]) == (4, 1, 4)
    assert state["requests_by_route"]["GET /api/v1/customers/:id"] == 1
    assert state["answers_by_status"] == {"200": 2, "422": 1, "404": 1}
    assert state["events_received"] == 5
    assert len(lago.get("/_sandbox/requests").json["requests"]) == 4


def test_stored_events_are_dumped(lago):
    lago.event(properties={"a": 1})
    lago.event(transaction_id="t2")
    dumped = lago.get("/_sandbox/events").json["events"]
    assert dumped == lago.sandbox.events()
    lines = lago.get("/_sandbox/events?format=jsonl").text.splitlines()
    assert [json.loads(line) for line in lines] == dumped
    assert dumped[0]["properties"] == {"a": 1}
    assert dumped[0]["timestamp_us"] == 1_700_000_000_000_000


def test_a_reset_forgets_everything(lago):
    lago.event()
    lago.sandbox.add_metric("m", expression="1 + 1", field_name="v")
    lago.sandbox.fault("error")
    assert lago.ask("POST", "/_sandbox/reset").json["events"] == 0
    assert lago.event(code="m").json["event"]["properties"] == {}


def test_the_page_shows_records_as_data(lago):
    nasty = "<script>alert('x')</script>"
    lago.event(transaction_id=nasty, properties={nasty: nasty}, code=nasty, external_subscription_id=nasty)
    lago.get(f"/customers/{'%3Cb%3E'}")
    lago.event(transaction_id=nasty, external_subscription_id=nasty)
    page = lago.get("/", Accept="text/html,*/*;q=0.8")
    assert page.headers["content-type"].startswith("text/html")
    assert b"<script" not in page.text
    assert b"&lt;script&gt;" in page.text
    assert b"Last errors" in page.text


def test_the_page_is_only_for_browsers(lago):
    answer = lago.get("/")
    assert (answer.status, answer.text) == (404, b"")


def test_seeding_past_lagos_rules_is_an_error(sandbox):
    sandbox.add_metric("m")
    sandbox.add_plan("p", metrics=["m"])
    subscription = sandbox.add_subscription("s1", "c1", "p")
    assert subscription["plan"]["charges"][0]["billable_metric_code"] == "m"
    with pytest.raises(ValueError, match="plan_not_found"):
        sandbox.add_subscription("s2", "c1", "nope")
    with pytest.raises(ValueError, match="add_metric"):
        sandbox.add_plan("q", metrics=["nope"])
    assert sandbox.requests == []
