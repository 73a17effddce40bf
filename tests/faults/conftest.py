"""What several tests of faults use."""

from __future__ import annotations

import pytest
from support.stores import Bucket, s3_server


@pytest.fixture(scope="session")
def s3():
    """An S3 of the tests' own."""
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(s3, monkeypatch):
    """A bucket of the test's own, and the Airflow connection to it."""
    with Bucket(s3) as bucket:
        monkeypatch.setenv(*bucket.environment)
        yield bucket
