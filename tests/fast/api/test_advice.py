"""What a failed answer means for the person who runs the task."""

import json

import pytest

from airflow_provider_lago.api.advice import (
    advise,
    describe,
    is_redirect,
    is_web_page,
    is_wrong_url,
    lasts,
    missing_permission,
    one_line,
    redirect_origin,
)
from airflow_provider_lago.api.answers import Answer


def answer(status, body=None, **headers):
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Answer.of(status, ((name.replace("_", "-"), value) for name, value in headers.items()), raw)


def refused(status, code=None):
    return answer(status, {"status": status, "error": "No", **({"code": code} if code else {})})


@pytest.mark.parametrize(
    ("code", "permission"),
    [
        ("write_action_not_allowed_for_event", "event:write"),
        ("read_action_not_allowed_for_billable_metric", "billable_metric:read"),
        ("feature_unavailable", None),
        ("", None),
        (None, None),
    ],
)
def test_the_permission_that_a_key_lacks(code, permission):
    assert missing_permission(code) == permission


@pytest.mark.parametrize(
    ("status", "redirect"),
    [(299, False), (300, True), (301, True), (304, False), (308, True), (399, True), (400, False)],
)
def test_a_redirect_is_any_3xx_but_not_modified(status, redirect):
    assert is_redirect(answer(status)) is redirect


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (refused(404, "resource_not_found"), True),
        (answer(404, b"<html>"), True),
        (refused(404, "customer_not_found"), False),
        (refused(422, "resource_not_found"), False),
        (answer(200), False),
    ],
)
def test_a_url_that_lago_does_not_serve_is_told_from_an_object_that_it_does_not_hold(given, wrong):
    assert is_wrong_url(given) is wrong


@pytest.mark.parametrize(
    ("given", "forever"),
    [
        (refused(401), True),
        (refused(403, "feature_unavailable"), True),
        (answer(407), True),
        (answer(302), True),
        (refused(404, "resource_not_found"), True),
        (refused(404, "plan_not_found"), False),
        (refused(402), False),
        (refused(405), False),
        (refused(422), False),
        (answer(500), False),
        (answer(503), False),
    ],
)
def test_what_another_try_cannot_help(given, forever):
    assert lasts(given) is forever


@pytest.mark.parametrize(
    ("given", "page"),
    [
        (answer(200, b"x", Content_Type="text/html"), True),
        (answer(200, b"x", Content_Type="Text/HTML ; charset=utf-8"), True),
        (answer(200, b"x", Content_Type="application/xhtml+xml"), True),
        (answer(200, b" \n<!DOCTYPE html><p>"), True),
        (answer(200, b"<!doctype html>"), True),
        (answer(200, b"{}", Content_Type="application/json"), False),
        (answer(200, b"<html>"), False),
        (answer(200), False),
    ],
)
def test_a_web_page_is_known_by_its_type_or_its_first_words(given, page):
    assert is_web_page(given) is page


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("https://sso.example.com:8443/login?token=secret", "https://sso.example.com:8443"),
        ("http://lago.example.com", "http://lago.example.com"),
        ("//lago.example.com/x", "https://lago.example.com"),
        ("https://[::1]:3000/x", "https://[::1]:3000"),
        ("https://user:secret@lago.example.com/", "https://lago.example.com"),
        ("/login", "another path of the same server"),
        ("", "another path of the same server"),
        ("https://[::1", "an unreadable address"),
        ("https://lago.example.com:x/", "an unreadable address"),
    ],
)
def test_of_a_redirect_only_the_server_is_told(location, origin):
    given = answer(302, Location=location)
    assert redirect_origin(given) == origin
    assert f"HTTP 302, a redirect to {origin}; redirects are not followed" in describe(given, "billing")
    assert f"if {origin} is your Lago" in advise(given, "billing")
    assert "secret" not in describe(given, "billing")


def test_a_redirect_to_nowhere_is_described_too():
    assert redirect_origin(answer(302)) == "another path of the same server"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (refused(401), "check the password (API key) of connection 'billing'"),
        (answer(407), "check extra 'proxy' of connection 'billing'"),
        (answer(413), "send less in one request"),
        (refused(404, "resource_not_found"), "no such URL in this Lago: check the host of connection 'billing'"),
        (refused(403, "write_action_not_allowed_for_event"), "of connection 'billing' lacks event:write"),
        (refused(403, "feature_unavailable"), "premium licence"),
        (refused(403, "other"), "of connection 'billing' may not do this"),
    ],
)
def test_what_can_be_changed_is_told(given, told):
    assert told in advise(given, "billing")
    assert told in describe(given, "billing")


def test_a_refusal_that_nobody_can_prevent_is_described_without_advice():
    assert advise(refused(422), "billing") == ""
    assert describe(refused(422, "plan_overlap"), "billing") == "HTTP 422 No (plan_overlap)"
    assert describe(answer(503), "billing") == "HTTP 503 with an empty body"


def test_one_line_is_one_line_and_no_longer_than_asked():
    assert one_line("a\n  b\r\n\tc") == "a b c"
    assert one_line("x" * 1000) == "x" * 1000
    assert one_line("x" * 1001) == "x" * 997 + "..."
    assert one_line("abcdefgh", 6) == "abc..."
