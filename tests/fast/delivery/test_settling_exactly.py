"""Each answer to events, and all that is concluded from it."""

import json

import pytest

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.delivery.events import settling
from airflow_provider_lago.delivery.events.settling import Accepted, Opaque, Sorted, lago_ids
from airflow_provider_lago.delivery.outcomes import Refusal, SlowDown, Stop

DUPLICATE = {"transaction_id": ["value_already_exist"]}


def answer(status, body=b"", **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer.of(status, headers.items(), raw)


def lagos(status, code=None, **more):
    return answer(status, {"status": status, "error": "No", **({"code": code} if code else {}), **more})


def settle(answer, size=2, **settings):
    return settling.settle(answer, size, conn_id="eu", **settings)


def opaque(reason, code, **facts):
    return Opaque(Refusal(reason, code), **facts)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (lagos(500), opaque("server error (HTTP 500)", "500", stored=True)),
        (lagos(501), opaque("No", "501", outage=True, stored=True)),
        (lagos(503), opaque("No", "503", outage=True, stored=True)),
        (lagos(408), opaque("No", "408", outage=True, stored=True)),
        (lagos(409), opaque("No", "409", outage=True, stored=True)),
        (lagos(423), opaque("No", "423", outage=True, stored=True)),
        (lagos(425), opaque("No", "425", outage=True, stored=True)),
        (lagos(413), opaque("request too large (HTTP 413)", "413", lasts=True, blames=True)),
        (lagos(400), opaque("No", "400", lasts=True, blames=True)),
        (answer(400, b"x"), opaque("HTTP 400 with a body that is not Lago's JSON (no content type)", "400")),
        (answer(403, b"x"), opaque("HTTP 403 with a body that is not Lago's JSON (no content type)", "403")),
        (
            lagos(422, "lock_acquisition_failed"),
            opaque("No (lock_acquisition_failed)", "lock_acquisition_failed", outage=True),
        ),
        (lagos(422, "other"), opaque("No (other)", "other", lasts=True, blames=True)),
        (lagos(422), opaque("No", "422", lasts=True, blames=True)),
        (answer(422, b""), opaque("HTTP 422 with an empty body", "422", outage=True)),
        (
            answer(422, b"<html>", **{"content-type": "text/html"}),
            opaque("HTTP 422 with a body that is not Lago's JSON (text/html)", "422"),
        ),
        (
            answer(201, b"{}"),
            opaque("HTTP 201 is not an answer of Lago to events", "200", outage=True, stored=True),
        ),
        (
            answer(299, b"{}"),
            opaque("HTTP 299 is not an answer of Lago to events", "200", outage=True, stored=True),
        ),
        (
            answer(200, {"events": [{}]}),
            opaque("HTTP 200 for 1 of 2 events", "200", outage=True, stored=True),
        ),
        (
            answer(200, b"{"),
            opaque("HTTP 200 with a body that is not Lago's answer to events", "200", outage=True, stored=True),
        ),
        (answer(429, b"", **{"retry-after": "2"}), SlowDown()),
    ],
)
def test_an_answer_says_exactly_this(given, verdict):
    assert settle(given) == verdict


@pytest.mark.parametrize(
    ("given", "final"),
    [
        (lagos(401), True),
        (lagos(403, "write_action_not_allowed_for_event"), True),
        (lagos(404, "resource_not_found"), True),
        (answer(302, b"", location="https://x.example"), True),
        (lagos(402), False),
        (lagos(404, "organization_not_found"), False),
        (answer(300, b""), True),
    ],
)
def test_what_stops_a_delivery_may_be_for_good_or_not(given, final):
    verdict = settle(given)
    assert isinstance(verdict, Stop)
    assert verdict.final is final


def test_a_request_that_lost_its_events_on_the_way_stops_the_delivery():
    for given in (
        lagos(400, message="param is missing or the value is empty: events"),
        lagos(422, "validation_errors", error_details={"events": ["no_events"]}),
    ):
        verdict = settle(given)
        assert isinstance(verdict, Stop)
        assert "changes the body" in verdict.why
        assert verdict.final


@pytest.mark.parametrize(
    ("details", "size", "duplicates", "rejected"),
    [
        ({"0": DUPLICATE}, 1, {0}, {}),
        ({"1": DUPLICATE, "0": {"code": ["x"]}}, 2, {1}, {0: "code: x"}),
        ({"99": DUPLICATE}, 100, {99}, {}),
        ({"0": {"code": ["x" * 300]}}, 1, set(), {0: ("code: " + "x" * 300)[:197] + "..."}),
    ],
)
def test_events_are_sorted_by_what_lago_says_of_each(details, size, duplicates, rejected):
    verdict = settle(lagos(422, "validation_errors", error_details=details), size)
    assert isinstance(verdict, Sorted)
    assert verdict.duplicates == duplicates
    assert {index: refusal.reason for index, refusal in verdict.rejected.items()} == rejected
    assert all(refusal.code == "validation_errors" for refusal in verdict.rejected.values())


@pytest.mark.parametrize("details", [{"1": DUPLICATE}, {"0": DUPLICATE, "1": DUPLICATE}])
def test_an_index_beyond_the_request_names_nobody(details):
    verdict = settle(lagos(422, "validation_errors", error_details=details), 1)
    assert isinstance(verdict, Opaque)


def test_a_single_event_is_settled_by_its_own_answer():
    assert settle(answer(200, {"event": {}}), 1, single=True) == Accepted()
    assert isinstance(settle(answer(200, {"events": [{}]}), 1, single=True), Opaque)
    assert isinstance(settle(answer(200, {"event": {}}), 1), Opaque)
    rejected = settle(lagos(422, "validation_errors", error_details={"code": ["x"]}), 1, single=True)
    assert rejected == Sorted(frozenset(), {0: Refusal("code: x", "validation_errors")})
    assert isinstance(settle(lagos(422, "other"), 1, single=True), Opaque)


@pytest.mark.parametrize(
    ("body", "single", "ids"),
    [
        ({"events": [{"lago_id": "a"}, {"lago_id": None}, {}]}, False, ["a", None, None]),
        ({"event": {"lago_id": "a"}}, True, ["a"]),
        ({"event": {"lago_id": "a"}}, False, []),
        ({"events": [{"lago_id": "a"}]}, True, ["a"]),
        (b"", False, []),
        (b"{", True, []),
        ({"events": [{"lago_id": 5}]}, False, []),
    ],
)
def test_lagos_own_ids_are_read_where_it_gives_them(body, single, ids):
    assert lago_ids(answer(200, body), single=single) == ids
