"""The command in a process of its own, with an Airflow that has a database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stored_connection(lago_sandbox):
    """A connection that only Airflow's database knows."""
    from airflow import models
    from airflow.utils.session import create_session

    given = json.loads(lago_sandbox.connection_json)
    row = models.Connection(conn_id="stored", **given)  # noqa: AIR311 - the row, not the task SDK's connection
    with create_session() as session:
        session.add(row)
    yield "stored"
    with create_session() as session:
        session.delete(session.merge(row))


def test_a_connection_is_found_in_airflows_database(lago_sandbox, stored_connection, tmp_path):
    line = {"account": {"id": "acme-2026"}, "day": "2026-11-02", "active_users": 12}
    (tmp_path / "seats.jsonl").write_text(json.dumps(line) + "\n")
    command = [sys.executable, "-m", "airflow_provider_lago", "send", "example_dags/ingest_from_task.py"]
    options = ["--conn-id", stored_connection, "--records", str(tmp_path / "seats.jsonl"), "--yes"]
    done = subprocess.run(
        [*command, *options],
        cwd=PROJECT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "transaction_id acme-2026:2026-11-02): accepted" in done.stdout
    assert lago_sandbox.api_key not in done.stdout
    (event,) = lago_sandbox.events()
    assert event["properties"] == {"seats": 12}
