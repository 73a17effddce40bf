import json

import pytest

from airflow_provider_lago.api.answers import Answer, describe_details, is_of_lago, read_error
from airflow_provider_lago.api.retry import RetryPolicy, is_repeatable, wait_after_429


def error(status, body, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_error(Answer.of(status, headers.items(), raw))


def test_a_validation_error_keeps_code_details_and_one_readable_line():
    facts = error(
        422,
        {
            "status": 422,
            "error": "Unprocessable Entity",
            "code": "validation_errors",
            "error_details": {"1": {"timestamp": ["invalid_format"]}},
        },
    )
    assert facts.code == "validation_errors"
    assert facts.details == {"1": {"timestamp": ["invalid_format"]}}
    assert facts.message == "Unprocessable Entity (validation_errors): 1: timestamp: invalid_format"


def test_error_details_may_be_a_plain_text():
    facts = error(422, {"status": 422, "code": "validation_errors", "error_details": "expression_evaluation_failed: x"})
    assert facts.details == "expression_evaluation_failed: x"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty body"),
        (b"<html><title>502 Bad Gateway</title></html>", "'502 Bad Gateway'"),
        (b'{"status":', "not Lago's JSON"),
        (b"[1]", "not Lago's JSON"),
        (b"\xff\xfe", "not Lago's JSON"),
        (b"[" * 5000, "not Lago's JSON"),
    ],
)
def test_a_foreign_body_never_raises_and_is_described(body, says):
    facts = error(502, body, **{"Content-Type": "text/html"})
    assert facts.code is None
    assert says in facts.message


def test_long_details_are_cut():
    assert len(describe_details({"f": ["x" * 1000]})) <= 300
    assert describe_details("x" * 300) == "x" * 300
    assert describe_details("x" * 301) == "x" * 297 + "..."
    assert describe_details("abcdefgh", 6) == "abc..."


def test_of_many_details_the_first_eight_are_told():
    named = {str(n): ["taken"] for n in range(100)}
    assert describe_details(named) == "; ".join(f"{n}: taken" for n in range(8))
    assert describe_details(list(range(100))) == "0, 1, 2, 3, 4, 5, 6, 7"


def test_the_headers_of_an_answer_that_matter_for_support_and_pace():
    rates = {"x-ratelimit-limit": "5", "x-ratelimit-remaining": "4", "x-ratelimit-reset": "1", "retry-after": "2"}
    answer = Answer.of(429, {**rates, "X-Request-ID": "abc", "Server": "x"}.items(), b"")
    assert answer.rate_headers == rates
    assert answer.request_id == "abc"
    assert Answer(200).rate_headers == {}
    assert Answer(200).request_id is None


@pytest.mark.parametrize(
    ("body", "lagos"),
    [
        ({"status": 422, "error": "No"}, True),
        ({"status": 500, "error": "No"}, False),
        ({"error": "No"}, False),
        ([422], False),
        (None, False),
    ],
)
def test_lagos_own_refusals_repeat_the_status(body, lagos):
    assert is_of_lago(Answer(422, {}, json.dumps(body).encode())) is lagos


def test_a_foreign_body_is_told_with_its_type_and_title():
    page = b"<TITLE>\n 502 Bad\xff </TITLE><title>other</title>"
    assert error(502, page, **{"Content-Type": "text/html; charset=x"}).message == (
        "HTTP 502 with a body that is not Lago's JSON (text/html titled '502 Bad\ufffd')"
    )
    assert error(502, b"no").message == "HTTP 502 with a body that is not Lago's JSON (no content type)"
    assert error(502, b"").message == "HTTP 502 with an empty body"


def test_an_error_says_what_it_holds():
    assert error(400, {"message": "said", "error": "other"}).message == "said"
    assert error(400, {"error": "other"}).message == "other"
    assert error(400, {"status": 400}).message == "HTTP 400"
    assert error(400, {"code": 7, "error": "x"}).code is None
    assert error(400, {"code": 7, "error": "x"}).message == "x"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-ratelimit-reset": "2"}, 2.0),
        ({"X-RateLimit-Reset": "2.5"}, 2.5),
        ({"Retry-After": "7", "x-ratelimit-reset": "2"}, 7.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "x-ratelimit-reset": "2"}, 2.0),
        ({"x-ratelimit-reset": "-1"}, None),
        ({"x-ratelimit-reset": "nan"}, None),
        ({"x-ratelimit-reset": "99999999"}, 300.0),
        ({}, None),
    ],
)
def test_the_wait_that_a_429_asks_for(headers, expected):
    assert Answer.of(429, headers.items(), b"").asked_wait == expected


def test_backoff_doubles_up_to_its_cap_and_has_full_jitter():
    policy = RetryPolicy(attempts=8, base=1, cap=30)
    assert [policy.wait(tries, lambda: 1.0) for tries in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert policy.wait(5, lambda: 0.0) == 0
    assert policy.wait(10_000, lambda: 1.0) == 30


def test_a_429_waits_what_it_asks_plus_a_little_and_backs_off_without_a_word():
    policy = RetryPolicy(base=1, cap=30)
    assert wait_after_429(10, 1, policy, lambda: 0.0) == 10
    assert 10 < wait_after_429(10, 1, policy, lambda: 0.999) <= 11
    assert wait_after_429(0, 1, policy, lambda: 0.999) > 0
    assert wait_after_429(None, 3, policy, lambda: 1.0) == 4


@pytest.mark.parametrize(("asked", "most"), [(0, 1.05), (0.2, 1.05), (2, 2.2), (5, 5.5), (10, 11.0), (60, 61.0)])
def test_the_jitter_after_a_429_is_a_tenth_of_the_wait_and_at_most_a_second(asked, most):
    policy = RetryPolicy(base=1, cap=30)
    assert wait_after_429(asked, 1, policy, lambda: 1.0) == pytest.approx(most)


def test_the_usual_patience_outlasts_a_restart_of_lago():
    policy = RetryPolicy()
    assert [policy.wait(tries, lambda: 1.0) for tries in range(1, policy.attempts)] == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(
    ("method", "path", "safe"),
    [
        ("GET", "customers", True),
        ("post", "/events", True),
        ("POST", "events/batch", True),
        ("POST", "events/estimate_fees", True),
        ("POST", "wallets", False),
        ("POST", "customers", False),
        ("POST", "invoices", False),
        ("PUT", "invoices/1/void", False),
        ("DELETE", "subscriptions/s", False),
        ("HEAD", "wallets", True),
        ("OPTIONS", "wallets", True),
        ("POST", "events/estimate_instant_fees", True),
        ("POST", "events/batch_estimate_instant_fees/", True),
        ("POST", "billable_metrics/evaluate_expression", True),
        ("POST", "credit_notes/estimate", True),
        ("POST", "invoices/preview", True),
        ("PUT", "events", False),
    ],
)
def test_only_reads_and_writes_that_lago_recognises_are_repeated_blindly(method, path, safe):
    assert is_repeatable(method, path) is safe
