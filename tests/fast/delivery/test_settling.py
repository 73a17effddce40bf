import json

import pytest

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.delivery.events import settling
from airflow_provider_lago.delivery.events.settling import Accepted, Opaque, Sorted
from airflow_provider_lago.delivery.outcomes import Refusal, SlowDown, Stop

DUPLICATE = {"transaction_id": ["value_already_exist"]}


def settle(answer, size, **settings):
    return settling.settle(answer, size, conn_id="lago_eu", **settings)


def answer(status, body=b"", **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer.of(status, headers.items(), raw)


def refused(details, code="validation_errors"):
    return answer(422, {"status": 422, "error": "Unprocessable Entity", "code": code, "error_details": details})


def test_200_means_stored_with_an_echo_or_without():
    assert settle(answer(200, {"events": [{}, {}]}), 2) == Accepted()
    assert settle(answer(200, b""), 2) == Accepted()
    assert settle(answer(200, b" \n"), 2) == Accepted()
    assert settle(answer(200, {"event": {"lago_id": None}}), 1, single=True) == Accepted()


@pytest.mark.parametrize("body", [b"Welcome", b'{"events":[{"lago_id":', b"{}", b"[]", {"events": [{}]}, {"event": {}}])
def test_a_200_that_is_not_lagos_echo_proves_nothing(body):
    verdict = settle(answer(200, body), 2)
    assert verdict.outage
    assert verdict.stored


def test_a_web_page_with_200_is_no_lago_and_stops_the_delivery():
    verdict = settle(answer(200, b"<!DOCTYPE html><html>Welcome</html>", **{"Content-Type": "text/html"}), 2)
    assert isinstance(verdict, Stop)
    assert "check the host of connection 'lago_eu'" in verdict.why


def test_events_are_sorted_by_the_index_that_lago_names():
    verdict = settle(
        refused({"0": DUPLICATE, "2": {"timestamp": ["invalid_format"]}, "3": "expression_evaluation_failed: x"}), 5
    )
    assert verdict == Sorted(
        frozenset({0}),
        {
            2: Refusal("timestamp: invalid_format", "validation_errors"),
            3: Refusal("expression_evaluation_failed: x", "validation_errors"),
        },
    )


def test_only_the_exact_duplicate_error_is_a_duplicate():
    both = {"transaction_id": ["value_already_exist"], "code": ["value_is_mandatory"]}
    twice = {"transaction_id": ["value_already_exist", "value_is_mandatory"]}
    verdict = settle(refused({"0": both, "1": twice}), 2)
    assert verdict.duplicates == frozenset()
    assert set(verdict.rejected) == {0, 1}


def test_a_single_event_has_no_index():
    assert settle(refused(DUPLICATE), 1, single=True) == Sorted(frozenset({0}), {})
    verdict = settle(refused("expression_evaluation_failed: Variable: mb not found"), 1, single=True)
    assert verdict.rejected[0].reason == "expression_evaluation_failed: Variable: mb not found"


@pytest.mark.parametrize(
    "details",
    [
        {"7": DUPLICATE},
        {"0": DUPLICATE, "x": 1},
        {},
        None,
        "text",
        [1],
        {"events": ["too_many_events"]},
        {"-1": DUPLICATE},
        {"²": 1},
    ],
)
def test_a_422_that_names_no_event_of_the_request_is_looked_into_by_halves(details):
    verdict = settle(refused(details), 5)
    assert isinstance(verdict, Opaque)
    assert verdict.lasts
    assert verdict.blames


def test_a_busy_lock_is_no_refusal():
    verdict = settle(refused(None, "lock_acquisition_failed"), 5)
    assert (verdict.lasts, verdict.outage, verdict.stored) == (False, True, False)


def test_no_events_in_a_request_that_holds_some_stops_the_delivery():
    assert isinstance(settle(refused({"events": ["no_events"]}), 5), Stop)


def test_413_and_lagos_own_400_blame_the_request_and_a_proxys_400_nobody():
    assert settle(answer(413, b"<html>"), 5).blames
    assert settle(answer(400, {"status": 400, "error": "Bad Request"}), 5).blames
    assert not settle(answer(400, b""), 5).blames


def test_a_500_may_pass_so_it_is_not_settled():
    verdict = settle(answer(500, {"status": 500, "error": "Internal Server Error"}), 5)
    assert (verdict.lasts, verdict.blames, verdict.outage, verdict.stored) == (False, False, False, True)


@pytest.mark.parametrize("status", [502, 503, 504, 408])
def test_an_answer_from_a_proxy_leaves_open_what_was_stored(status):
    verdict = settle(answer(status, b"<html>"), 5)
    assert verdict.outage
    assert verdict.stored


def test_429_is_left_to_the_pace():
    assert settle(answer(429, b"slow down", **{"x-ratelimit-reset": "3"}), 5) == SlowDown()
    assert settle(answer(429), 5) == SlowDown()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {"status": 401, "error": "Unauthorized"}, "password"),
        (403, {"status": 403, "error": "Forbidden", "code": "write_action_not_allowed_for_event"}, "lacks event:write"),
        (404, {"status": 404, "error": "Not Found", "code": "resource_not_found"}, "host"),
        (404, b"<html>", "host"),
        (405, b"", "405"),
        (418, b"", "418"),
    ],
)
def test_what_no_event_is_to_blame_for_stops_the_delivery_and_says_what_to_change(status, body, says):
    verdict = settle(answer(status, body), 5)
    assert isinstance(verdict, Stop)
    assert says in verdict.why


def test_a_redirect_stops_and_names_the_target_alone():
    verdict = settle(answer(301, Location="https://other.example/api?token=x"), 5)
    assert "https://other.example" in verdict.why
    assert "token" not in verdict.why
