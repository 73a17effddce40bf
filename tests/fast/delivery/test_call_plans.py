"""What plans make of the source's records: what is to be said to Lago about each, or why nothing can be."""

from __future__ import annotations

import json
import logging

import pytest
from support.deliveries import connection

from airflow_provider_lago.api.customers import Clearing
from airflow_provider_lago.api.paths import PathError
from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.api.wire import WireError
from airflow_provider_lago.delivery.calls import requests
from airflow_provider_lago.delivery.calls.customers import CustomerPlan
from airflow_provider_lago.delivery.calls.requests import Body, RequestPlan
from airflow_provider_lago.delivery.calls.subscriptions import SubscriptionPlan
from airflow_provider_lago.delivery.calls.terminations import TerminationPlan
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.preview import preview
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.shaping import Shaping
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import Row, Unreadable
from airflow_provider_lago.sources.values import ValueSource

PLANS = {
    CustomerPlan: {},
    SubscriptionPlan: {},
    TerminationPlan: {},
    RequestPlan: {"method": "POST", "endpoint": "coupons"},
}
SUBSCRIPTION = {"external_id": "s1", "external_customer_id": "acme", "plan_code": "basic"}


class Kept(NoReport):
    """Keeps by position why records are rejected or skipped, what names them, and how they are in the report."""

    wants_receipts = True

    def __init__(self):
        self.why = {}
        self.rows = {}
        self.skipped = {}
        self.names = {}

    def rejected(self, row, *, reason, detail, code, payload):
        self.why[row.position] = (reason, detail)
        self.rows[row.position] = row.data

    def receipts(self, lines):
        for line in lines:
            self.names[line["position"]] = line["id"]
            if line["outcome"] == "skipped":
                self.skipped[line["position"]] = line["reason"]


def plan_of(kind, source=(), **plan):
    source = ValueSource(list(source)) if isinstance(source, (list, tuple)) else source
    return kind(source=source, settings=connection("http://lago"), user_agent="test", **{**PLANS.get(kind, {}), **plan})


class Made:
    """What a plan made of records."""

    def __init__(self, kind, records, **plan):
        made = plan_of(kind, records, **plan)
        self.report, self.tally = Kept(), Tally.of_kinds(made.kinds)
        self.jobs = list(made.units(Ledger(self.tally, self.report, logging.getLogger("test"), made.id_field)))
        self.why = self.report.why

    @property
    def calls(self):
        return [f"{job.call.method} {job.call.target}" for job in self.jobs]

    @property
    def bodies(self):
        return [json.loads(job.call.body) for job in self.jobs]

    @property
    def sizes(self):
        return [len(job.entries) for job in self.jobs]


class Rows:
    """A source of rows as they are."""

    is_foreign = False

    def __init__(self, *data):
        self._data = data

    def rows(self):
        return (Row(number, "file", number, data) for number, data in enumerate(self._data, 1))


class TestEveryPlan:
    @pytest.mark.parametrize("kind", PLANS)
    def test_what_cannot_be_read_or_is_no_object_is_told_and_counted(self, kind):
        fine = {**SUBSCRIPTION} if kind is SubscriptionPlan else {"external_id": "a"}
        made = Made(kind, Rows(Unreadable("not JSON", "it is cut", '{"a'), 5, fine))
        assert made.why[1] == ("not JSON", "it is cut")
        assert made.why[2][0] == "not an object"
        assert len(made.jobs) == 1
        assert (made.tally.read, made.tally.rejected) == (3, 2)

    @pytest.mark.parametrize("kind", PLANS)
    def test_what_a_transform_changes_is_in_the_report_as_it_was_read(self, kind):
        def change(record):
            record["inner"]["n"] = "changed"
            return {"external_id": "\ud800", **record} if record["keep"] else None

        records = [{"inner": {"n": 1}, "keep": True, "external_id": "\ud800"}, {"inner": {"n": 2}, "keep": False}]
        made = Made(kind, records, shaping=Shaping(transform=change))
        assert made.jobs == []
        assert made.report.rows == {1: {"inner": {"n": 1}, "keep": True, "external_id": "\ud800"}}
        assert made.report.skipped == {2: "left out by transform"}
        assert records[1]["inner"] == {"n": 2}

    def test_without_a_transform_an_object_that_cannot_be_copied_may_be_in_a_record(self):
        class Rigid:
            def __deepcopy__(self, memo):
                raise RuntimeError("no copies")

        made = Made(RequestPlan, [{"id": "a", "by": Rigid()}], method="GET", endpoint="things/{id}")
        assert made.calls == ["GET things/a"]

    @pytest.mark.parametrize("kind", PLANS)
    def test_a_transform_that_fails_and_one_that_cannot_be_called_safely_cost_their_record(self, kind):
        class Rigid:
            def __deepcopy__(self, memo):
                raise RuntimeError("x" * 500)

        def fail(record):
            raise KeyError("gone")

        made = Made(kind, [{"a": 1}, {"a": Rigid()}], shaping=Shaping(transform=fail))
        assert made.why[1] == ("transform failed", "KeyError: 'gone'")
        assert made.why[2] == ("cannot be shaped", f"RuntimeError: {'x' * 186}")

    @pytest.mark.parametrize("kind", PLANS)
    def test_a_column_that_no_record_has_is_told_of_once_there_were_records(self, kind, caplog):
        target = "external_id" if kind is TerminationPlan else "name"
        shaping = Shaping(fields={target: "titel?"})
        Made(kind, [], shaping=shaping)
        assert "No record has" not in caplog.text
        Made(kind, [{"title": "x"}], shaping=shaping)
        assert f"No record has the column 'titel', which fields maps to '{target}'" in caplog.text

    @pytest.mark.parametrize(
        ("error", "why"),
        [
            (InvalidRecord("name: odd", "mend it"), ("name: odd", "mend it")),
            (PathError("it leads elsewhere"), ("cannot be sent", "it leads elsewhere")),
            (WireError("it cannot be written"), ("cannot be sent", "it cannot be written")),
            (LookupError("x" * 500), ("cannot be sent", f"LookupError: {'x' * 187}")),
        ],
        ids=lambda value: type(value).__name__,
    )
    @pytest.mark.parametrize("kind", [TerminationPlan, RequestPlan])
    def test_whatever_a_record_does_to_the_plan_costs_that_record_alone(self, kind, error, why, monkeypatch):
        method = "_target" if kind is RequestPlan else "job"
        whole = getattr(kind, method)

        def job(self, *arguments):
            if any(isinstance(given, dict) and given.get("external_id") == "bad" for given in arguments):
                raise error
            return whole(self, *arguments)

        monkeypatch.setattr(kind, method, job)
        made = Made(kind, [{"external_id": name} for name in ("a", "bad", "b")])
        assert made.why == {2: why}
        assert [job.entries[0].id for job in made.jobs] == ["a", "b"]

    def test_an_id_that_no_path_can_hold_is_told_in_words(self):
        made = Made(TerminationPlan, [{"external_id": "\ud800"}])
        assert made.why == {1: ("cannot be sent", "an id in the endpoint cannot be written in UTF-8")}

    @pytest.mark.parametrize(
        ("kind", "target", "goes_to", "counted"),
        [
            (CustomerPlan, "a customer", "POST http://lago/api/v1/customers", ["created", "updated"]),
            (
                SubscriptionPlan,
                "a subscription",
                "POST http://lago/api/v1/subscriptions",
                ["created", "unchanged", "upgraded", "downgraded", "changed"],
            ),
            (
                TerminationPlan,
                "the end of a subscription",
                "DELETE http://lago/api/v1/subscriptions/...",
                ["terminated", "canceled"],
            ),
        ],
    )
    def test_a_plan_says_where_it_goes_what_it_counts_and_which_fields_there_are(self, kind, target, goes_to, counted):
        plan = plan_of(kind)
        assert plan.goes_to == goes_to
        assert list(Delivery(plan).tally.kinds) == counted
        with pytest.raises(ValueError, match=f"'nothing' is nothing that {target} has: .*external_id"):
            plan_of(kind, shaping=Shaping(constants={"nothing": 1}))

    @pytest.mark.parametrize(
        ("kind", "root"), [(CustomerPlan, "customer"), (SubscriptionPlan, "subscription"), (RequestPlan, None)]
    )
    def test_a_success_has_to_hold_what_the_call_is_about(self, kind, root):
        assert (
            Made(kind, [SUBSCRIPTION if root == "subscription" else {"external_id": "a"}]).jobs[0].call.expects == root
        )
        assert Made(TerminationPlan, [{"external_id": "a"}]).jobs[0].call.expects == "subscription"

    @pytest.mark.parametrize("kind", PLANS)
    def test_a_record_that_cannot_be_sent_is_named_by_its_own_id(self, kind):
        name = "id" if kind is RequestPlan else "external_id"
        made = Made(kind, [{name: "bad", "\ud800": float("nan")}, {"x": float("nan")}])
        assert made.report.names == {1: "bad", 2: None}
        assert len(made.why) == 2

    @pytest.mark.parametrize(
        ("kind", "noun", "record"),
        [
            (CustomerPlan, "customers", {"external_id": "bad", "x": 1}),
            (SubscriptionPlan, "subscriptions", {"external_id": "bad", "x": 1}),
            (TerminationPlan, "subscriptions", {"external_id": "bad", "x": 1}),
            (RequestPlan, "records", {"id": "bad", "n": float("nan")}),
        ],
    )
    def test_the_log_names_a_rejected_record_and_what_is_delivered(self, kind, noun, record, caplog):
        caplog.set_level("INFO")
        delivery = Delivery(plan_of(kind, [record]), log=logging.getLogger("test"))
        delivery.run()
        field = "id" if kind is RequestPlan else "external_id"
        assert f"Rejected record 1 ({field} 'bad'): " in caplog.text
        delivery._log_progress()
        assert f" {noun}/s" in caplog.text

    def test_a_preview_has_the_calls_as_they_would_be_sent(self):
        plan = plan_of(RequestPlan, [{"id": "ü", "n": 1}], endpoint="things/{id}", method="PUT", headers={"X-A": "1"})
        (sample,), tally = preview(plan, 5, logging.getLogger("test"))
        assert (sample.method, sample.url) == ("PUT", "http://lago/api/v1/things/%C3%BC")
        assert (json.loads(sample.body), sample.records) == ({"id": "ü", "n": 1}, 1)
        assert sample.headers == (("X-A", "1"),)
        assert tally.read == 1
        (sample,), _ = preview(plan_of(TerminationPlan, [{"external_id": "a"}]), 5, logging.getLogger("test"))
        assert (sample.method, sample.body, sample.records) == ("DELETE", "", 1)


class TestCustomers:
    def test_a_customer_is_posted_under_its_root_in_the_order_of_its_id(self):
        made = Made(CustomerPlan, [{"external_id": "a", "name": "A"}])
        assert (made.calls, made.bodies) == (["POST customers"], [{"customer": {"external_id": "a", "name": "A"}}])
        (job,) = made.jobs
        assert (job.order, job.entries[0].id, job.entries[0].payload) == ("a", "a", job.call.body)
        assert job.call.repeatable

    def test_one_that_makes_lago_call_a_provider_is_not_repeated_unseen(self):
        billing = {"payment_provider": "stripe", "sync_with_provider": True}
        (job,) = Made(CustomerPlan, [{"external_id": "a", "billing_configuration": billing}]).jobs
        assert not job.call.repeatable

    def test_what_cannot_be_cleared_fails_before_any_record(self):
        with pytest.raises(ValueError, match="is no field of a customer"):
            plan_of(CustomerPlan, clearing=Clearing(True, ("nothing",)))
        clearing = Clearing(True, ("metadata.tier",))
        plan_of(CustomerPlan, clearing=clearing)
        with pytest.raises(ValueError, match="means nothing"):
            plan_of(CustomerPlan, clearing=clearing, replace_metadata=True)

    def test_an_unknown_field_is_told_and_not_dropped(self):
        (why,) = Made(CustomerPlan, [{"external_id": "a", "emial": "x"}]).why.values()
        assert why[0] == "unknown field"
        assert "'emial'" in why[1]


class TestSubscriptions:
    def test_a_subscription_is_posted_under_its_root_in_the_order_of_its_id(self):
        (job,) = Made(SubscriptionPlan, [SUBSCRIPTION]).jobs
        assert json.loads(job.call.body) == {"subscription": SUBSCRIPTION}
        assert (job.order, job.entries[0].id, job.entries[0].payload) == ("s1", "s1", job.call.body)
        assert job.call.repeatable

    @pytest.mark.parametrize("more", [{"plan_overrides": {"amount_cents": 1}}, {"authorization": {"amount_cents": 1}}])
    def test_one_that_would_be_billed_twice_is_not_repeated_unseen(self, more):
        (job,) = Made(SubscriptionPlan, [{**SUBSCRIPTION, **more}]).jobs
        assert not job.call.repeatable


class TestTerminations:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("on_termination_credit_note", value) for value in ("credit", "refund", "skip", "offset")),
            *(("on_termination_invoice", value) for value in ("generate", "skip")),
            ("status", "pending"),
        ],
    )
    def test_an_option_comes_from_the_record_or_else_from_the_plan(self, option, value):
        call = f"DELETE subscriptions/s1?{option}={value}"
        assert Made(TerminationPlan, [{"external_id": "s1", option: value}]).calls == [call]
        assert Made(TerminationPlan, [{"external_id": "s1"}], **{option: value}).calls == [call]
        assert Made(TerminationPlan, [{"external_id": "s1", option: None}], **{option: value}).calls == [call]

    def test_an_active_one_is_what_lago_ends_unasked(self):
        (job,) = Made(TerminationPlan, [{"external_id": "a/b", "status": "active"}], status="pending").jobs
        assert job.call.target == "subscriptions/a%2Fb"
        assert (job.order, job.entries[0].id, job.entries[0].payload) == ("a/b", "a/b", None)
        assert job.call.repeatable

    def test_a_dotted_id_is_refused_as_lago_would_end_another_one(self):
        (why,) = Made(TerminationPlan, [{"external_id": "a.b.c"}]).why.values()
        assert why[0] == "external_id: holds a dot"
        assert "end subscription 'a' instead" in why[1]


class TestRequests:
    @pytest.mark.parametrize(
        ("value", "fault"),
        [
            ({}, "no id"),
            ({"id": None}, "no id"),
            ({"id": ""}, "no id"),
            ({"id": True}, "id is no text"),
            ({"id": 1.5}, "id is no text"),
            ({"id": 10**5000}, "id is no text"),
        ],
        ids=["missing", "null", "empty", "flag", "fraction", "long"],
    )
    def test_a_value_that_cannot_stand_in_a_url_is_told_with_the_place_that_names_it(self, value, fault):
        assert Made(RequestPlan, [value], endpoint="things/{id}").why[1][0] == f"endpoint: {fault}"
        assert Made(RequestPlan, [value], query={"of": ["{ id }"]}).why[1][0] == f"query.of: {fault}"

    def test_a_value_that_cannot_be_sent_is_told_with_its_place_in_the_payload(self):
        made = Made(RequestPlan, [{"a": {"b": float("nan")}}, {"t": "\0"}])
        assert made.why[1] == ("NaN or infinity", "a.b is nan, which is not a JSON number")
        assert made.why[2][1].startswith("t holds a NUL")

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    def test_what_takes_no_body_sends_and_reports_none(self, method):
        (job,) = Made(RequestPlan, [{"id": "a", "n": float("nan")}], method=method, endpoint="things/{id}").jobs
        assert (job.call.body, job.entries[0].payload) == (None, None)

    @pytest.mark.parametrize(
        ("body", "sent"),
        [
            (Body(), {"n": 1}),
            (Body(extra={"x": 2}), {"x": 2, "n": 1}),
            (Body(root="thing"), {"thing": {"n": 1}}),
            (Body(root="thing", extra={"x": 2}), {"x": 2, "thing": {"n": 1}}),
            (Body(envelope="things", extra={"x": 2}), {"x": 2, "things": [{"n": 1}]}),
            (Body(build=lambda payloads: {"sum": payloads[0]["n"]}, extra={"x": 2}), {"sum": 1}),
        ],
    )
    def test_a_payload_stands_in_the_body_as_asked_for(self, body, sent):
        assert Made(RequestPlan, [{"n": 1}], body=body).bodies == [sent]
        assert body.groups == (body.envelope is not None or body.build is not None)

    def test_a_function_that_fails_is_told_in_short_to_each_record_of_the_group(self):
        def build(payloads):
            raise LookupError("x" * 500)

        made = Made(RequestPlan, [{"n": 1}, {"n": 2}], body=Body(build=build), batch_size=2)
        why = ("build_request failed", f"LookupError: {'x' * 187}")
        assert (made.why, made.jobs) == ({1: why, 2: why}, [])

    def test_headers_and_query_go_with_each_call(self):
        plan = {"headers": {"X-A": "1"}, "query": {"of": "{id}", "page": 2}, "filters": lambda call, answer: b""}
        made = Made(RequestPlan, [{"id": "a b"}], **plan)
        assert made.calls == ["POST coupons?of=a%20b&page=2"]
        assert made.jobs[0].call.headers == {"X-A": "1"}
        assert made.jobs[0].filters is not None
        assert Made(RequestPlan, [{"id": "a"}]).jobs[0].filters is None

    @pytest.mark.parametrize(("idempotent", "repeatable"), [(None, False), (True, True), (False, False)])
    def test_what_may_come_twice_is_as_the_user_says_or_by_verb_and_endpoint(self, idempotent, repeatable):
        (job,) = Made(RequestPlan, [{"id": "a"}], idempotent=idempotent).jobs
        assert job.call.repeatable is repeatable
        assert Made(RequestPlan, [{"id": "a"}], method="GET").jobs[0].call.repeatable

    def test_it_says_where_it_goes(self):
        assert plan_of(RequestPlan, endpoint="things/{id}").goes_to == "POST http://lago/api/v1/things/{id}"


class TestGroups:
    ENVELOPE = Body(envelope="items")

    @pytest.mark.parametrize(("most", "sizes"), [(14, [2, 2, 1]), (13, [1] * 5), (20, [2, 2, 1]), (21, [3, 2])])
    def test_a_request_is_as_full_as_its_bytes_allow(self, most, sizes):
        """Each payload, ``{"n":1}``, has seven."""
        assert Made(RequestPlan, [{"n": 1}] * 5, body=self.ENVELOPE, batch_size=9, max_bytes=most).sizes == sizes

    def test_one_that_is_larger_than_a_request_may_be_goes_alone(self):
        records = [{"n": 1}, {"text": "x" * 100}, {"n": 2}]
        made = Made(RequestPlan, records, body=self.ENVELOPE, batch_size=9, max_bytes=20)
        assert made.sizes == [1, 1, 1]

    def test_a_request_is_as_full_as_its_records_allow(self):
        assert Made(RequestPlan, [{"n": 1}] * 5, body=self.ENVELOPE, batch_size=2).sizes == [2, 2, 1]

    def test_records_of_one_request_share_group_path_and_query(self):
        records = [{"g": "a", "n": 1}, {"g": "b", "n": 2}, {"g": "a", "n": 3}, {"g": 1, "n": 4}]
        for plan in ({"group_by": "g"}, {"endpoint": "things/{g}"}, {"query": {"g": "{g}"}}):
            made = Made(RequestPlan, records, body=self.ENVELOPE, batch_size=9, **plan)
            assert [[item["n"] for item in body["items"]] for body in made.bodies] == [[1, 3], [2], [4]]

    @pytest.mark.parametrize("record", [{}, {"g": None}, {"g": 1.5}, {"g": ["a"]}])
    def test_a_record_without_a_group_is_told_so(self, record):
        made = Made(RequestPlan, [record], body=self.ENVELOPE, batch_size=9, group_by="g")
        assert made.why == {1: ("group_by: no g", "the record has no text or whole number in 'g'")}

    @pytest.mark.parametrize(
        ("bound", "size"), [("_MOST_WAITING", 2), ("_MOST_BYTES", 14), ("_MOST_GROUPS", 2)], ids=str
    )
    def test_the_oldest_group_goes_out_when_more_waits_than_may(self, bound, size, monkeypatch):
        monkeypatch.setattr(requests, bound, size)
        read = []

        def records():
            for n in range(4):
                read.append(n)
                yield {"g": n}

        plan = plan_of(RequestPlan, ValueSource(records()), body=self.ENVELOPE, batch_size=9, group_by="g")
        jobs = plan.units(Ledger(Tally(), NoReport(), logging.getLogger("test")))
        seen = [(json.loads(job.call.body)["items"], len(read)) for job in jobs]
        assert seen == [([{"g": 0}], 3), ([{"g": 1}], 4), ([{"g": 2}], 4), ([{"g": 3}], 4)]
