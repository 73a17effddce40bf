"""What the Test button says."""

from __future__ import annotations

import socket
import ssl
import time

import pytest
import trustme
from support.deliveries import KEY
from support.scripted import CUT, Reply, ScriptedServer, as_json

from airflow_provider_lago.hooks import doctor

ORGANIZATION = {"organization": {"lago_id": "1", "name": "Acme", "events_store": "clickhouse"}}


def html(status):
    return Reply(status, b"<html><title>Hi</title></html>", {"Content-Type": "text/html"})


def verdict(hook_for, reply, **fields):
    with ScriptedServer(lambda request: reply) as server:
        works, said = hook_for(server, **fields).test_connection()
        assert len(server.requests) == 1, "the button asks once, whatever the answer"
        assert server.requests[0].method == "GET"
        assert server.requests[0].path.endswith("/api/v1/organizations")
    assert KEY not in said
    assert "\n" not in said
    assert "'billing'" not in said, "the form tests a copy under a random id"
    assert said.endswith(".")
    return works, said.replace(server.url, "SERVER")


@pytest.mark.parametrize(
    ("reply", "works", "told"),
    [
        (
            as_json(200, ORGANIZATION),
            True,
            "Connected to organization 'Acme' at SERVER, events kept in ClickHouse.",
        ),
        (
            as_json(200, {"organization": {"lago_id": "1", "name": "Old"}}),
            True,
            "Connected to organization 'Old' at SERVER.",
        ),
        (
            as_json(403, {"status": 403, "error": "Forbidden", "code": "read_action_not_allowed_for_organization"}),
            True,
            "Connected to SERVER; the API key is restricted and may not read the organization's name.",
        ),
        (
            as_json(401, {"status": 401, "error": "Unauthorized"}),
            False,
            "Lago at SERVER refuses the API key: it is wrong, expired or of another region; check the password.",
        ),
        (
            as_json(404, {"status": 404, "error": "Not Found", "code": "resource_not_found"}),
            False,
            "SERVER has no /api/v1/organizations (HTTP 404): Lago answers there, but not under this path; check the "
            "host.",
        ),
        (
            html(404),
            False,
            "SERVER has no /api/v1/organizations (HTTP 404): this is not Lago's API; check the host.",
        ),
        (
            html(200),
            False,
            "SERVER answers with a web page, so this is not Lago's API (its UI perhaps?); check the host.",
        ),
        (as_json(200, {"hello": 1}), False, "SERVER answers, but not as Lago does; check the host."),
        (Reply(200), False, "SERVER answers, but not as Lago does; check the host."),
        (as_json(200, [1]), False, "SERVER answers, but not as Lago does; check the host."),
        (html(403), False, "SERVER answers HTTP 403"),
        (html(503), False, "SERVER answers HTTP 503"),
        (as_json(429, {}), False, "SERVER answers HTTP 429"),
        (CUT, False, "The connection to SERVER broke"),
        (
            Reply(301, b"", {"Location": "https://lago.example.com/x?secret=1"}),
            False,
            "SERVER redirects to https://lago.example.com; redirects are not followed, as the API key would go along; "
            "if https://lago.example.com is your Lago, make it the host.",
        ),
    ],
)
def test_every_answer_has_a_sentence(hook_for, reply, works, told):
    found, said = verdict(hook_for, reply)
    assert (found, said[: len(told)]) == (works, told)


def test_a_sub_path_is_part_of_the_address(hook_for):
    with ScriptedServer(lambda request: as_json(200, ORGANIZATION)) as server:
        works, said = hook_for(f"{server.url}/billing").test_connection()
    assert works
    assert f"{server.url}/billing" in said
    assert server.requests[0].path == "/billing/api/v1/organizations"


def test_a_server_that_is_down(hook_for):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert hook_for(f"http://127.0.0.1:{port}").test_connection() == (
        False,
        f"http://127.0.0.1:{port} refused the connection: is Lago running there? Check host and port.",
    )


def test_a_host_that_cannot_be_resolved(hook_for):
    assert hook_for("https://nonexistent.invalid").test_connection() == (
        False,
        "The host name of https://nonexistent.invalid cannot be resolved; check the host.",
    )


def test_a_server_that_does_not_answer_is_not_waited_for_long(hook_for, monkeypatch):
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    began = time.monotonic()
    with ScriptedServer(lambda request: Reply(delay=3)) as server:
        works, said = hook_for(server, extra={"timeout": 600}).test_connection()
    assert not works
    assert "in time" in said
    assert time.monotonic() - began < 2


def test_a_certificate_that_is_not_trusted(hook_for):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with ScriptedServer(lambda request: as_json(200, ORGANIZATION), context) as server:
        works, said = hook_for(server).test_connection()
    assert not works
    assert said.startswith(f"The certificate of {server.url} is not trusted")
    assert "'ca_bundle'" in said


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"password": "***"}, "Password is the mask '***'"),
        ({"password": ""}, "Password is empty"),
        ({"host": "https://app.getlago.com"}, "Host app.getlago.com is Lago's UI"),
        ({"extra": {"tiemout": 1}}, "Extra 'tiemout' is not known"),
        ({"host": "https://x.com", "extra": {"ca_bundle": "/no/such"}}, "The CA bundle '/no/such'"),
    ],
)
def test_a_wrong_configuration_is_said_without_any_call(hook_for, fields, told):
    works, said = hook_for(**fields).test_connection()
    assert not works
    assert said.startswith(told)
    assert KEY not in said


def test_a_missing_connection():
    from airflow_provider_lago.hooks.lago import LagoHook

    works, said = LagoHook("no_such_connection").test_connection()
    assert (works, said) == (False, "There is no connection 'no_such_connection'.")


def test_anything_unforeseen_is_a_sentence_too_and_hides_the_details(hook_for, monkeypatch):
    from airflow_provider_lago.hooks.lago import LagoHook

    def explode(self, call, timeout=None):
        raise ZeroDivisionError(KEY)

    monkeypatch.setattr(LagoHook, "exchange", explode)
    works, said = hook_for("http://localhost:1").test_connection()
    assert not works
    assert "ZeroDivisionError" in said
    assert KEY not in said


def test_airflows_own_connection_test_reaches_the_hook(hook_for, monkeypatch):
    import json

    from airflow.models.connection import Connection

    from airflow_provider_lago.hooks.lago import LagoHook

    with ScriptedServer(lambda request: as_json(200, ORGANIZATION)) as server:
        # What the Test button does: the connection under a random id, as a URI in the environment.
        stored = Connection(
            "abc", conn_type="lago", host=server.url, password=KEY, extra=json.dumps({"region": None, "timeout": "5"})
        )
        monkeypatch.setenv("AIRFLOW_CONN_RANDOM_ID", stored.get_uri())
        works, said = LagoHook("random_id").test_connection()
    assert works
    assert "Acme" in said
