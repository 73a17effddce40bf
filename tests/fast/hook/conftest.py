"""A hook on a connection made up by the test, and everything that it logs."""

from __future__ import annotations

import json
import logging

import pytest
from support.deliveries import KEY


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def hook_for(monkeypatch):
    from airflow_provider_lago.hooks.lago import LagoHook

    made = []

    def make(host="", *, password=KEY, extra=None, retry_limit=3, retry_delay=0.001, timeout=None, **fields):
        host = getattr(host, "url", host)
        connection = {"conn_type": "lago", "host": host, "password": password, "extra": extra or {}, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_BILLING", json.dumps(connection))
        hook = LagoHook("billing", retry_limit=retry_limit, retry_delay=retry_delay, timeout=timeout)
        made.append(hook)
        return hook

    yield make
    for hook in made:
        hook.close()


@pytest.fixture
def logged(monkeypatch):
    """Every line that any logger of the standard library or the hook writes, formatted, tracebacks included."""
    from airflow_provider_lago.hooks.lago import LagoHook

    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record))

    logger = logging.getLogger("tests.hook")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    handler = Keep()
    logger.addHandler(handler)
    monkeypatch.setattr(LagoHook, "log", logger)
    root = logging.getLogger()
    urllib3 = logging.getLogger("urllib3")
    level, before = urllib3.level, root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    urllib3.setLevel(logging.DEBUG)
    yield lines
    logger.removeHandler(handler)
    root.removeHandler(handler)
    root.setLevel(before)
    urllib3.setLevel(level)
