import datetime as dt
from zoneinfo import ZoneInfo

import pendulum
import pytest

from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.api.subscriptions import SUBSCRIPTION_FIELDS, check_subscription, current, ignored
from airflow_provider_lago.api.timestamps import InvalidTime, to_iso

IDS = {"external_id": "s", "external_customer_id": "c", "plan_code": "p"}


def check(**fields):
    return check_subscription({**IDS, **fields})


class TestFields:
    def test_every_field_is_taken(self):
        fields = {
            **IDS,
            "name": "N",
            "billing_time": "anniversary",
            "subscription_at": "2026-11-01",
            "ending_at": "2027-11-01",
            "billing_entity_code": "main",
            "billing_entity_id": "x",
            "progressive_billing_disabled": "true",
            "consolidate_invoice": False,
            "purchase_order_number": 7,
            "invoice_custom_section": {"skip_invoice_custom_sections": True},
            "activation_rules": [{"type": "payment", "timeout_hours": 4}],
            "payment_method": {"payment_method_type": "manual"},
            "usage_thresholds": [{"amount_cents": 5}],
            "plan_overrides": {"amount_cents": 5},
            "authorization": {"amount_cents": 5, "amount_currency": "USD"},
        }
        assert set(fields) == SUBSCRIPTION_FIELDS
        subscription = check_subscription(fields)
        assert set(subscription.payload) == SUBSCRIPTION_FIELDS - {"authorization"}
        assert subscription.authorization == fields["authorization"]
        assert subscription.payload["purchase_order_number"] == "7"

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"plan": "p"}, "plan"),
            ({"plan_code": None}, "plan_code: missing"),
            ({"external_id": " s"}, "external_id"),
            ({"plan_overrides": {"amount": 5}}, "plan_overrides.amount"),
            ({"plan_overrides": '{"amount_cents": 5}'}, "plan_overrides"),
            ({"payment_method": {"type": "x"}}, "payment_method.type"),
            ({"usage_thresholds": "5"}, "usage_thresholds"),
            ({"activation_rules": {"type": "payment"}}, "activation_rules"),
            ({"billing_time": "monthly"}, "billing_time"),
            ({"subscription_at": 1_700_000_000}, "subscription_at"),
            ({"subscription_at": "yesterday"}, "subscription_at"),
            ({"subscription_at": "0001-01-01T00:00:00+05:00"}, "subscription_at"),
            ({"subscription_at": "2026-11-02", "ending_at": "2026-11-02T09:00:00Z"}, "ending_at"),
            ({"plan_overrides": {"amount_cents": float("nan")}}, "plan_overrides"),
        ],
    )
    def test_what_lago_would_drop_or_refuse_is_named(self, fields, says):
        with pytest.raises(InvalidRecord, match=says):
            check(**fields)

    def test_nulls_are_as_if_missing(self):
        assert dict(check(name=None, ending_at=None).payload) == IDS

    @pytest.mark.parametrize(
        ("fields", "repeatable"),
        [({}, True), ({"plan_overrides": {"amount_cents": 5}}, False), ({"authorization": {"amount_cents": 5}}, False)],
    )
    def test_what_bills_or_reserves_money_twice_is_not_repeatable(self, fields, repeatable):
        assert check(**fields).repeatable is repeatable


class NotATime(dt.datetime):
    """As pandas' NaT: a datetime that equals nothing."""

    def __eq__(self, other):
        return False

    def __ne__(self, other):
        return True

    __hash__ = dt.datetime.__hash__


class TestTimes:
    @pytest.mark.parametrize(
        ("value", "iso"),
        [
            ("2026-11-22", "2026-11-22"),
            (" 2026-11-22 ", "2026-11-22"),
            ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
            ("2026-11-22 10:00", "2026-11-22T10:00:00Z"),
            ("2026-11-22T10:00:00+02:00", "2026-11-22T08:00:00Z"),
            (dt.date(2026, 11, 22), "2026-11-22"),
            (dt.datetime(2026, 11, 22, 10), "2026-11-22T10:00:00Z"),
            (dt.datetime(2026, 11, 22, 10, tzinfo=ZoneInfo("Europe/Paris")), "2026-11-22T09:00:00Z"),
            (pendulum.datetime(2026, 11, 22, 10, tz="Europe/Paris"), "2026-11-22T09:00:00Z"),
            (pendulum.date(2026, 11, 22), "2026-11-22"),
            ("9999-12-31", "9999-12-31"),
        ],
    )
    def test_datetimes_days_and_texts_become_what_lago_reads(self, value, iso):
        assert to_iso(value) == iso

    def test_times_that_name_no_zone_are_in_the_given_one(self):
        assert to_iso("2026-11-22T10:00", ZoneInfo("America/New_York")) == "2026-11-22T15:00:00Z"

    @pytest.mark.parametrize(
        "value", [True, 5, 1.5, None, b"2026-11-22", "", "22.11.2026", [], "0001-01-01T00:00:00+05:00", NotATime(2026, 1, 1)]
    )  # fmt: skip
    def test_anything_else_is_no_time(self, value):
        with pytest.raises(InvalidTime):
            to_iso(value)


def held(status, customer="c", **more):
    return {"status": status, "external_customer_id": customer, **more}


class TestHeld:
    def test_a_post_meets_the_incomplete_one_first_and_the_pending_one_last(self):
        rows = [held("pending"), held("active"), held("incomplete")]
        assert current(rows, "c")["status"] == "incomplete"
        assert current(rows[:2], "c")["status"] == "active"
        assert current([held("terminated"), held("canceled")], "c") is None

    def test_a_pending_one_of_another_customer_does_not_hide_the_customers_own(self):
        rows = [held("active", "other"), held("pending", "c")]
        assert current(rows, "c")["external_customer_id"] == "c"
        assert current(rows[:1], "c")["external_customer_id"] == "other"

    def test_fields_that_a_post_would_not_change_are_named(self):
        there = {"name": "", "ending_at": "2027-11-01T00:00:00Z", "billing_time": "calendar"}
        assert ignored(check(name="N", ending_at="2027-11-01", billing_time="calendar"), there) == ["name"]

    @pytest.mark.parametrize(
        ("fields", "there", "named"),
        [
            ({"name": "N"}, {"name": "M"}, ["name"]),
            ({"billing_time": "anniversary"}, {"billing_time": "calendar"}, ["billing_time"]),
            ({"ending_at": "2027-11-01"}, {"ending_at": "2027-11-02T00:00:00Z"}, ["ending_at"]),
            ({"ending_at": "2027-11-01"}, {"ending_at": None}, ["ending_at"]),
            ({"ending_at": "2027-11-01T02:00:00+02:00"}, {"ending_at": "2027-11-01T00:00:00Z"}, []),
            ({"purchase_order_number": 7}, {"purchase_order_number": "7"}, []),
            ({"purchase_order_number": 7}, {"purchase_order_number": "8"}, ["purchase_order_number"]),
            ({"consolidate_invoice": True}, {"consolidate_invoice": False}, ["consolidate_invoice"]),
            ({"name": ""}, {"name": None}, []),
            ({"name": ""}, {"name": "N"}, ["name"]),
            ({"name": "N"}, {}, ["name"]),
            ({"usage_thresholds": []}, {"usage_thresholds": [1]}, []),
            ({}, {"name": "N", "ending_at": "2027-11-01"}, []),
        ],
    )
    def test_only_what_can_be_compared_and_differs_is_named(self, fields, there, named):
        assert ignored(check(**fields), there) == named


class TestParts:
    @pytest.mark.parametrize(
        ("name", "known"),
        [
            (
                "plan_overrides",
                {
                    "amount_cents",
                    "amount_currency",
                    "description",
                    "name",
                    "invoice_display_name",
                    "trial_period",
                    "tax_codes",
                    "minimum_commitment",
                    "charges",
                    "fixed_charges",
                    "usage_thresholds",
                },
            ),
            ("invoice_custom_section", {"skip_invoice_custom_sections", "invoice_custom_section_codes"}),
            ("payment_method", {"payment_method_type", "payment_method_id"}),
            ("authorization", {"amount_cents", "amount_currency"}),
        ],
    )
    def test_a_part_has_what_lago_knows_and_nothing_else(self, name, known):
        made = check(**{name: dict.fromkeys(known, "x")})
        assert (made.authorization if name == "authorization" else made.payload[name]) == dict.fromkeys(known, "x")
        for part in known:
            with pytest.raises(InvalidRecord, match=f"{name}.{part}x"):
                check(**{name: {f"{part}x": 1}})

    @pytest.mark.parametrize("value", ["calendar", "anniversary"])
    def test_both_billing_times_are_taken(self, value):
        assert check(billing_time=value).payload["billing_time"] == value

    @pytest.mark.parametrize(
        ("start", "end", "fine"),
        [
            ("2026-11-02", "2026-11-03", True),
            ("2026-11-02T23:59:59Z", "2026-11-03T00:00:00Z", True),
            ("2026-11-02T00:00:00Z", "2026-11-02T23:59:59Z", False),
            ("2026-11-02", "2026-11-01", False),
            (None, "2020-01-01", True),
            ("2026-11-02", None, True),
        ],
    )
    def test_a_subscription_ends_on_a_day_after_its_first(self, start, end, fine):
        if fine:
            assert check(subscription_at=start, ending_at=end)
            return
        with pytest.raises(InvalidRecord) as caught:
            check(subscription_at=start, ending_at=end)
        assert caught.value.reason == "ending_at: not after subscription_at"


@pytest.mark.parametrize(
    "field",
    [
        "amount_cents",
        "amount_currency",
        "description",
        "name",
        "invoice_display_name",
        "trial_period",
        "tax_codes",
        "minimum_commitment",
        "charges",
        "fixed_charges",
        "usage_thresholds",
    ],
)
def test_each_override_of_a_plan_that_lago_knows_is_taken(field):
    assert check(plan_overrides={field: "x"}).payload["plan_overrides"] == {field: "x"}


@pytest.mark.parametrize("part", ["plan_overrides", "payment_method", "invoice_custom_section", "authorization"])
def test_a_misspelt_part_is_refused_as_lago_would_drop_it(part):
    with pytest.raises(InvalidRecord, match=rf"{part}\.amuont"):
        check(**{part: {"amuont": 1}})


@pytest.mark.parametrize("end", ["2026-11-01T23:00:00Z", "2026-11-01", "2026-10-31"])
def test_an_end_on_the_day_of_the_start_or_before_is_refused(end):
    with pytest.raises(InvalidRecord, match="not after subscription_at"):
        check(subscription_at="2026-11-01T10:00:00Z", ending_at=end)


def test_an_end_on_the_next_day_is_taken():
    assert check(subscription_at="2026-11-09T10:00:00Z", ending_at="2026-11-10T09:00:00Z").payload["ending_at"]
