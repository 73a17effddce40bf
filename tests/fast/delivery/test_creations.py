"""Subscriptions into a sandbox that behaves like Lago, over real HTTP."""

import datetime as dt
import json

import pendulum
import pytest
from support.calls import methods, subscribe
from support.deliveries import KEY
from support.scripted import ScriptedServer, as_json, refused

from airflow_provider_lago.sandbox import Sandbox

NOT_FOUND = as_json(404, {"status": 404, "error": "Not Found", "code": "subscription_not_found"})
OVERRIDES = {"plan_overrides": {"amount_cents": 1}}


def seed(sandbox):
    for code, cents in (("basic", 1000), ("pro", 5000)):
        sandbox.add_plan(code, amount_cents=cents)
    sandbox.add_customer("acme")
    return sandbox


@pytest.fixture
def sandbox():
    with Sandbox(api_keys=[KEY]) as server:
        yield seed(server)


@pytest.fixture
def premium():
    with Sandbox(api_keys=[KEY], premium=True) as server:
        yield seed(server)


def wanted(external_id="s1", plan="basic", customer="acme", **more):
    return {"external_id": external_id, "external_customer_id": customer, "plan_code": plan, **more}


def states(sandbox, external_id="s1"):
    rows = [row for row in sandbox.subscriptions() if row["external_id"] == external_id]
    return sorted((row["plan_code"], row["status"]) for row in rows)


class TestCreating:
    def test_a_subscription_is_created_and_its_receipt_tells_state_and_plans(self, sandbox, tmp_path):
        run = subscribe(sandbox, [wanted()], tmp_path)
        assert run.kinds == {"created": 1}
        receipt = run.receipts[1]
        assert {name: receipt[name] for name in ("status", "plan_code", "previous_plan_code", "next_plan_code")} == {
            "status": "active", "plan_code": "basic", "previous_plan_code": None, "next_plan_code": None,
        }  # fmt: skip
        assert receipt["lago_id"] == sandbox.subscriptions()[0]["lago_id"]

    def test_a_rerun_posts_nothing(self, sandbox, tmp_path):
        records = [wanted(f"s{n}") for n in range(20)]
        assert subscribe(sandbox, records, tmp_path).kinds == {"created": 20}
        posts = methods(sandbox)["POST"]
        assert subscribe(sandbox, records, tmp_path).kinds == {"unchanged": 20}
        assert methods(sandbox)["POST"] == posts == 20

    @pytest.mark.parametrize(
        "start",
        [
            "2030-01-02",
            "2030-01-02T00:00:00Z",
            dt.date(2030, 1, 2),
            dt.datetime(2030, 1, 2),
            pendulum.datetime(2030, 1, 2, 1, tz="Europe/Paris"),
        ],
    )
    def test_a_start_to_come_is_pending_and_a_rerun_finds_it(self, sandbox, tmp_path, start):
        assert subscribe(sandbox, [wanted(subscription_at=start)], tmp_path).receipts[1]["status"] == "pending"
        assert subscribe(sandbox, [wanted(subscription_at=start)], tmp_path).kinds == {"unchanged": 1}
        assert sandbox.subscriptions()[0]["subscription_at"] == "2030-01-02T00:00:00Z"

    @pytest.mark.parametrize("external_id", ["a/b", "é ü", "100%", "a?b", "s.1", "john@acme.com"])
    def test_any_id_is_looked_up_and_created_once(self, sandbox, tmp_path, external_id):
        sandbox.add_customer("c.1")
        record = wanted(external_id, customer="c.1")
        assert subscribe(sandbox, [record], tmp_path).kinds == {"created": 1}
        assert subscribe(sandbox, [record], tmp_path).kinds == {"unchanged": 1}
        assert len(sandbox.subscriptions()) == 1

    def test_on_a_release_without_filters_plain_ids_are_looked_up_one_by_one(self, tmp_path):
        with Sandbox(api_keys=[KEY], release="1.48.0") as old:
            seed(old)
            old.add_subscription("other", "acme", "pro")
            old.add_subscription("waiting", "acme", "pro", status="pending")
            records = [wanted("s1"), wanted("s.1"), wanted("waiting", "pro"), wanted("other", "pro")]
            run = subscribe(old, records, tmp_path)
            assert run.kinds == {"created": 1, "unchanged": 2}
            assert run.reasons == {"external_id: cannot be looked up": 1}

    def test_an_unknown_plan_is_refused_in_lagos_words(self, sandbox, tmp_path):
        assert subscribe(sandbox, [wanted(plan="none")], tmp_path).reasons == {"plan_not_found": 1}

    def test_overrides_without_a_licence_reject_the_record_alone(self, sandbox, tmp_path):
        run = subscribe(sandbox, [wanted("a", **OVERRIDES), wanted("b")], tmp_path)
        assert run.counts == (2, 1, 1, 0)
        assert run.reasons == {"feature_unavailable": 1}


class TestCustomer:
    def test_a_misspelt_customer_rejects_the_record_and_makes_no_ghost(self, sandbox, tmp_path):
        run = subscribe(sandbox, [wanted(customer="amce")], tmp_path)
        assert run.reasons == {"external_customer_id: no such customer": 1}
        assert "'amce'" in run.rejected[0]["detail"]
        assert [row["external_id"] for row in sandbox.customers()] == ["acme"]

    def test_it_is_looked_up_once_for_its_many_subscriptions(self, sandbox, tmp_path):
        subscribe(sandbox, [wanted(f"s{n}") for n in range(10)], tmp_path, concurrency=1)
        paths = [request.path for request in sandbox.requests]
        assert paths.count("/api/v1/customers/acme") == 1

    def test_it_may_be_made_along_the_way(self, sandbox, tmp_path):
        assert subscribe(sandbox, [wanted(customer="new")], tmp_path, require_customer=False).kinds == {"created": 1}

    def test_two_subscriptions_that_make_the_same_customer_at_once_are_both_created(self, tmp_path):
        posts = []

        def answer(request):
            if request.method == "GET":
                return as_json(200, {"subscriptions": []})
            posts.append(1)
            if len(posts) == 1:
                return refused({"external_id": ["value_already_exist"]})
            given = json.loads(request.body)["subscription"]
            return as_json(200, {"subscription": {**given, "lago_id": "l", "status": "active"}})

        with ScriptedServer(answer) as server:
            run = subscribe(server, [wanted("a"), wanted("b")], tmp_path, require_customer=False)
        assert run.kinds == {"created": 2}


class TestExisting:
    def test_another_plan_is_a_rejected_record_that_names_both(self, sandbox, tmp_path):
        sandbox.add_subscription("s1", "acme", "basic")
        run = subscribe(sandbox, [wanted(plan="pro")], tmp_path)
        assert run.reasons == {"plan_code: differs": 1}
        assert "'basic'" in run.rejected[0]["detail"]
        assert "'pro'" in run.rejected[0]["detail"]
        assert states(sandbox) == [("basic", "active")]

    def test_a_dearer_plan_is_an_upgrade_and_a_rerun_leaves_it(self, sandbox, tmp_path):
        sandbox.add_subscription("s1", "acme", "basic")
        run = subscribe(sandbox, [wanted(plan="pro")], tmp_path, on_existing="change_plan")
        assert run.kinds == {"upgraded": 1}
        assert run.receipts[1]["previous_plan_code"] == "basic"
        assert subscribe(sandbox, [wanted(plan="pro")], tmp_path, on_existing="change_plan").kinds == {"unchanged": 1}
        assert states(sandbox) == [("basic", "terminated"), ("pro", "active")]

    def test_a_cheaper_plan_is_a_downgrade_and_a_rerun_leaves_it(self, sandbox, tmp_path):
        sandbox.add_subscription("s1", "acme", "pro")
        for kind in ("downgraded", "unchanged"):
            run = subscribe(sandbox, [wanted()], tmp_path, on_existing="change_plan")
            assert run.kinds == {kind: 1}
            assert run.receipts[1]["next_plan_code"] == "basic"
        assert states(sandbox) == [("basic", "pending"), ("pro", "active")]

    def test_a_pending_ones_plan_is_changed_in_place(self, sandbox, tmp_path):
        sandbox.add_subscription("s1", "acme", "basic", status="pending")
        assert subscribe(sandbox, [wanted(plan="pro")], tmp_path, on_existing="change_plan").kinds == {"changed": 1}
        assert states(sandbox) == [("pro", "pending")]

    def test_going_back_from_a_downgrade_is_refused_as_a_post_would_not_undo_it(self, sandbox, tmp_path):
        sandbox.add_subscription("s1", "acme", "pro")
        sandbox.add_subscription("s1", "acme", "basic")
        run = subscribe(sandbox, [wanted(plan="pro")], tmp_path, on_existing="change_plan")
        assert run.reasons == {"plan_code: another one follows": 1}
        assert subscribe(sandbox, [wanted(plan="pro")], tmp_path).kinds == {"unchanged": 1}

    @pytest.mark.parametrize("status", ["", "pending", "incomplete"])
    def test_one_that_exists_in_any_live_state_fails_where_that_is_asked_for(self, sandbox, tmp_path, status):
        sandbox.add_subscription("s1", "acme", "basic", status=status)
        run = subscribe(sandbox, [wanted()], tmp_path, on_existing="fail")
        assert run.counts == (1, 0, 1, 0)
        assert methods(sandbox)["POST"] == 0

    def test_an_incomplete_one_is_not_posted_onto(self, sandbox, tmp_path):
        sandbox.add_subscription("s1", "acme", "basic", status="incomplete")
        assert subscribe(sandbox, [wanted(plan="pro")], tmp_path).reasons == {"subscription: incomplete": 1}
        assert methods(sandbox)["POST"] == 0

    def test_a_rerun_of_an_incomplete_one_leaves_it_and_says_what_it_waits_for(self, sandbox, tmp_path):
        sandbox.add_subscription("s1", "acme", "basic", status="incomplete")
        run = subscribe(sandbox, [wanted()], tmp_path)
        assert run.kinds == {"unchanged": 1}
        assert run.receipts[1]["status"] == "incomplete"
        assert methods(sandbox)["POST"] == 0

    @pytest.mark.parametrize("status", ["terminated", "canceled"])
    def test_one_that_has_ended_is_no_obstacle(self, sandbox, tmp_path, status):
        sandbox.add_subscription("s1", "acme", "basic", status=status)
        assert subscribe(sandbox, [wanted()], tmp_path).kinds == {"created": 1}

    @pytest.mark.parametrize("on_existing", ["keep", "change_plan"])
    def test_an_id_of_another_customer_is_refused_with_both_names(self, sandbox, tmp_path, on_existing):
        sandbox.add_customer("other")
        sandbox.add_subscription("s1", "other", "basic")
        run = subscribe(sandbox, [wanted()], tmp_path, on_existing=on_existing)
        assert run.reasons == {"external_id: taken by another customer": 1}
        assert "'other'" in run.rejected[0]["detail"]
        assert methods(sandbox)["POST"] == 0

    def test_a_field_that_a_post_would_not_change_is_told_of(self, sandbox, tmp_path, caplog):
        sandbox.add_subscription("s1", "acme", "basic", name="Old")
        assert subscribe(sandbox, [wanted(name="New")], tmp_path).kinds == {"unchanged": 1}
        assert "would not take over name" in caplog.text

    def test_two_records_of_one_subscription_create_it_once(self, sandbox, tmp_path):
        run = subscribe(sandbox, [wanted() for _ in range(8)], tmp_path, concurrency=8)
        assert run.kinds == {"created": 1, "unchanged": 7}
        assert states(sandbox) == [("basic", "active")]


class TestOverrides:
    @pytest.mark.parametrize("on_existing", ["keep", "change_plan"])
    @pytest.mark.parametrize("plan", ["basic", "pro"])
    def test_they_are_never_posted_onto_one_that_exists(self, premium, tmp_path, on_existing, plan):
        premium.add_subscription("s1", "acme", "basic")
        subscribe(premium, [wanted(plan=plan, **OVERRIDES)], tmp_path, on_existing=on_existing)
        assert methods(premium)["POST"] == 0
        assert states(premium) == [("basic", "active")]

    @pytest.mark.parametrize("fault", ["lost_response", "error_after_commit", "cut_body", "broken_json", "empty"])
    def test_a_lost_answer_is_looked_up_and_not_posted_again(self, premium, tmp_path, fault):
        premium.fault(fault, method="POST", path="/subscriptions")
        run = subscribe(premium, [wanted(**OVERRIDES)], tmp_path)
        assert run.kinds == {"created": 1}
        assert methods(premium)["POST"] == 1
        assert states(premium) == [("basic", "active")]

    @pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "error", "status": 502}])
    def test_one_that_lago_did_not_make_is_posted_again_after_another_look(self, premium, tmp_path, fault):
        premium.fault(method="POST", path="/subscriptions", times=2, **fault)
        run = subscribe(premium, [wanted(**OVERRIDES), wanted("s2")], tmp_path)
        assert run.kinds == {"created": 2}
        assert states(premium) == [("basic", "active")]
        assert run.receipts[1]["plan_code"] == "basic"

    def test_a_rerun_with_and_without_overrides_leaves_them(self, premium, tmp_path):
        subscribe(premium, [wanted(**OVERRIDES)], tmp_path)
        before = premium.dump()
        for record in (wanted(**OVERRIDES), wanted()):
            assert subscribe(premium, [record], tmp_path).kinds == {"unchanged": 1}
        assert premium.dump() == before


class TestLostAnswers:
    @pytest.mark.parametrize("fault", ["lost_response", "error_after_commit", "cut_body", "broken_json", "empty"])
    def test_every_first_answer_lost_ends_with_the_same_kinds_and_nothing_doubled(self, sandbox, tmp_path, fault):
        sandbox.add_subscription("up", "acme", "basic")
        sandbox.add_subscription("down", "acme", "pro")
        sandbox.add_subscription("same", "acme", "pro")
        sandbox.add_subscription("waiting", "acme", "basic", status="pending")
        sandbox.fault(fault, method="POST", first_of_each_body=True)
        plans = {"new": "basic", "up": "pro", "down": "basic", "same": "pro", "waiting": "pro"}
        records = [wanted(name, plan) for name, plan in plans.items()]
        run = subscribe(sandbox, records, tmp_path, on_existing="change_plan")
        kinds = {"created": 1, "upgraded": 1, "downgraded": 1, "unchanged": 1, "changed": 1}
        assert run.kinds == kinds
        assert methods(sandbox)["POST"] <= 5
        assert states(sandbox, "new") == [("basic", "active")]
        assert states(sandbox, "up") == [("basic", "terminated"), ("pro", "active")]
        assert states(sandbox, "down") == [("basic", "pending"), ("pro", "active")]
        assert states(sandbox, "waiting") == [("pro", "pending")]

    def test_a_lost_answer_does_not_claim_another_customers_subscription(self, tmp_path):
        posted = []

        def answer(request):
            if request.method == "POST":
                posted.append(1)
                return as_json(200, {})
            row = {"external_id": "s1", "external_customer_id": "other", "plan_code": "basic", "status": "active"}
            return as_json(200, {"subscriptions": [row] if posted else []})

        with ScriptedServer(answer) as server:
            run = subscribe(server, [wanted(**OVERRIDES)], tmp_path, require_customer=False)
        assert run.reasons == {"external_id: taken by another customer": 1}
        assert len(posted) == 1

    def test_what_fails_with_500_alone_is_rejected(self, sandbox, tmp_path):
        sandbox.fault("poison", method="POST", contains='"s3"', status=500)
        run = subscribe(sandbox, [wanted(f"s{n}") for n in range(10)], tmp_path)
        assert run.counts == (10, 9, 1, 0)


@pytest.mark.parametrize("fault", ["lost_response", "error_after_commit", "empty", "cut_body"])
def test_one_that_waits_for_a_payment_is_not_rejected_over_a_lost_answer(premium, tmp_path, fault):
    """The repetition is refused because of what the first one made."""
    premium.add_plan("ahead", amount_cents=1_000, pay_in_advance=True)
    premium.fault(fault, method="POST", path="/subscriptions", times=1)
    rules = [{"type": "payment", "timeout_hours": 24}]
    run = subscribe(premium, [wanted(plan="ahead", activation_rules=rules)], tmp_path)
    assert run.kinds == {"created": 1}
    assert run.receipts[1]["status"] == "incomplete"
    assert states(premium) == [("ahead", "incomplete")]
