"""One Airflow database for all tests of this folder."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _database() -> None:
    from airflow.utils.db import initdb

    initdb()
