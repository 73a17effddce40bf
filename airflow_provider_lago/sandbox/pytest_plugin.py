"""
Pytest fixtures, loaded by entry point wherever this package is installed.

Every pytest run imports this module: the server is imported by the fixtures only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lago.sandbox import Sandbox


@pytest.fixture(scope="session")
def _lago_sandbox_server() -> Iterator[Sandbox]:
    from airflow_provider_lago.sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def lago_sandbox(_lago_sandbox_server: Sandbox) -> Iterator[Sandbox]:
    """An empty sandbox Lago; the server is shared by the session and reset around each test."""
    _lago_sandbox_server.reset()
    _lago_sandbox_server.latency = 0.0
    yield _lago_sandbox_server
    _lago_sandbox_server.reset()
    _lago_sandbox_server.latency = 0.0


@pytest.fixture
def lago_sandbox_connection(lago_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of an Airflow connection to :func:`lago_sandbox`, there for this test only."""
    monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", lago_sandbox.connection_json)
    return "lago_default"
