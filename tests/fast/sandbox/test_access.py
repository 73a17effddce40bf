"""Keys, permissions, rate limits, routes and headers."""

from __future__ import annotations

import http.client
import json

import pytest

from airflow_provider_lago.sandbox import Sandbox
from airflow_provider_lago.sandbox.access import RateLimit, parse_permissions

FULL, WRITER, READER = "full-key", "writer-key", "reader-key"
EVENT = {"event": {"transaction_id": "a", "code": "c", "external_subscription_id": "s"}}


@pytest.fixture(scope="module")
def limited():
    keys = {FULL: None, WRITER: {"event": ["write"]}, READER: {"event": ["read"], "customer": ["read", "write"]}}
    with Sandbox(api_keys=keys) as sandbox:
        yield sandbox


@pytest.fixture
def by(limited):
    def ask(key, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", limited.port, timeout=5)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, f"/api/v1{path}", json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    return ask


def test_a_restricted_key_is_told_what_it_may_not(by):
    assert by(WRITER, "POST", "/events", EVENT)[0] == 200
    assert by(WRITER, "GET", "/events") == (403, forbidden("read_action_not_allowed_for_event"))
    assert by(READER, "POST", "/events", EVENT) == (403, forbidden("write_action_not_allowed_for_event"))
    assert by(READER, "GET", "/events/a")[0] == 200
    assert by(READER, "GET", "/organizations") == (403, forbidden("read_action_not_allowed_for_organization"))
    assert by(FULL, "GET", "/organizations")[0] == 200


def forbidden(code):
    return {"status": 403, "error": "Forbidden", "code": code}


def test_an_unknown_key_is_unauthorized_but_a_wrong_address_is_not_found(by):
    assert by("nope", "GET", "/events") == (401, {"status": 401, "error": "Unauthorized"})
    assert by("nope", "GET", "/nope")[1]["code"] == "resource_not_found"


def test_the_scheme_is_not_looked_at_but_a_bare_key_is_no_key(lago):
    key = lago.sandbox.api_key
    assert lago.get("/plans", Authorization=f"Basic {key}").status == 200
    assert lago.get("/plans", Authorization=key).status == 401


def test_permissions_are_read_from_text():
    assert parse_permissions("event:write, customer:read+write") == {
        "event": ["write"],
        "customer": ["read", "write"],
    }
    for wrong in ("event", "event:", "event:delete", ":read"):
        with pytest.raises(ValueError, match="permission"):
            parse_permissions(wrong)


def test_no_limit_no_headers(lago):
    assert not [name for name in lago.get("/plans").headers if name.startswith("x-ratelimit")]


def test_a_limit_counts_all_keys_together_and_ends_with_its_window(lago):
    lago.sandbox.app.limit = RateLimit(3, 30)
    try:
        answers = [lago.get("/plans") for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
        assert answers[0].headers["x-ratelimit-limit"] == "3"
        assert 0 < int(answers[3].headers["x-ratelimit-reset"]) <= 30
        assert b"{" not in answers[3].text
        assert lago.get("/health").status == 200
        lago.sandbox.app.limit.window = 0
        assert lago.get("/plans").status == 200
    finally:
        lago.sandbox.app.limit = RateLimit()


def test_limits_and_latency_are_set_over_http(lago):
    try:
        answer = lago.ask("PUT", "/_sandbox/settings", {"rate_limit": 1, "rate_window": 60, "latency": 0.01})
        assert answer.json == {"rate_limit": 1, "rate_window": 60.0, "latency": 0.01}
        assert [lago.get("/plans").status for _ in range(2)] == [200, 429]
        assert lago.ask("PUT", "/_sandbox/settings", {"nope": 1}).status == 400
    finally:
        lago.ask("PUT", "/_sandbox/settings", {"rate_limit": None, "latency": 0})


def test_a_reader_who_has_the_answer_is_told_so(lago):
    first = lago.get("/plans")
    assert first.headers["etag"].startswith('W/"')
    again = lago.get("/plans", If_None_Match=first.headers["etag"])
    assert (again.status, again.text) == (304, b"")


def test_every_answer_has_a_request_id(lago):
    assert len(lago.get("/plans").headers["x-request-id"]) == 36
    assert lago.get("/plans", X_Request_Id="mine").headers["x-request-id"] == "mine"


def test_head_is_a_get_without_a_body(lago):
    answer = lago.ask("HEAD", "/plans")
    assert (answer.status, answer.text) == (200, b"")
    assert int(answer.headers["content-length"]) > 10


def test_slashes_are_squeezed(lago):
    assert lago.get("/api/v1//plans/").status == 200
