"""The webhook of an Airflow HTTP connection."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lago.exceptions import LagoConnectionError
from airflow_provider_lago.hooks import webhook as module
from airflow_provider_lago.hooks.webhook import read_webhook

PASSWORD = "hunter2hunter2"


@pytest.fixture
def connect(monkeypatch):
    def make(**fields):
        connection = {"conn_type": "http", "host": "https://hooks.example.com", **fields}
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(connection))

    return make


@pytest.fixture
def masked(monkeypatch):
    secrets = []
    monkeypatch.setattr(module, "mask_secret", secrets.append)
    return secrets


def test_fields_of_the_connection_and_the_path_become_a_webhook(connect, masked):
    connect(login="me", password=PASSWORD, port=8443, extra={"headers": {"X-Token": "t0ken-value"}, "timeout": 5})
    made = read_webhook("hook", "/lago/answers")
    assert made.url == "https://hooks.example.com:8443/lago/answers"
    assert (made.auth, made.headers, made.timeout) == (("me", PASSWORD), {"X-Token": "t0ken-value"}, 5)


def test_its_secrets_are_masked_in_logs(connect, masked):
    connect(login="me", password=PASSWORD, extra={"X-Token": "t0ken-value"})
    read_webhook("hook")
    assert masked == [PASSWORD, "t0ken-value"]


def test_a_connection_that_cannot_be_used_fails_without_retries(connect):
    connect(host="", password=PASSWORD)
    with pytest.raises(LagoConnectionError, match="Connection 'hook': host is empty") as caught:
        read_webhook("hook")
    assert caught.value.__cause__ is None


def test_an_extra_that_is_no_object_is_told(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps({"conn_type": "http", "host": "x", "extra": "[1]"}))
    with pytest.raises(LagoConnectionError, match="not a JSON object"):
        read_webhook("hook")


def test_proxy_and_bundle_of_the_environment_count_where_the_connection_names_none(
    connect, monkeypatch, masked, tmp_path
):
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@proxy:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    connect()
    made = read_webhook("hook")
    assert (made.proxy, made.verify) == (f"http://me:{PASSWORD}@proxy:3128", str(bundle))
    assert PASSWORD in masked
    connect(extra={"proxy": "http://other:1", "verify": False})
    made = read_webhook("hook")
    assert (made.proxy, made.verify) == ("http://other:1", False)
    connect(extra={"trust_env": False})
    made = read_webhook("hook")
    assert (made.proxy, made.verify) == (None, True)
    monkeypatch.setenv("NO_PROXY", "hooks.example.com")
    connect()
    assert read_webhook("hook").proxy is None


def test_a_bundle_that_is_not_there_is_told_before_anything_is_sent(connect):
    connect(extra={"verify": "/nowhere/ca.pem"})
    with pytest.raises(LagoConnectionError, match=r"/nowhere/ca\.pem"):
        read_webhook("hook")
