"""Conversations by themselves, without a network: replies in, calls out, an outcome at the end."""

from __future__ import annotations

import json

import pytest
from support.deliveries import connection

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.failures import Cause, Failure
from airflow_provider_lago.delivery.calls import subscriptions
from airflow_provider_lago.delivery.calls.conversation import Lost, Reply, holds, is_readable
from airflow_provider_lago.delivery.calls.customers import CustomerPlan
from airflow_provider_lago.delivery.calls.lookups import find, find_all
from airflow_provider_lago.delivery.calls.requests import Body, RequestPlan
from airflow_provider_lago.delivery.calls.subscriptions import Memory, SubscriptionPlan
from airflow_provider_lago.delivery.calls.terminations import TerminationPlan
from airflow_provider_lago.delivery.outcomes import Outcome, Settled
from airflow_provider_lago.sources.values import ValueSource


def said(status, body=None, **facts):
    """Lago's answer; ``facts`` such as ``repeated`` tell how it came."""
    content = b"" if body is None else json.dumps(body).encode()
    return Reply(Answer(status, {"content-type": "application/json"}, content), **facts)


def error(status, code, details=None, **facts):
    extra = {} if details is None else {"error_details": details}
    return said(status, {"status": status, "error": "Refused", "code": code, **extra}, **facts)


def customer(**fields):
    return said(200, {"customer": {"external_id": "acme", "lago_id": "l", **fields}})


def live(*rows):
    mine = {"external_id": "s1", "external_customer_id": "acme", "lago_id": "l", "status": "active"}
    return said(200, {"subscriptions": [{**mine, **row} for row in rows]})


def made(**fields):
    return said(200, {"subscription": {"external_id": "s1", "lago_id": "l", "status": "active", **fields}})


NO_CUSTOMER = error(404, "customer_not_found")
NO_SUBSCRIPTION = error(404, "subscription_not_found")
THROTTLED = error(429, "too_many_provider_requests")
SILENCE = Reply(Failure(Cause.READ_TIMEOUT, "no answer in time"))
BROKEN = error(500, "internal_error")


def jobs(kind, *records, **plan):
    made = kind(source=ValueSource([]), settings=connection("http://lago"), user_agent="test", **plan)
    return [made.job(row, row.data, dict(row.data)) for row in ValueSource(list(records)).rows()]


def job(kind, record, **plan):
    return jobs(kind, record, **plan)[0]


def hold(talk, *replies):
    """Hold a conversation; return its calls as ``verb target``, and its end: None where it wants another reply."""
    calls = [next(talk)]
    for number, reply in enumerate(replies, 1):
        try:
            calls.append(talk.send(reply))
        except StopIteration as end:
            assert number == len(replies), "it ended before the last reply"
            return calls, end.value
    return calls, None


def end_of(talk, *replies):
    return hold(talk, *replies)[1]


def targets(calls):
    return [f"{call.method} {call.target}" for call in calls]


class TestReply:
    @pytest.mark.parametrize(
        ("status", "succeeded", "unknown"),
        [
            (199, False, False),
            (200, True, False),
            (299, True, False),
            (300, False, False),
            (407, False, False),
            (408, False, True),
            (409, False, False),
            (499, False, False),
            (500, False, True),
        ],
    )
    def test_what_lago_did_shows_in_the_status(self, status, succeeded, unknown):
        reply = said(status, {})
        assert (reply.succeeded, reply.unknown) == (succeeded, unknown)

    @pytest.mark.parametrize(("status", "unknown"), [(199, False), (200, True), (299, True), (300, False)])
    def test_a_success_without_what_was_asked_for_leaves_it_unknown(self, status, unknown):
        reply = said(status, {}, complete=False)
        assert (reply.succeeded, reply.unknown) == (False, unknown)
        assert (reply.refusal.reason == f"HTTP {status} without what was asked for") == unknown
        assert reply.refusal.code == str(status)

    def test_no_answer_is_told_with_its_cause(self):
        assert (SILENCE.status, SILENCE.unknown, SILENCE.succeeded) == (0, True, False)
        assert SILENCE.json() is None
        assert (SILENCE.refusal.reason, SILENCE.refusal.code) == ("no answer in time", "read timeout")

    def test_a_refusal_is_told_in_lagos_words_as_far_as_there_are_any(self):
        details = error(422, "validation_errors", {"name": ["too_long"]}).refusal
        assert (details.reason, details.code) == ("name: too_long", "validation_errors")
        code = error(404, "plan_not_found").refusal
        assert (code.reason, code.code) == ("plan_not_found", "plan_not_found")
        bare = said(422, {"status": 422, "error": "Unprocessable Entity"}).refusal
        assert (bare.reason, bare.code) == ("Unprocessable Entity", "422")
        uncoded = said(422, {"error_details": {"name": ["too_long"]}}).refusal
        assert (uncoded.reason, uncoded.code) == ("name: too_long", "422")

    def test_the_part_under_a_root_is_an_object_or_empty(self):
        assert customer().part("customer") == {"external_id": "acme", "lago_id": "l"}
        assert customer().part("subscription") == {}
        assert said(200, {"customer": [1]}).part("customer") == {}
        assert said(200, [1]).part("customer") == {}

    def test_an_answer_holds_an_object_or_a_list_of_objects_as_the_root_says(self):
        def answer(body):
            return said(200, body).result

        assert holds(answer(None), None)
        assert holds(answer({"customer": {}}), "customer")
        assert not holds(answer({"customer": []}), "customer")
        assert not holds(answer({"customer": {}}), "customers")
        assert holds(answer({"customers": []}), "customers")
        assert holds(answer({"customers": [{}]}), "customers")
        assert not holds(answer({"customers": [{}, 1]}), "customers")
        assert not holds(answer([]), "customers")

    @pytest.mark.parametrize(
        ("kind", "body", "readable"),
        [
            ("text/html", b" \n", True),
            ("text/plain; charset=utf-8", b"half a", True),
            (" Text/Plain ", b"half a", True),
            ("application/json", b"{}", True),
            ("application/json", b" null ", True),
            ("application/json", b'{"a":', False),
            ("text/html", b"<p>", False),
        ],
    )
    def test_a_success_is_read_as_json_or_plain_text(self, kind, body, readable):
        assert is_readable(Answer(200, {"content-type": kind}, body)) is readable
        assert is_readable(Answer(200, {}, b"x")) is False


class TestLookUp:
    def test_a_plain_id_is_asked_for_by_its_path_and_another_answer_is_not_taken_for_it(self):
        calls, end = hold(find("customer", "a/b"), customer(external_id="a"))
        assert targets(calls) == ["GET customers/a%2Fb"]
        assert calls[0].expects == "customer"
        assert (end.outcome, end.reason) == (Outcome.REJECTED, "external_id: Lago answers another one")
        assert "asked for customer 'a/b', Lago answered 'a'; nothing was sent" in end.detail

    def test_a_status_is_asked_for_in_path_and_list(self):
        calls, end = hold(
            find("subscription", "a/b", status="pending"),
            error(404, "resource_not_found"),
            said(200, {"subscriptions": []}),
        )
        assert targets(calls) == [
            "GET subscriptions/a%2Fb?status=pending",
            "GET subscriptions?external_id=a%2Fb&per_page=20&status=pending",
        ]
        assert end is None

    def test_the_pages_of_a_list_are_followed_as_long_as_they_hold_something(self):
        row = {"external_id": "a.b"}

        def page(rows, following):
            return said(200, {"customers": rows, "meta": {"next_page": following}})

        calls, end = hold(find_all("customer", "a.b"), page([row], 2), page([row], 3), page([], 4))
        assert {call.expects for call in calls} == {"customers"}
        assert targets(calls)[1:] == [
            "GET customers?external_id=a.b&per_page=20&page=2",
            "GET customers?external_id=a.b&per_page=20&page=3",
        ]
        assert end == [row, row]

    @pytest.mark.parametrize("meta", [None, [], {}, {"next_page": None}, {"next_page": "2"}, {"next_page": 1}])
    def test_what_names_no_later_page_is_the_last(self, meta):
        row = {"external_id": "a.b"}
        assert end_of(find_all("customer", "a.b"), said(200, {"customers": [row], "meta": meta})) == [row]

    def test_an_empty_list_means_that_lago_holds_none_and_the_first_of_several_counts(self):
        assert end_of(find("customer", "a.b"), said(200, {"customers": []})) is None
        rows = [{"external_id": "a.b", "n": 1}, {"external_id": "a.b", "n": 2}]
        assert end_of(find("customer", "a.b"), said(200, {"customers": rows})) == rows[0]

    def test_one_row_of_another_id_shows_that_lists_are_not_filtered(self):
        rows = [{"external_id": "a.b"}, {"external_id": "other"}]
        end = end_of(find("customer", "a.b"), said(200, {"customers": rows}))
        assert (end.outcome, end.reason) == (Outcome.REJECTED, "external_id: cannot be looked up")

    @pytest.mark.parametrize("external_id", ["acme", "a.b"])
    @pytest.mark.parametrize("reply", [SILENCE, BROKEN, error(403, "feature_unavailable")])
    def test_what_lago_does_not_say_is_not_guessed(self, reply, external_id):
        end = end_of(find("customer", external_id), reply)
        assert end.outcome is Outcome.REJECTED
        assert end.detail == "Lago did not say whether it holds the customer; nothing was sent"
        assert (end.reason, end.code) == (reply.refusal.reason, reply.refusal.code)


def upserts(*records, **plan):
    return [job.talk() for job in jobs(CustomerPlan, *records, **plan)]


def upsert(record, **plan):
    return upserts({"external_id": "acme", **record}, **plan)[0]


ACCEPTED = {
    "created": Settled(Outcome.ACCEPTED, "created", lago_id="l"),
    "updated": Settled(Outcome.ACCEPTED, "updated", lago_id="l"),
}


class TestCustomer:
    def test_what_lago_took_over_whole_has_no_detail_and_no_facts(self):
        assert end_of(upsert({"name": "A"}), NO_CUSTOMER, customer(name="A")) == ACCEPTED["created"]
        assert end_of(upsert({"name": "A"}), customer(), customer(name="A")) == ACCEPTED["updated"]
        zone = {"timezone": "Europe/Rome"}
        assert end_of(upsert(zone), NO_CUSTOMER, customer(**zone)) == ACCEPTED["created"]
        assert set(CustomerPlan.kinds) == set(ACCEPTED)

    def test_a_premium_field_that_lago_drops_is_told_of_once_and_is_in_each_receipt(self):
        zone = {"external_id": "acme", "timezone": "Europe/Rome"}
        first, second = upserts(zone, zone)
        told = end_of(first, NO_CUSTOMER, customer(timezone=None))
        assert told.facts == {"not_taken": ["timezone"]}
        assert "timezone" in told.detail
        quiet = end_of(second, customer(timezone=None), customer(timezone=None))
        assert quiet == Settled(Outcome.ACCEPTED, "updated", lago_id="l", facts={"not_taken": ["timezone"]})

    def test_a_customer_that_is_as_it_is_to_be_is_skipped_with_its_id(self):
        end = end_of(upsert({"name": "A"}, skip_unchanged=True), customer(name="A"))
        assert end == Settled(Outcome.SKIPPED, "unchanged", reason="unchanged", lago_id="l")

    def test_what_an_answer_showed_to_be_dropped_is_no_change(self):
        zone = {"external_id": "acme", "timezone": "Europe/Rome"}
        first, second = upserts(zone, zone, skip_unchanged=True)
        end_of(first, NO_CUSTOMER, customer(timezone=None))
        assert end_of(second, customer(timezone=None)).outcome is Outcome.SKIPPED

    def test_what_lago_holds_after_a_lost_answer_does_not_show_what_it_drops(self):
        """It may be as it was before, never having been asked."""
        zone = {"external_id": "acme", "timezone": "Europe/Rome"}
        first, second = upserts(zone, zone, skip_unchanged=True)
        assert end_of(first, NO_CUSTOMER, SILENCE, customer(timezone=None)).kind == "created"
        calls, end = hold(second, customer(timezone=None))
        assert (targets(calls)[-1], end) == ("POST customers", None)

    def test_more_metadata_than_lago_holds_is_refused_with_the_keys_that_there_would_be(self):
        rows = [{"lago_id": f"m{n}", "key": f"k{n}", "value": "v"} for n in range(5)]
        end = end_of(upsert({"metadata": {"new": "v"}}), customer(metadata=rows))
        assert (end.outcome, end.reason) == (Outcome.REJECTED, "metadata: more than 5")
        assert end.detail.endswith("these are 6: k0, k1, k2, k3, k4, new")

    def test_a_500_is_a_refusal_where_lago_holds_no_customer_after_it(self):
        end = end_of(upsert({"name": "A"}), NO_CUSTOMER, BROKEN, NO_CUSTOMER)
        assert (end.outcome, end.reason, end.code) == (Outcome.REJECTED, "internal_error", "internal_error")
        assert (end.detail, end.lago_id, end.facts) == ("refused by Lago, or on the way to it", None, {})

    def test_a_500_is_a_refusal_where_the_customer_is_as_it_was(self):
        end = end_of(upsert({"name": "A"}), customer(name="B"), BROKEN, customer(name="B"))
        assert (end.reason, end.detail) == ("internal_error", "refused by Lago, or on the way to it")

    @pytest.mark.parametrize(("before", "done"), [(NO_CUSTOMER, "created"), (customer(name="B"), "updated")])
    def test_a_500_after_the_customer_itself_was_saved_says_so(self, before, done):
        record = {"name": "A", "billing_configuration": {"payment_provider": "stripe", "sync": True}}
        end = end_of(upsert(record), before, BROKEN, customer(name="A"))
        assert end.outcome is Outcome.REJECTED
        assert end.reason == "saved, but internal_error"
        assert end.detail.startswith(f"the customer itself was {done}; ")
        assert (end.code, end.lago_id, end.facts) == ("internal_error", "l", {"saved": True})

    def test_a_post_that_reaches_others_is_not_repeated_after_silence(self):
        record = {"name": "A", "billing_configuration": {"payment_provider": "stripe", "sync": True}}
        end = end_of(upsert(record), NO_CUSTOMER, SILENCE, NO_CUSTOMER)
        assert end == Lost("POST customers: no answer in time")

    def test_a_post_that_makes_links_comes_again_after_a_500_but_not_forever(self):
        record = {"integration_customers": [{"integration_type": "xero", "integration_code": "x"}]}
        one = (NO_CUSTOMER, BROKEN, NO_CUSTOMER)
        calls, end = hold(upsert(record), *one, *one, *one)
        assert [call.method for call in calls].count("POST") == 3
        assert end.detail == "refused by Lago, or on the way to it"

    def test_one_that_another_made_meanwhile_counts_as_updated(self):
        taken = error(422, "validation_errors", {"external_id": ["value_already_exist"]})
        assert end_of(upsert({}), NO_CUSTOMER, taken, customer(), customer()) == ACCEPTED["updated"]

    def test_one_that_an_earlier_try_may_have_made_still_counts_as_created(self):
        taken = error(422, "validation_errors", {"external_id": ["value_already_exist"]}, repeated=True)
        assert end_of(upsert({}), NO_CUSTOMER, taken, customer(), customer()) == ACCEPTED["created"]
        taken = error(422, "validation_errors", {"external_id": ["value_already_exist"]})
        links = {"integration_customers": [{"integration_type": "xero", "integration_code": "x"}]}
        end = end_of(upsert(links), NO_CUSTOMER, BROKEN, NO_CUSTOMER, NO_CUSTOMER, taken, customer(), customer())
        assert end == ACCEPTED["created"]

    def test_a_race_that_never_ends_is_a_rejection_after_three_posts(self):
        one = (NO_CUSTOMER, error(422, "validation_errors", {"external_id": ["value_already_exist"]}))
        calls, end = hold(upsert({}), *one, *one, *one)
        assert [call.method for call in calls].count("POST") == 3
        assert end.detail == "others change this customer at the same time, again and again"

    def test_a_provider_that_throttles_each_post_is_no_outcome_yet(self):
        one = (NO_CUSTOMER, THROTTLED)
        end = end_of(upsert({}), *one, *one, *one)
        assert end.why == "POST customers: too_many_provider_requests"
        assert (end.at_last.outcome, end.at_last.code) == (Outcome.REJECTED, "too_many_provider_requests")
        assert "a payment provider throttles Lago" in end.at_last.detail

    def test_one_that_the_caller_tried_to_the_end_is_not_posted_more(self):
        end = end_of(upsert({}), NO_CUSTOMER, error(429, "too_many_provider_requests", repeated=True))
        assert end.at_last.outcome is Outcome.REJECTED

    @pytest.mark.parametrize(
        "field",
        [
            "base",
            "payment_provider",
            "payment_provider_code",
            "provider_customer_id",
            "document_locale",
            "invoice_grace_period",
        ],
    )
    def test_a_refusal_of_what_lago_sets_last_is_looked_into(self, field):
        refusal = error(422, "validation_errors", {field: ["value_is_invalid"]})
        end = end_of(upsert({"name": "A"}), NO_CUSTOMER, refusal, customer(name="A"))
        assert end.reason == f"saved, but {field}: value_is_invalid"
        end = end_of(upsert({"name": "A"}), customer(name="B"), refusal, customer(name="B"))
        assert (end.reason, end.detail) == (f"{field}: value_is_invalid", "refused by Lago")
        end = end_of(upsert({"name": "A"}), NO_CUSTOMER, refusal, NO_CUSTOMER)
        assert (end.reason, end.detail) == (f"{field}: value_is_invalid", "refused by Lago")

    def test_any_other_field_that_is_refused_left_the_customer_as_it_was(self):
        refusal = error(422, "validation_errors", {"currency": ["value_is_invalid"]})
        end = end_of(upsert({"name": "A"}), NO_CUSTOMER, refusal)
        assert (end.reason, end.code) == ("currency: value_is_invalid", "validation_errors")
        assert end.detail == "refused by Lago; the customer is as it was"

    @pytest.mark.parametrize(
        "refusal",
        [
            error(422, "provider_error"),
            error(405, "validation_errors", {"currency": ["value_is_invalid"]}),
            error(404, "tax_not_found"),
        ],
    )
    def test_any_other_refusal_is_looked_into(self, refusal):
        end = end_of(upsert({"name": "A"}), NO_CUSTOMER, refusal, customer(name="A"))
        assert end.reason == f"saved, but {refusal.refusal.reason}"
        end = end_of(upsert({"name": "A"}), NO_CUSTOMER, refusal, BROKEN)
        assert (end.reason, end.detail) == (refusal.refusal.reason, "refused by Lago")


def create(record=None, **plan):
    wanted = {"external_id": "s1", "external_customer_id": "acme", "plan_code": "basic", **(record or {})}
    return job(SubscriptionPlan, wanted, **{"require_customer": False, **plan})


class TestSubscription:
    def test_an_authorization_stands_beside_the_subscription_and_is_never_sent_twice(self):
        created = create({"authorization": {"amount_cents": 100, "amount_currency": "EUR"}})
        assert not created.call.repeatable
        body = json.loads(created.call.body)
        assert body["authorization"] == {"amount_cents": 100, "amount_currency": "EUR"}
        assert "authorization" not in body["subscription"]
        assert "authorization" not in json.loads(create().call.body)

    @pytest.mark.parametrize("reply", ["taken", "throttled"])
    def test_what_passes_is_posted_three_times_at_most(self, reply):
        taken = error(422, "validation_errors", {"external_id": ["value_already_exist"]})
        one = (live(), {"taken": taken, "throttled": THROTTLED}[reply])
        calls, end = hold(create().talk(), *one, *one, *one)
        assert [call.method for call in calls].count("POST") == 3
        if reply == "taken":
            assert (end.outcome, end.reason) == (Outcome.REJECTED, "external_id: value_already_exist")
            assert end.detail == "refused by Lago; no subscription was created or changed"
        else:
            assert end.why == "POST subscriptions: too_many_provider_requests"
            assert end.at_last.outcome is Outcome.REJECTED

    def test_a_throttle_that_the_caller_waited_for_is_not_posted_more(self):
        end = end_of(create().talk(), live(), error(429, "too_many_provider_requests", repeated=True))
        assert end.at_last.code == "too_many_provider_requests"

    @pytest.mark.parametrize(
        ("held", "details"),
        [([], {"plan_code": ["plan_not_found"]}), ([{"plan_code": "pro"}], {"external_id": ["value_already_exist"]})],
        ids=["another refusal", "taken while one is held"],
    )
    def test_what_does_not_pass_is_posted_once(self, held, details):
        end = end_of(create(on_existing="change_plan").talk(), live(*held), error(422, "validation_errors", details))
        assert end.detail == "refused by Lago; no subscription was created or changed"

    def test_a_plan_that_differs_is_told_with_the_one_that_follows_it(self):
        end = end_of(create({"plan_code": "other"}).talk(), live({"plan_code": "pro"}))
        assert end.detail.startswith("Lago holds plan 'pro', the record says 'other'; ")
        end = end_of(create({"plan_code": "other"}).talk(), live({"plan_code": "pro", "next_plan_code": "basic"}))
        assert end.detail.startswith("Lago holds plan 'pro' and 'basic' after it, the record says 'other'; ")
        assert (end.lago_id, end.facts["next_plan_code"]) == ("l", "basic")

    def test_one_that_has_the_plan_is_unchanged_and_says_what_waits_or_follows(self):
        assert end_of(create().talk(), live({"plan_code": "basic"})).detail == ""
        waits = end_of(create().talk(), live({"plan_code": "basic", "status": "incomplete"}))
        assert (waits.kind, waits.detail) == ("unchanged", "it waits for a payment")
        follows = end_of(create().talk(), live({"plan_code": "basic", "next_plan_code": "pro"}))
        assert (follows.kind, follows.detail) == ("unchanged", "plan 'pro' is to follow 'basic'")
        comes = end_of(create().talk(), live({"plan_code": "pro", "next_plan_code": "basic"}))
        assert (comes.kind, comes.detail) == ("unchanged", "")
        assert "unchanged" in SubscriptionPlan.kinds

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            ({"plan_code": "pro", "next_plan_code": "basic"}, "downgraded"),
            ({"plan_code": "basic", "lago_id": "new"}, "upgraded"),
            ({"plan_code": "basic"}, "changed"),
            ({}, "changed"),
        ],
    )
    def test_a_change_of_plan_is_called_by_what_lago_answers(self, answer, kind):
        answered = made(**answer) if answer else said(200, {"subscription": {}})
        end = end_of(create(on_existing="change_plan").talk(), live({"plan_code": "pro"}), answered)
        assert (end.outcome, end.kind) == (Outcome.ACCEPTED, kind)
        assert kind in SubscriptionPlan.kinds

    def test_a_plan_that_lago_keeps_is_no_change(self):
        end = end_of(create(on_existing="change_plan").talk(), live({"plan_code": "pro"}), made(plan_code="pro"))
        assert (end.outcome, end.reason) == (Outcome.REJECTED, "plan_code: not changed")
        assert end.detail == "Lago answers 200 and keeps 'pro'"

    def test_a_refusal_after_a_lost_answer_is_looked_into(self):
        refusal = error(422, "validation_errors", {"base": ["next_subscription_incomplete"]}, repeated=True)
        mine, others = {"plan_code": "basic"}, {"plan_code": "pro"}
        assert end_of(create().talk(), live(), refusal, live(mine)).kind == "created"
        for held in ([], [others], [{**mine, "external_customer_id": "other"}]):
            end = end_of(create().talk(), live(), refusal, live(*held))
            assert (end.outcome, end.detail) == (
                Outcome.REJECTED,
                "refused by Lago; it does not hold what was asked for",
            )
        assert end_of(create().talk(), live(), refusal, BROKEN).detail.startswith("Lago did not say")

    def test_silence_is_no_outcome_as_long_as_lago_does_not_show_the_subscription(self):
        assert end_of(create().talk(), live(), SILENCE, live()) == Lost("POST subscriptions: no answer in time")
        assert end_of(create().talk(), live(), SILENCE, live({"plan_code": "basic"})).kind == "created"
        end = end_of(create().talk(), live(), BROKEN, live())
        assert end.detail == "refused by Lago; no subscription was created or changed"

    def test_begun_anew_it_knows_what_it_posted(self):
        created = create()
        end_of(created.talk(), live(), SILENCE, live())
        assert end_of(created.talk(), live({"plan_code": "basic"})).kind == "created"
        assert "created" in SubscriptionPlan.kinds

    def test_the_customer_is_looked_up_before_and_remembered_by_the_plan(self):
        plan = SubscriptionPlan(source=ValueSource([]), settings=connection("http://lago"), user_agent="test")
        records = [{"external_id": f"s{n}", "external_customer_id": "acme", "plan_code": "basic"} for n in range(2)]
        first, second = (plan.job(row, row.data, dict(row.data)) for row in ValueSource(records).rows())
        calls, _ = hold(first.talk(), live(), customer(), made())
        assert targets(calls)[1:] == ["GET customers/acme", "POST subscriptions"]
        calls, _ = hold(second.talk(), live(), made())
        assert targets(calls)[1:] == ["POST subscriptions"]
        missing = end_of(create(require_customer=True).talk(), live(), NO_CUSTOMER)
        assert (missing.code, missing.reason) == ("customer_not_found", "external_customer_id: no such customer")

    def test_a_release_that_does_not_filter_its_lists_is_asked_for_one_once(self):
        records = [
            {"external_id": name, "external_customer_id": "acme", "plan_code": "basic"} for name in ("s1", "s2", "s.3")
        ]
        first, second, dotted = (job.talk() for job in jobs(SubscriptionPlan, *records, require_customer=False))
        one_by_one = [f"?status={status}" for status in ("active", "pending", "incomplete")]
        calls, _ = hold(first, live({"external_id": "other"}), *[NO_SUBSCRIPTION] * 3, made())
        assert targets(calls)[1:4] == [f"GET subscriptions/s1{status}" for status in one_by_one]
        calls, _ = hold(second, *[NO_SUBSCRIPTION] * 3, made(external_id="s2"))
        assert targets(calls) == [*(f"GET subscriptions/s2{status}" for status in one_by_one), "POST subscriptions"]
        calls, end = hold(dotted, live({"external_id": "other"}))
        assert targets(calls)[0].startswith("GET subscriptions?external_id=s.3&")
        assert end.reason == "external_id: cannot be looked up"

    def test_one_of_several_states_that_lago_does_not_tell_is_no_guess(self):
        end = end_of(create().talk(), live({"external_id": "other"}), NO_SUBSCRIPTION, BROKEN)
        assert end.detail.startswith("Lago did not say")

    def test_so_many_customers_are_remembered_and_the_oldest_is_forgotten_first(self, monkeypatch):
        monkeypatch.setattr(subscriptions, "_MOST_KNOWN", 2)
        memory = Memory()
        for name in ("a", "b"):
            memory.add(name)
        assert "a" in memory
        assert "b" in memory
        memory.add("c")
        assert [name in memory for name in "abc"] == [False, True, True]


def end(record=None, **plan):
    return job(TerminationPlan, {"external_id": "s1", **(record or {})}, **plan)


class TestTermination:
    ENDED = {"status": "terminated"}

    @pytest.mark.parametrize(
        ("at", "outcome"),
        [
            ({"terminated_at": "2020-01-01T00:00:00Z"}, Outcome.SKIPPED),
            ({"canceled_at": "2020-01-01T00:00:00Z"}, Outcome.SKIPPED),
            ({"terminated_at": "2999-01-01T00:00:00Z"}, Outcome.ACCEPTED),
            ({"terminated_at": "yesterday"}, Outcome.ACCEPTED),
            ({"terminated_at": "2020-01-01T00:00:00"}, Outcome.ACCEPTED),
            ({"terminated_at": 5}, Outcome.ACCEPTED),
            ({}, Outcome.ACCEPTED),
        ],
    )
    def test_after_a_lost_answer_the_time_tells_whose_end_it_is_as_far_as_there_is_one(self, at, outcome):
        gone = error(404, "subscription_not_found", repeated=True)
        found = end_of(end().talk(), gone, made(**self.ENDED, **at))
        assert (found.outcome, found.kind) == (outcome, "terminated")
        assert found.reason == ("already terminated" if outcome is Outcome.SKIPPED else "")
        assert (found.lago_id, found.facts) == ("l", {"status": "terminated"})

    def test_an_end_that_was_never_asked_for_before_is_somebody_elses_however_recent(self):
        found = end_of(end().talk(), NO_SUBSCRIPTION, made(**self.ENDED, terminated_at="2999-01-01T00:00:00Z"))
        assert found.outcome is Outcome.SKIPPED

    def test_begun_anew_it_knows_that_it_may_have_ended_it(self):
        ending = end()
        next(ending.talk())
        found = end_of(ending.talk(), NO_SUBSCRIPTION, made(**self.ENDED))
        assert found.outcome is Outcome.ACCEPTED

    def test_after_silence_it_is_looked_up_as_it_was_and_then_as_ended(self):
        calls, found = hold(end().talk(), SILENCE, NO_SUBSCRIPTION, made(**self.ENDED))
        assert targets(calls) == [
            "DELETE subscriptions/s1",
            "GET subscriptions/s1?status=active",
            "GET subscriptions/s1?status=terminated",
        ]
        assert (found.outcome, found.kind) == (Outcome.ACCEPTED, "terminated")
        assert "terminated" in TerminationPlan.kinds
        found = end_of(end().talk(), BROKEN, made())
        assert (found.outcome, found.detail) == (Outcome.REJECTED, "the subscription is as it was")

    def test_one_that_waits_is_canceled_and_found_as_such(self):
        calls, found = hold(end({"status": "pending"}).talk(), NO_SUBSCRIPTION, made(status="canceled"))
        assert targets(calls) == ["DELETE subscriptions/s1?status=pending", "GET subscriptions/s1?status=canceled"]
        assert (found.outcome, found.kind, found.reason) == (Outcome.SKIPPED, "canceled", "already canceled")
        assert "canceled" in TerminationPlan.kinds

    @pytest.mark.parametrize(("status", "other"), [("active", "pending"), ("pending", "active")])
    def test_one_in_the_other_state_is_hinted_at(self, status, other):
        none = (NO_SUBSCRIPTION, NO_SUBSCRIPTION)
        calls, found = hold(end(status=status).talk(), *none, made(status=other))
        assert targets(calls)[-1] == f"GET subscriptions/s1?status={other}"
        assert f"there is one that is {other}: set status='{other}'" in found.detail
        for nothing in (NO_SUBSCRIPTION, BROKEN):
            found = end_of(end(status=status).talk(), *none, nothing)
            assert found.detail == f"there is no {status} subscription of that id, and none has ended"

    def test_a_look_that_says_nothing_is_no_guess(self):
        assert end_of(end().talk(), NO_SUBSCRIPTION, BROKEN).detail.startswith("Lago did not say")
        assert end_of(end().talk(), SILENCE, BROKEN).detail.startswith("Lago did not say")

    def test_a_path_that_a_proxy_changed_is_told_as_such(self):
        found = end_of(end({"external_id": "a/b"}).talk(), error(404, "resource_not_found"))
        assert "a proxy on the way decodes the slash" in found.detail

    def test_a_refusal_leaves_it_as_it_was(self):
        found = end_of(end().talk(), error(422, "validation_errors", {"base": ["no"]}))
        assert (found.reason, found.detail) == ("base: no", "refused by Lago; the subscription is as it was")


def request(record=None, method="POST", endpoint="coupons", **plan):
    return job(RequestPlan, record or {"code": "a"}, method=method, endpoint=endpoint, **plan)


class TestRequest:
    TAKEN = {"code": ["value_already_exist"]}
    KNOWN = {"transaction_id": ["value_already_exist"]}

    @pytest.mark.parametrize(
        ("method", "reply", "outcome"),
        [
            ("DELETE", (404, "coupon_not_found"), Outcome.ACCEPTED),
            ("DELETE", (404, "resource_not_found"), Outcome.REJECTED),
            ("DELETE", (404, "gone"), Outcome.REJECTED),
            ("DELETE", (405, "coupon_not_found"), Outcome.REJECTED),
            ("DELETE", (422, "validation_errors", TAKEN), Outcome.REJECTED),
            ("PUT", (404, "coupon_not_found"), Outcome.REJECTED),
            ("POST", (422, "validation_errors", TAKEN), Outcome.ACCEPTED),
            ("POST", (409, "validation_errors", TAKEN), Outcome.REJECTED),
            ("POST", (422, "validation_errors", {**TAKEN, "name": ["x"]}), Outcome.REJECTED),
        ],
    )
    def test_a_repetition_that_is_refused_for_what_the_first_one_did_is_accepted(self, method, reply, outcome):
        endpoint = "coupons" if method == "POST" else "coupons/{code}"
        found = end_of(request(method=method, endpoint=endpoint).talk(), error(*reply, repeated=True))
        assert found.outcome is outcome
        if outcome is Outcome.ACCEPTED:
            assert found.detail == "an earlier try did it, whose answer was lost"
        assert end_of(request(method=method, endpoint=endpoint).talk(), error(*reply)).outcome is Outcome.REJECTED

    def test_what_was_sent_once_and_not_answered_is_reported_with_what_is_known(self):
        found = end_of(request(idempotent=False).talk(), BROKEN)
        assert found.reason == "answer lost: Lago may have done it"
        assert found.detail.startswith("internal_error; it was sent once")
        assert (found.code, found.facts) == ("internal_error", {"unknown": True})
        assert end_of(request(idempotent=False).talk(), SILENCE).code == "read timeout"
        assert end_of(request(idempotent=True).talk(), BROKEN).detail == "refused by Lago (HTTP 500)"

    @pytest.mark.parametrize(
        ("method", "endpoint", "status", "details", "outcome"),
        [
            ("POST", "events", 422, KNOWN, Outcome.DUPLICATE),
            ("POST", "events", 400, KNOWN, Outcome.REJECTED),
            ("PUT", "events", 422, KNOWN, Outcome.REJECTED),
            ("POST", "coupons", 422, KNOWN, Outcome.REJECTED),
            ("POST", "events", 422, {"0": KNOWN}, Outcome.REJECTED),
            ("POST", "events/batch", 422, {"0": KNOWN}, Outcome.DUPLICATE),
            ("POST", "events/batch", 422, {"0": {"code": ["x"]}}, Outcome.REJECTED),
            ("POST", "events/batch", 422, "all of them", Outcome.REJECTED),
            ("POST", "coupons", 422, {"0": KNOWN}, Outcome.REJECTED),
        ],
    )
    def test_only_events_that_lago_knows_by_their_ids_are_duplicates(self, method, endpoint, status, details, outcome):
        body = Body(root="event") if endpoint == "events" else Body(envelope="events")
        sent = request({"transaction_id": "t"}, method, endpoint, body=body, idempotent=True)
        found = end_of(sent.talk(), error(status, "validation_errors", details))
        assert found.outcome is outcome
        if outcome is Outcome.DUPLICATE:
            assert found == Settled(Outcome.DUPLICATE, reason="in Lago already")

    def test_a_body_without_events_names_no_duplicates(self):
        sent = request({"events": 1}, "POST", "events/batch")
        assert end_of(sent.talk(), error(422, "validation_errors", {})).outcome is Outcome.REJECTED

    def test_an_answer_that_the_check_refuses_is_told_with_its_status(self):
        refused = end_of(request(accepts=lambda call, answer: False).talk(), said(201, {}))
        assert (refused.reason, refused.code) == ("response_check returned False", "201")
        assert refused.detail == "Lago did what it was asked for and answered 201"

        def fail(call, answer):
            raise LookupError("x" * 500)

        failed = end_of(request(accepts=fail).talk(), said(200, {}))
        assert (failed.reason, failed.code) == ("response_check failed", "200")
        assert failed.detail == f"Lago did what it was asked for and answered 200: LookupError: {'x' * 185}"

    @pytest.mark.parametrize(
        ("body", "lago_id"),
        [
            ({"lago_id": "l"}, "l"),
            ({"coupon": {"lago_id": "l"}}, "l"),
            ({"coupon": {"lago_id": 5}}, None),
            ({"coupon": "x"}, None),
            ({"coupon": {"lago_id": "l"}, "more": {}}, None),
            ([1], None),
            (None, None),
        ],
    )
    def test_the_id_that_lago_gave_is_in_the_outcome_of_one_object(self, body, lago_id):
        assert end_of(request().talk(), said(200, body)) == Settled(Outcome.ACCEPTED, lago_id=lago_id)

    def test_what_is_about_the_same_thing_is_done_in_turn_and_all_else_is_not(self):
        assert request({"id": "a/b"}, "PUT", "coupons/{id}").order == "coupons/a%2Fb"
        assert request().order is None
        grouped = {"group_by": "g", "body": Body(envelope="items"), "batch_size": 2}
        assert request({"g": 7}, **grouped).order == "7"
        assert request({"g": 7, "id": "a"}, "PUT", "coupons/{id}", **grouped).order == "coupons/a"
