"""Connections made up by the test, without what the environment says about proxies and certificates."""

import json

import pytest
from support.deliveries import KEY


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def connect(monkeypatch):
    """Make an Airflow connection of a type, ``lago`` being the default one of operators and hook."""

    def made(host, conn_id="lago_default", conn_type="lago", password=KEY, **fields):
        fields = {"conn_type": conn_type, "host": getattr(host, "url", host), "password": password, **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        return conn_id

    return made


@pytest.fixture
def hook_for(connect):
    from airflow_provider_lago.hooks.lago import LagoHook

    made = []

    def make(host, *, retry_limit=1, **fields):
        made.append(LagoHook(connect(host, **fields), retry_limit=retry_limit, retry_delay=0.001))
        return made[-1]

    yield make
    for hook in made:
        hook.close()
