"""Airflow must find its home before anything imports it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

_HOME = tempfile.mkdtemp(prefix="airflow-provider-lago-")
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"


def pytest_configure(config: pytest.Config) -> None:
    """Load the sandbox's fixtures also where the project is not installed, but only on the path."""
    plugins = config.pluginmanager
    if not plugins.has_plugin("lago_sandbox"):
        plugins.import_plugin("airflow_provider_lago.sandbox.pytest_plugin")


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """Give a PostgreSQL server to all tests that need one; see ``support.postgres``."""
    from support.postgres import running_postgres, why_missing

    if why := why_missing():
        pytest.skip(why)
    with running_postgres() as server:
        yield server
