"""What a POST of a subscription does, by what is there already."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest


@pytest.fixture
def plans(sandbox):
    for code, cents in (("small", 1000), ("big", 5000)):
        sandbox.add_plan(code, amount_cents=cents)
    sandbox.add_plan("yearly", amount_cents=13000, interval="yearly")


@pytest.fixture
def subscribe(lago, plans):
    def run(plan="small", customer="c1", external_id="s1", **more):
        fields = {"plan_code": plan, "external_customer_id": customer, "external_id": external_id, **more}
        return lago.post("/subscriptions", {"subscription": fields})

    return run


def in_days(days):
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_same_plan_again_returns_what_is_there_unchanged(subscribe):
    first = subscribe(name=" Mine ").json["subscription"]
    again = subscribe(name="Other").json["subscription"]
    assert again == first
    assert first["name"] == "Mine"


@pytest.mark.parametrize("plan", ["big", "yearly"])
def test_a_dearer_plan_by_the_year_upgrades_now(lago, subscribe, plan):
    first = subscribe().json["subscription"]
    upgraded = subscribe(plan).json["subscription"]
    assert upgraded["lago_id"] != first["lago_id"]
    assert (upgraded["status"], upgraded["previous_plan_code"]) == ("active", "small")
    old = lago.get("/subscriptions/s1?status=terminated").json["subscription"]
    assert (old["lago_id"], old["next_plan_code"]) == (first["lago_id"], plan)


def test_a_cheaper_plan_waits_for_the_end_of_the_period(lago, subscribe):
    first = subscribe("big").json["subscription"]
    answer = subscribe("small").json["subscription"]
    assert (answer["lago_id"], answer["plan_code"], answer["next_plan_code"]) == (first["lago_id"], "big", "small")
    assert answer["downgrade_plan_date"] == f"{next_month():%Y-%m-%d}"
    waiting = lago.get("/subscriptions/s1?status=pending").json["subscription"]
    assert (waiting["plan_code"], waiting["previous_plan_code"]) == ("small", "big")
    assert lago.ask("DELETE", "/subscriptions/s1?status=pending").json["subscription"]["status"] == "canceled"
    assert lago.get("/subscriptions/s1").json["subscription"]["next_plan_code"] is None


def next_month():
    return (datetime.now(UTC).replace(day=1) + timedelta(days=32)).replace(day=1)


def test_ending_an_active_one_cancels_its_downgrade(lago, subscribe):
    subscribe("big")
    subscribe("small")
    assert lago.ask("DELETE", "/subscriptions/s1").json["subscription"]["status"] == "terminated"
    assert lago.get("/subscriptions/s1?status=pending").status == 404


def test_a_future_start_is_pending_and_takes_another_plan_in_place(lago, subscribe):
    first = subscribe(subscription_at=in_days(30)).json["subscription"]
    assert (first["status"], first["started_at"]) == ("pending", None)
    assert lago.get("/subscriptions/s1").status == 404
    moved = subscribe("big", name="New").json["subscription"]
    assert (moved["lago_id"], moved["plan_code"], moved["name"]) == (first["lago_id"], "big", "New")
    assert lago.ask("DELETE", "/subscriptions/s1").status == 404
    assert lago.ask("DELETE", "/subscriptions/s1?status=pending").json["subscription"]["status"] == "canceled"


def test_a_past_start_is_active_since_then(subscribe):
    found = subscribe(subscription_at="2024-01-15").json["subscription"]
    assert (found["status"], found["started_at"]) == ("active", "2024-01-15T00:00:00.000Z")


def test_a_termination_frees_the_id(lago, subscribe):
    first = subscribe().json["subscription"]
    assert lago.ask("DELETE", "/subscriptions/s1").status == 200
    assert lago.ask("DELETE", "/subscriptions/s1").json["code"] == "subscription_not_found"
    assert subscribe().json["subscription"]["lago_id"] != first["lago_id"]


def test_another_customer_cannot_take_an_active_id(subscribe):
    subscribe()
    assert subscribe(customer="c2").details == {"external_id": ["value_already_exist"]}


def test_an_unknown_customer_is_made_but_not_for_an_unknown_plan(lago, subscribe):
    assert subscribe("nope").json["code"] == "plan_not_found"
    assert lago.get("/customers/c1").status == 404
    assert subscribe().status == 200
    assert lago.get("/customers/c1").json["customer"]["name"] is None


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({"customer": None}, {"external_customer_id": ["value_is_mandatory"]}),
        ({"external_id": " "}, {"external_id": ["value_is_mandatory"]}),
        ({"subscription_at": "hello"}, {"subscription_at": ["invalid_date"]}),
        ({"subscription_at": 1700000000}, {"subscription_at": ["invalid_date"]}),
        ({"subscription_at": "2024-01-01 00:00:00"}, {"subscription_at": ["invalid_date"]}),
        ({"ending_at": "2020-01-01"}, {"ending_at": ["invalid_date"]}),
        ({"billing_time": "weird"}, {"billing_time": ["value_is_invalid"]}),
    ],
)
def test_wrong_fields_are_refused(subscribe, fields, details):
    answer = subscribe(**fields)
    assert (answer.status, answer.details) == (422, details)


def test_overrides_need_a_licence(subscribe):
    answer = subscribe(plan_overrides={"amount_cents": 1})
    assert (answer.status, answer.json["code"]) == (403, "feature_unavailable")


def test_numbers_are_taken_as_ids(subscribe):
    found = subscribe(customer=7, external_id=42).json["subscription"]
    assert (found["external_id"], found["external_customer_id"]) == ("42", "7")


def test_updates_touch_the_only_one_whatever_its_status(lago, subscribe):
    subscribe()
    lago.ask("DELETE", "/subscriptions/s1")
    answer = lago.ask("PUT", "/subscriptions/s1", {"subscription": {"name": "late"}})
    assert (answer.json["subscription"]["name"], answer.json["subscription"]["status"]) == ("late", "terminated")


def test_wrong_words_at_the_end_are_refused_and_change_nothing(lago, subscribe):
    subscribe()
    answer = lago.ask("DELETE", "/subscriptions/s1?on_termination_invoice=invalid")
    assert answer.details == {"on_termination_invoice": ["invalid_value"]}
    assert lago.get("/subscriptions/s1").status == 200


def test_dots_are_part_of_a_subscriptions_id(lago, subscribe):
    subscribe(external_id="a.b.c")
    assert lago.get("/subscriptions/a.b.c").json["subscription"]["external_id"] == "a.b.c"


def test_lists_show_active_ones_unless_asked(lago, subscribe):
    subscribe(external_id="on")
    subscribe(external_id="soon", subscription_at=in_days(9))
    subscribe(external_id="off")
    lago.ask("DELETE", "/subscriptions/off")

    def found(query):
        return [one["external_id"] for one in lago.get(f"/subscriptions?{query}").json["subscriptions"]]

    assert found("") == ["on"]
    assert found("status=pending") == ["on"]
    assert found("status[]=pending&status[]=active") == ["soon", "on"]
    assert sorted(found("status[]=nope")) == ["off", "on", "soon"]
    assert found("external_id=on&plan_code=big") == []
    assert len(lago.get("/customers/c1/subscriptions").json["subscriptions"]) == 1
    assert found("external_customer_id=nobody") == []
    assert found("currency=USD&overridden=false&nope=1") == ["on"]
    assert found("overridden=true") == []
    assert found("external_id=off&status[]=terminated") == ["off"]
    assert lago.get("/subscriptions?billing_entity_codes[]=nope").json["code"] == "billing_entity_not_found"


def test_a_deleted_customers_subscriptions_end(lago, subscribe):
    subscribe()
    lago.ask("DELETE", "/customers/c1")
    assert lago.get("/subscriptions/s1?status=terminated").status == 200


def test_a_plan_in_use_keeps_its_code(lago, subscribe):
    subscribe()
    assert lago.ask("DELETE", "/plans/small").json["plan"]["pending_deletion"] is True
    plan = {"name": "small", "code": "small", "interval": "monthly", "amount_cents": 1}
    plan.update(amount_currency="USD", pay_in_advance=False)
    assert lago.post("/plans", {"plan": plan}).details == {"code": ["value_already_exist"]}
    assert lago.ask("DELETE", "/plans/big").status == 200
    assert lago.get("/plans/big").json["code"] == "plan_not_found"
