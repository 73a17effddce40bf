"""What one reply to a call means for the way it is sent, and what it tells of the record."""

import json

import pytest

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.failures import Cause, Failure
from airflow_provider_lago.delivery.calls.conversation import Reply, holds, is_readable, rejected
from airflow_provider_lago.delivery.calls.judging import Again, Take, judge
from airflow_provider_lago.delivery.outcomes import Outcome, Refusal, SlowDown, Stop

JSON = "application/json"


def lagos(status, code=None, **more):
    body = {"status": status, "error": "No", **({"code": code} if code else {}), **more}
    return Answer(status, {"content-type": JSON}, json.dumps(body).encode())


def foreign(status, body=b"<p>no</p>", kind="text/plain", **headers):
    return Answer(status, {"content-type": kind, **headers}, body)


def verdict(result, *, repeatable=True, **more):
    return judge(result, repeatable=repeatable, conn_id="billing", **more)


def again(result, **more):
    """Return whether Lago may have executed it, whether the server is unwell, and whether it asks for less."""
    found = verdict(result, **more)
    assert isinstance(found, Again), found
    assert found.why
    return found.executed, found.outage, found.busy


class TestJudging:
    @pytest.mark.parametrize(
        ("cause", "executed"),
        [
            (Cause.DNS, False),
            (Cause.REFUSED, False),
            (Cause.PROXY, False),
            (Cause.CONNECT, False),
            (Cause.CONNECT_TIMEOUT, False),
            (Cause.READ_TIMEOUT, True),
            (Cause.BROKEN, True),
        ],
    )
    def test_a_call_without_an_answer_is_tried_again(self, cause, executed):
        assert again(Failure(cause, "broke")) == (executed, True, False)
        assert verdict(Failure(cause, "broke")).why == "broke"

    @pytest.mark.parametrize("cause", [Cause.CERTIFICATE, Cause.TLS, Cause.TOO_LONG])
    def test_what_no_try_heals_stops_the_delivery(self, cause):
        assert verdict(Failure(cause, "broke")) == Stop("broke")

    @pytest.mark.parametrize(
        ("status", "executed"),
        [(501, True), (502, True), (503, True), (504, True), (408, True), (409, False), (423, False), (425, False)],
    )
    def test_a_status_that_passes_is_tried_again(self, status, executed):
        assert again(foreign(status)) == (executed, True, False)
        assert again(lagos(status)) == (executed, True, False)

    def test_a_500_may_be_the_records_fault(self):
        assert again(lagos(500)) == (True, False, False)

    @pytest.mark.parametrize(
        ("status", "executed"),
        [
            (400, False),
            (403, False),
            (404, False),
            (405, False),
            (406, False),
            (411, False),
            (413, False),
            (414, False),
            (415, False),
            (422, True),
            (431, False),
            (451, False),
        ],
    )
    def test_a_gateways_refusal_may_be_of_one_record_or_of_all(self, status, executed):
        if status == 404:
            return_of_gateway = foreign(status, b'{"message":"no","code":"gone"}', JSON)
        else:
            return_of_gateway = foreign(status)
        assert again(return_of_gateway) == (executed, False, False)

    @pytest.mark.parametrize(
        "reply",
        [lagos(422, "validation_errors"), lagos(404, "customer_not_found"), lagos(405, "method_not_allowed")],
    )
    def test_lagos_refusals_are_about_the_record(self, reply):
        assert verdict(reply) == Take()

    @pytest.mark.parametrize(
        "reply",
        [lagos(401), lagos(403, "write_action_not_allowed_for_customer"), lagos(403), lagos(404, "resource_not_found")],
    )
    def test_what_fails_for_all_stops_the_delivery(self, reply):
        assert isinstance(verdict(reply), Stop)
        assert "billing" in verdict(reply).why

    def test_a_feature_that_one_record_asks_for_is_that_records_matter(self):
        assert verdict(lagos(403, "feature_unavailable")) == Take()

    def test_a_redirect_stops_the_delivery(self):
        assert isinstance(verdict(foreign(302, b"", location="https://sso.example.com/")), Stop)

    def test_a_404_of_nobody_stops_a_delivery_unless_lago_has_answered_there_before(self):
        assert isinstance(verdict(foreign(404)), Stop)
        assert again(foreign(404), known=True) == (False, True, False)
        assert isinstance(verdict(lagos(404, "resource_not_found"), known=True), Stop)

    def test_a_slash_that_a_proxy_decodes_costs_only_the_record_that_has_it(self):
        wrong = lagos(404, "resource_not_found")
        assert verdict(wrong, path="customers/a%2Fb") == Take()
        assert isinstance(verdict(wrong, path="customers/ab"), Stop)
        assert isinstance(verdict(lagos(401), path="customers/a%2Fb"), Stop)

    def test_too_many_requests_are_no_ones_fault(self):
        assert verdict(Answer(429, {"retry-after": "3"})) == SlowDown()
        assert verdict(lagos(429), repeatable=False) == SlowDown()

    def test_a_throttled_payment_provider_may_have_done_a_part(self):
        throttled = lagos(429, "too_many_provider_requests")
        assert verdict(throttled, repeatable=False) == Take()
        assert again(throttled, repeatable=True) == (True, False, False)

    def test_a_lock_asks_for_less_at_a_time(self):
        assert again(lagos(422, "lock_acquisition_failed")) == (False, True, True)

    @pytest.mark.parametrize(
        ("status", "executed"), [(422, True), (400, False), (404, False), (499, False), (500, True), (503, True)]
    )
    def test_a_refusal_that_is_cut_on_its_way_says_nothing(self, status, executed):
        for kind in (JSON, "Application/JSON ; charset=utf-8"):
            assert again(foreign(status, b'{"status": 422, "er', kind)) == (executed, True, False)

    def test_a_body_of_nothing_or_null_is_not_cut(self):
        for body in (b"", b" \n", b" null "):
            assert again(foreign(500, body, JSON)) == (True, False, False)

    @pytest.mark.parametrize("status", [200, 201, 299])
    def test_a_success_with_what_was_asked_for_is_taken(self, status):
        customer = foreign(status, b'{"customer": {}}', JSON)
        assert verdict(customer, expects="customer") == Take()
        assert verdict(customer) == Take()
        assert again(customer, expects="subscription") == (True, True, False)
        assert "subscription" in verdict(customer, expects="subscription").why

    @pytest.mark.parametrize("body", [b"", b'{"customer": {', b"ok", b"null"])
    def test_a_success_without_what_was_asked_for_may_have_been_done(self, body):
        assert again(foreign(200, body), expects="customer") == (True, True, False)

    def test_a_success_that_is_a_web_page_is_no_lago(self):
        page = foreign(200, b"<!doctype html>", "text/html")
        assert isinstance(verdict(page), Stop)
        assert "'billing'" in verdict(page, expects="customer").why

    def test_a_success_without_a_body_is_one_where_nothing_is_expected(self):
        assert verdict(Answer(200)) == Take()
        assert again(foreign(200, b'{"a', JSON)) == (True, True, False)


class TestReplies:
    @pytest.mark.parametrize(
        ("reply", "succeeded", "unknown"),
        [
            (Reply(lagos(200)), True, False),
            (Reply(lagos(299)), True, False),
            (Reply(lagos(200), complete=False), False, True),
            (Reply(lagos(300)), False, False),
            (Reply(lagos(300), complete=False), False, False),
            (Reply(lagos(199)), False, False),
            (Reply(lagos(404)), False, False),
            (Reply(lagos(422), complete=False), False, False),
            (Reply(lagos(408)), False, True),
            (Reply(lagos(499)), False, False),
            (Reply(lagos(500)), False, True),
            (Reply(Failure(Cause.BROKEN, "broke")), False, True),
        ],
    )
    def test_what_is_known_of_a_call(self, reply, succeeded, unknown):
        assert (reply.succeeded, reply.unknown) == (succeeded, unknown)

    @pytest.mark.parametrize(
        ("result", "refusal"),
        [
            (Failure(Cause.READ_TIMEOUT, "no answer in time"), Refusal("no answer in time", "read timeout")),
            (lagos(200), Refusal("HTTP 200 without what was asked for", "200")),
            (
                lagos(422, "validation_errors", error_details={"email": ["invalid"]}),
                Refusal("email: invalid", "validation_errors"),
            ),
            (lagos(422, error_details="overlap"), Refusal("overlap", "422")),
            (lagos(404, "customer_not_found"), Refusal("customer_not_found", "customer_not_found")),
            (lagos(405), Refusal("No", "405")),
        ],
    )
    def test_a_refusal_has_lagos_words_and_code(self, result, refusal):
        assert Reply(result).refusal == refusal

    def test_a_rejected_record_has_the_reason_the_code_and_what_it_means(self):
        settled = rejected(Reply(lagos(404, "plan_not_found")), "make the plan first", status="pending")
        assert (settled.outcome, settled.reason, settled.code) == (Outcome.REJECTED, "plan_not_found", "plan_not_found")
        assert (settled.detail, settled.facts) == ("make the plan first", {"status": "pending"})

    def test_a_part_of_a_body_is_an_object_or_nothing(self):
        assert Reply(foreign(200, b'{"a": {"b": 1}, "c": [1]}', JSON)).part("a") == {"b": 1}
        assert Reply(foreign(200, b'{"a": {"b": 1}, "c": [1]}', JSON)).part("c") == {}
        assert Reply(foreign(200, b"[1]", JSON)).part("a") == {}
        assert Reply(Failure(Cause.BROKEN, "broke")).part("a") == {}
        assert Reply(Failure(Cause.BROKEN, "broke")).status == 0

    @pytest.mark.parametrize(
        ("body", "root", "held"),
        [
            (b'{"customer": {}}', "customer", True),
            (b'{"customer": []}', "customer", False),
            (b'{"customers": []}', "customers", True),
            (b'{"customers": [{}, {}]}', "customers", True),
            (b'{"customers": [{}, 1]}', "customers", False),
            (b'{"customers": {}}', "customers", False),
            (b"{}", "customer", False),
            (b"[]", "customers", False),
            (b"", "customer", False),
            (b"", None, True),
        ],
    )
    def test_an_answer_holds_an_object_or_a_list_of_objects(self, body, root, held):
        assert holds(foreign(200, body), root) is held

    @pytest.mark.parametrize(
        ("body", "kind", "readable"),
        [
            (b"", JSON, True),
            (b" \n", JSON, True),
            (b'{"a": 1}', JSON, True),
            (b" null\n", JSON, True),
            (b'{"a": ', JSON, False),
            (b"done", "Text/Plain ; charset=utf-8", True),
            (b"done", "text/csv", False),
        ],
    )
    def test_a_success_is_readable_if_it_is_whole(self, body, kind, readable):
        assert is_readable(foreign(200, body, kind)) is readable
        assert is_readable(Answer(200, {}, b'{"a')) is False
