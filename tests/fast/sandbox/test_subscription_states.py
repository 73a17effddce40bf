"""What happens to subscriptions over time, by payments, and with plans of their own."""

from __future__ import annotations

import re

import pytest

from airflow_provider_lago.sandbox import Sandbox

DAY = 86_400
# 2026-03-10, in the middle of a month
START = 1_773_144_000.0


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timed(clock):
    with Sandbox(clock=clock, premium=True) as sandbox:
        fill(sandbox)
        yield sandbox


def fill(sandbox):
    sandbox.add_metric("calls")
    sandbox.add_plan("small", metrics=["calls"], amount_cents=1000)
    sandbox.add_plan("big", amount_cents=5000)
    sandbox.add_plan("ahead", amount_cents=2000, pay_in_advance=True)


def statuses(sandbox):
    return [(one["plan_code"], one["status"]) for one in sandbox.subscriptions()]


def subscribe(sandbox, plan="small", **more):
    return sandbox.add_subscription("s1", "c1", plan, **more)


def refused(sandbox, method, path, body=None, query=""):
    with pytest.raises(ValueError, match=f"{method} {path}") as refusal:
        sandbox.call(method, path, body, query=query)
    return str(refusal.value).split(": ", 1)[1]


# By the passing of time


def test_a_pending_one_starts_when_its_time_comes(timed, clock):
    subscribe(timed, subscription_at="2026-04-01T00:00:00Z")
    clock.now += 21 * DAY
    assert statuses(timed) == [("small", "pending")]
    before = timed.dump()
    clock.now += DAY
    assert statuses(timed) == [("small", "active")]
    assert timed.call("GET", "/subscriptions/s1")["subscription"]["started_at"] == "2026-04-01T00:00:00.000Z"
    assert timed.dump() != before


def test_a_downgrade_happens_at_the_end_of_the_period(timed, clock):
    subscribe(timed, "big")
    assert subscribe(timed, "small")["downgrade_plan_date"] == "2026-04-01"
    clock.now += 21 * DAY
    assert statuses(timed) == [("big", "active"), ("small", "pending")]
    clock.now += DAY
    assert statuses(timed) == [("big", "terminated"), ("small", "active")]
    assert [one["terminated_at"] or one["started_at"] for one in timed.subscriptions()] == [
        "2026-04-01T00:00:00Z",
        "2026-04-01T00:00:00.000Z",
    ]


def test_a_second_downgrade_replaces_the_first_and_an_upgrade_both(timed):
    timed.add_plan("tiny", amount_cents=1)
    subscribe(timed, "big")
    subscribe(timed, "small")
    subscribe(timed, "tiny")
    assert statuses(timed) == [("big", "active"), ("small", "canceled"), ("tiny", "pending")]
    timed.add_plan("huge", amount_cents=9000)
    subscribe(timed, "huge")
    assert statuses(timed)[0] == ("big", "terminated")
    assert statuses(timed)[2:] == [("tiny", "canceled"), ("huge", "active")]


def test_an_ending_comes_by_itself(timed, clock):
    subscribe(timed, ending_at="2026-03-20")
    clock.now += 9 * DAY
    assert statuses(timed) == [("small", "active")]
    clock.now += DAY
    assert timed.subscriptions()[0]["terminated_at"] == "2026-03-20T00:00:00Z"


def test_an_upgrade_takes_over_the_ending_but_not_the_name(timed):
    subscribe(timed, ending_at="2026-05-01", name="Mine", consolidate_invoice=False)
    moved = subscribe(timed, "big")
    assert (moved["ending_at"], moved["name"], moved["consolidate_invoice"]) == ("2026-05-01T00:00:00Z", "", False)


# Waiting for the first payment

RULES = [{"type": "payment", "timeout_hours": 48}]


def test_a_payment_rule_on_a_plan_paid_in_advance_holds_the_start_back(timed):
    held = subscribe(timed, "ahead", activation_rules=RULES)
    assert (held["status"], held["activated_at"]) == ("incomplete", None)
    rule = held["activation_rules"][0]
    assert (rule["status"], rule["timeout_hours"], rule["expires_at"]) == ("pending", 48, "2026-03-12T12:00:00Z")
    assert timed.pay_subscription("s1")["status"] == "active"
    assert timed.call("GET", "/subscriptions/s1")["subscription"]["activation_rules"][0]["status"] == "satisfied"


def test_a_payment_rule_on_a_plan_paid_later_does_not(timed):
    started = subscribe(timed, activation_rules=RULES)
    assert (started["status"], started["activation_rules"][0]["status"]) == ("active", "not_applicable")


def test_without_a_payment_in_time_it_is_canceled(timed, clock):
    subscribe(timed, "ahead", activation_rules=RULES)
    clock.now += 2 * DAY
    assert statuses(timed) == [("ahead", "canceled")]


def test_an_incomplete_one_can_neither_be_posted_again_nor_changed_nor_ended(timed):
    subscribe(timed, status="incomplete")
    again = {"subscription": {"external_id": "s1", "external_customer_id": "c1", "plan_code": "small"}}
    before = timed.dump()
    assert '{"subscription":["subscription_incomplete"]}' in refused(timed, "POST", "/subscriptions", again)
    for query in ("", "status=incomplete"):
        refusal = refused(timed, "PUT", "/subscriptions/s1", {"subscription": {"name": "x"}}, query)
        assert refusal.startswith("405")
        assert "subscription_incomplete" in refusal
    assert refused(timed, "DELETE", "/subscriptions/s1").startswith("404")
    assert refused(timed, "GET", "/subscriptions/s1").startswith("404")
    assert timed.call("GET", "/subscriptions/s1", query="status=incomplete")["subscription"]["status"] == "incomplete"
    assert timed.dump() == before


def test_one_whose_upgrade_waits_for_its_payment_cannot_end(timed):
    subscribe(timed)
    subscribe(timed, "ahead", activation_rules=RULES)
    assert statuses(timed) == [("small", "active"), ("ahead", "incomplete")]
    assert '{"base":["next_subscription_incomplete"]}' in refused(timed, "DELETE", "/subscriptions/s1")
    timed.pay_subscription("s1")
    assert statuses(timed) == [("small", "terminated"), ("ahead", "active")]


@pytest.mark.parametrize(
    ("rules", "details"),
    [
        ("payment", '{"activation_rules":["invalid_format"]}'),
        ([{"type": "trust"}], '{"activation_rules":["invalid_type"]}'),
        (RULES * 2, '{"activation_rules":["duplicated_type"]}'),
        ([{"type": "payment", "timeout_hours": -1}], '{"timeout_hours":["value_must_be_positive_or_zero"]}'),
    ],
)
def test_wrong_rules_are_refused(timed, rules, details):
    with pytest.raises(ValueError, match=re.escape(details)):
        subscribe(timed, "ahead", activation_rules=rules)


@pytest.mark.parametrize("status", ["pending", "active", "incomplete", "terminated", "canceled"])
def test_seeds_in_every_status(timed, status):
    assert subscribe(timed, status=status)["status"] == status
    assert statuses(timed) == [("small", status)]


def test_a_seed_in_no_known_status(timed):
    with pytest.raises(ValueError, match="no status"):
        subscribe(timed, status="asleep")


# Plans of their own


@pytest.mark.parametrize("again", [{"plan_overrides": {"amount_cents": 700}}, {}])
def test_posting_an_overridden_one_again_ends_it_and_starts_another(timed, again):
    first = subscribe(timed, plan_overrides={"amount_cents": 700, "name": "Special"})
    assert (first["plan_code"], first["plan_amount_cents"], first["plan"]["name"]) == ("small", 700, "Special")
    assert first["plan"]["parent_id"] is not None
    second = subscribe(timed, **again)
    assert second["lago_id"] != first["lago_id"]
    assert second["plan_amount_cents"] == (700 if again else 1000)
    assert statuses(timed) == [("small", "terminated"), ("small", "active")]


def test_an_overridden_one_that_costs_more_waits_to_be_downgraded_when_posted_without(timed):
    first = subscribe(timed, plan_overrides={"amount_cents": 7000})
    second = subscribe(timed)
    assert (second["lago_id"], second["next_plan_code"]) == (first["lago_id"], "small")


def test_posting_a_pending_one_again_loses_its_overrides(timed):
    asked = {"subscription_at": "2026-04-01", "plan_overrides": {"amount_cents": 700}}
    first = subscribe(timed, **asked)
    again = subscribe(timed, **asked)
    assert (again["lago_id"], again["plan_amount_cents"]) == (first["lago_id"], 1000)


def test_other_units_of_fixed_charges_are_no_other_plan(timed):
    units = {"fixed_charges": [{"id": "f1", "units": "3"}]}
    first = subscribe(timed, plan_overrides=units)
    assert subscribe(timed, plan_overrides=units)["lago_id"] == first["lago_id"]


def test_an_update_changes_the_plan_in_place(timed):
    charge = subscribe(timed)["plan"]["charges"][0]["lago_id"]
    prices = [{"id": charge, "properties": {"amount": "9"}}]
    plans = [
        timed.call("PUT", "/subscriptions/s1", {"subscription": {"plan_overrides": overrides}})["subscription"]["plan"]
        for overrides in ({"amount_cents": 700}, {"charges": prices})
    ]
    assert [plan["amount_cents"] for plan in plans] == [700, 700]
    assert plans[0]["lago_id"] == plans[1]["lago_id"]
    assert plans[1]["charges"][0]["properties"] == {"amount": "9"}
    assert statuses(timed) == [("small", "active")]
    assert [plan["code"] for plan in timed.call("GET", "/plans")["plans"]] == ["ahead", "big", "small"]
    found = timed.call("GET", "/subscriptions", query="overridden=true")["subscriptions"]
    assert [one["external_id"] for one in found] == ["s1"]


def test_one_kind_of_thresholds_at_a_time(timed):
    thresholds = [{"amount_cents": 1}]
    with pytest.raises(ValueError, match="incompatible_params"):
        subscribe(timed, usage_thresholds=thresholds, plan_overrides={"usage_thresholds": thresholds})


# Updates and ends


def update(sandbox, **fields):
    return sandbox.call("PUT", "/subscriptions/s1", {"subscription": fields})["subscription"]


def test_the_same_update_again_changes_nothing(timed):
    subscribe(timed, "ahead")
    fields = {"name": "x", "ending_at": "2026-05-01", "on_termination_invoice": "skip", "consolidate_invoice": False}
    first = update(
        timed, **fields, on_termination_credit_note="refund", payment_method={"payment_method_type": "manual"}
    )
    assert (first["on_termination_credit_note"], first["on_termination_invoice"]) == ("refund", "skip")
    assert first["payment_method"]["payment_method_type"] == "manual"
    before = timed.dump()
    assert update(timed, **fields)["name"] == "x"
    assert timed.dump() == before
    assert update(timed, ending_at=None, name=None)["ending_at"] is None


def test_credit_notes_are_for_plans_paid_in_advance(timed):
    subscribe(timed)
    assert update(timed, on_termination_credit_note="refund")["on_termination_credit_note"] is None
    with pytest.raises(ValueError, match="invalid_value"):
        update(timed, on_termination_credit_note="gift")


@pytest.mark.parametrize(
    ("plan", "query", "note", "invoice"),
    [
        ("ahead", "", "credit", "generate"),
        ("ahead", "on_termination_credit_note=offset&on_termination_invoice=skip", "offset", "skip"),
        ("small", "on_termination_credit_note=offset", None, "generate"),
    ],
)
def test_what_the_end_leaves(timed, plan, query, note, invoice):
    subscribe(timed, plan)
    ended = timed.call("DELETE", "/subscriptions/s1", query=query)["subscription"]
    assert (ended["on_termination_credit_note"], ended["on_termination_invoice"]) == (note, invoice)


def test_the_start_of_a_pending_one_moves(timed, clock):
    subscribe(timed, subscription_at="2026-04-01")
    assert update(timed, subscription_at="2026-04-05")["subscription_at"] == "2026-04-05T00:00:00Z"
    clock.now += 23 * DAY
    assert statuses(timed) == [("small", "pending")]
    assert update(timed, subscription_at="2026-03-01")["status"] == "active"
    assert update(timed, subscription_at="2026-02-01")["subscription_at"] == "2026-03-01T00:00:00Z"


def test_the_order_number_of_an_ended_one_stays(timed):
    subscribe(timed, purchase_order_number="PO-1", status="terminated")
    assert update(timed, purchase_order_number=" PO-1 ")["status"] == "terminated"
    body = {"subscription": {"purchase_order_number": "PO-2"}}
    refusal = refused(timed, "PUT", "/subscriptions/s1", body)
    assert refusal.startswith("405")
    assert "purchase_order_number_not_editable" in refusal


def test_the_status_says_which_of_several_is_updated(timed):
    subscribe(timed, "big")
    subscribe(timed, "small")
    body = {"subscription": {"name": "later"}, "status": "pending"}
    assert timed.call("PUT", "/subscriptions/s1", body)["subscription"]["plan_code"] == "small"
    assert update(timed, name="now")["plan_code"] == "big"
    assert [one["name"] for one in timed.subscriptions()] == ["now", "later"]


def test_in_releases_a_dot_cuts_the_id_so_the_wrong_subscription_ends():
    with Sandbox(release="1.51.0") as released:
        fill(released)
        for external_id in ("a", "a.b"):
            released.add_subscription(external_id, "c1", "small")
        released.call("DELETE", "/subscriptions/a.b")
        assert {one["external_id"]: one["status"] for one in released.subscriptions()} == {
            "a": "terminated",
            "a.b": "active",
        }
        assert "resource_not_found" in refused(released, "GET", "/subscriptions/a.b.c")
