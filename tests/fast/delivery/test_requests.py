"""Requests to any endpoint over real HTTP: where they go, how they are grouped, and what is sent twice."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections import Counter
from decimal import Decimal

import pytest
from support.deliveries import QUICK, Run, connection
from support.scripted import CUT, Reply, ScriptedServer, as_json, refused

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.calls import requests
from airflow_provider_lago.delivery.calls.requests import Body, RequestPlan
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.preview import preview
from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.delivery.shaping import Shaping
from airflow_provider_lago.sources.values import ValueSource


def plan(server, records, method="POST", endpoint="coupons", **changes):
    values = {"policy": QUICK, "concurrency": 4, "settings": connection(server.url, read_timeout=0.5), **changes}
    source = ValueSource(records) if isinstance(records, (list, dict)) else records
    return RequestPlan(source=source, user_agent="test", method=method, endpoint=endpoint, **values)


@pytest.fixture
def deliver(tmp_path):
    """Deliver records to a server, and check what holds for every delivery."""

    def run(server, records, *arguments, **changes):
        report = FolderReport(tmp_path / "report", {"run_id": "r"}, receipts=True)
        result = Delivery(plan(server, records, *arguments, **changes), report, logging.getLogger("test")).run()
        report.finish(result.summary())
        assert result.halt is not None or result.tally.settled == result.tally.read
        return Run(result, tmp_path / "report")

    return run


def rejects(run):
    return [json.loads(line) for line in (run.folder / "rejected.jsonl").read_text().splitlines()]


def fine(request):
    return as_json(200, {"thing": {"lago_id": "l-1"}})


class Wallets:
    """Makes a wallet of every request that arrives, and meets trouble as a test says."""

    def __init__(self, *first, then=fine):
        self.made = Counter()
        self._first = list(first)
        self._then = then
        self._lock = threading.Lock()

    def __call__(self, request):
        with self._lock:
            trouble = self._first.pop(0) if self._first else None
        if trouble is None or trouble[0]:
            self.made[request.body or request.path] += 1
        return self._then(request) if trouble is None else trouble[1]


AFTER = {
    "lost": (True, CUT),
    "500": (True, as_json(500, {"status": 500, "error": "Internal Server Error"})),
    "502": (True, Reply(502, b"<html>", {"Content-Type": "text/html"})),
    "408": (True, Reply(408)),
    "timeout": (True, Reply(200, b"{}", {"Content-Type": "application/json"}, delay=1.0)),
    "cut body": (True, Reply(200, b'{"wallet": {}}', {"Content-Type": "application/json"}, cut_after=80)),
    "half a body": (True, Reply(200, b'{"wallet": {', {"Content-Type": "application/json"})),
    "not UTF-8": (True, Reply(200, b'{"wallet": "\xff"}', {"Content-Type": "application/json"})),
}
BEFORE = {
    "429": (False, as_json(429, {}, **{"x-ratelimit-reset": "0"})),
    "lock": (False, refused(None, "lock_acquisition_failed")),
}


class TestOnce:
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    @pytest.mark.parametrize("trouble", AFTER)
    def test_what_may_have_been_done_is_sent_once_and_rejected_as_lost(self, trouble, method, deliver):
        lago = Wallets(AFTER[trouble])
        with ScriptedServer(lago) as server:
            run = deliver(server, [{"id": "w1"}], method, "wallets/{id}", idempotent=False)
        assert lago.made.total() == 1
        assert len(server.requests) == 1
        (rejected,) = rejects(run)
        assert rejected["reason"] == "answer lost: Lago may have done it"
        assert "look in Lago" in rejected["detail"]

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_a_connection_that_is_in_use_and_breaks_sends_nothing_twice(self, method, deliver):
        """aiohttp repeats PUT and DELETE by itself, also on a connection that it used before."""
        lago = Wallets((True, fine(None)), (True, CUT))
        with ScriptedServer(lago) as server:
            run = deliver(server, [{"id": "w1"}, {"id": "w2"}], method, "wallets/{id}", idempotent=False, concurrency=1)
        assert lago.made.total() == 2
        assert run.counts == (2, 1, 0, 1, 0)

    @pytest.mark.parametrize("trouble", BEFORE)
    def test_what_was_never_done_is_sent_again(self, trouble, deliver):
        lago = Wallets(BEFORE[trouble], BEFORE[trouble])
        with ScriptedServer(lago) as server:
            run = deliver(server, [{"id": "w1"}], "POST", "wallets", idempotent=False)
        assert lago.made.total() == 1
        assert len(server.requests) == 3
        assert run.tally.accepted == 1

    def test_a_refused_connection_is_tried_again_and_rejects_nothing(self, deliver):
        with ScriptedServer(fine) as gone:
            pass
        run = deliver(gone, [{"id": "w1"}], "POST", "wallets", idempotent=False, policy=RetryPolicy(3, 0.01, 0.02))
        assert run.counts == (1, 0, 0, 0, 0)
        assert run.tally.requests == 6, "three tries, and three more at the end"
        assert not run.halt.final

    def test_a_provider_that_throttled_lago_may_have_left_a_part_done(self, deliver):
        with ScriptedServer(
            lambda request: as_json(429, {"status": 429, "code": "too_many_provider_requests"})
        ) as server:
            run = deliver(server, [{"id": "w1"}], "POST", "wallets", idempotent=False)
        assert len(server.requests) == 1
        (rejected,) = rejects(run)
        assert "look in Lago" in rejected["detail"]

    def test_a_server_that_loses_every_answer_ends_the_delivery_soon(self, deliver):
        lago = Wallets(*[AFTER["lost"]] * 50)
        with ScriptedServer(lago) as server:
            run = deliver(server, [{"id": str(n)} for n in range(50)], "POST", "wallets", idempotent=False)
        assert lago.made.total() < 10
        assert set(lago.made.values()) == {1}
        assert run.tally.rejected == lago.made.total(), "each that was sent has an outcome, and no other"
        assert "without an answer" in run.halt.why

    @pytest.mark.parametrize("trouble", AFTER)
    def test_what_does_no_harm_twice_is_sent_again(self, trouble, deliver):
        lago = Wallets(AFTER[trouble])
        with ScriptedServer(lago) as server:
            run = deliver(server, [{"id": "w1"}], "PUT", "coupons/{id}", idempotent=True)
        assert len(server.requests) == 2
        assert run.tally.accepted == 1


class TestEvents:
    """Lago knows an event by its id, so that it may be sent again, and says so."""

    @staticmethod
    def known(request):
        one = {"transaction_id": ["value_already_exist"]}
        body = json.loads(request.body)
        return refused({str(n): one for n in range(len(body["events"]))} if "events" in body else one)

    @pytest.mark.parametrize(
        ("endpoint", "body", "requests"),
        [("events", Body(root="event"), 6), ("events/batch", Body(envelope="events"), 2)],
    )
    def test_events_whose_answer_was_lost_are_not_rejected_as_known(self, endpoint, body, requests, deliver):
        lago = Wallets(*[AFTER["lost"]] * (requests // 2), then=self.known)
        size = 1 if endpoint == "events" else 100
        with ScriptedServer(lago) as server:
            run = deliver(
                server, [{"transaction_id": f"t{n}"} for n in range(3)], "POST", endpoint, body=body, batch_size=size
            )
        assert run.counts == (3, 0, 3, 0, 0)
        assert len(server.requests) == requests

    def test_a_batch_of_which_lago_knows_a_part_is_rejected(self, deliver):
        details = {"1": {"transaction_id": ["value_already_exist"]}}
        with ScriptedServer(lambda request: refused(details)) as server:
            run = deliver(
                server, [{"n": n} for n in range(3)], "POST", "events/batch", body=Body(envelope="events"), batch_size=9
            )
        assert run.counts == (3, 0, 0, 3, 0)

    def test_another_object_that_exists_is_rejected(self, deliver):
        with ScriptedServer(lambda request: refused({"transaction_id": ["value_already_exist"]})) as server:
            run = deliver(server, [{"n": 1}], "POST", "coupons")
        assert run.counts == (1, 0, 0, 1, 0)


class TestEndpoint:
    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            ("acme", "acme"),
            ("a/b", "a%2Fb"),
            ("a?b#c", "a%3Fb%23c"),
            ("50% off", "50%25%20off"),
            ("Zoë 💶", "Zo%C3%AB%20%F0%9F%92%B6"),
            ('it\'s "q"', "it%27s%20%22q%22"),
            ("a+b&c=d;e,f", "a%2Bb%26c%3Dd%3Be%2Cf"),
            ("{other}", "%7Bother%7D"),
            ("%2e%2e", "%252e%252e"),
            ("%2F", "%252F"),
            (7, "7"),
            (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        ],
    )
    def test_a_value_stands_in_the_path_percent_encoded(self, value, sent, deliver):
        with ScriptedServer(fine) as server:
            run = deliver(server, [{"account": {"id": value}, "other": "x"}], "GET", "customers/{ account.id }/wallets")
        assert run.tally.accepted == 1
        assert server.requests[0].path == f"/api/v1/customers/{sent}/wallets"

    @pytest.mark.parametrize(
        "value",
        ["", None, True, 1.5, Decimal("1.5"), ["a"], {"a": 1}, "..", ".", "a.b", "a/../b", "x\ny", "\ud800", 10**5000],
        ids=lambda value: type(value).__name__ if isinstance(value, int) and value > 1 else repr(value),
    )
    def test_a_value_that_leads_nowhere_rejects_its_record_alone(self, value, deliver):
        records = [{"id": "a"}, {"id": value}, {}, {"id": "b"}]
        with ScriptedServer(fine) as server:
            run = deliver(server, records, "PUT", "customers/{id}", concurrency=1)
        assert run.counts == (4, 2, 0, 2, 0)
        assert [request.path for request in server.requests] == ["/api/v1/customers/a", "/api/v1/customers/b"]
        assert [line["position"] for line in rejects(run)] == [2, 3]
        assert "endpoint: no id" in run.tally.reasons

    @pytest.mark.parametrize(
        ("method", "endpoint", "record"),
        [
            ("POST", "{kind}", {"kind": "wallets"}),
            ("POST", "customers/{id}/{kind}", {"id": "a", "kind": "wallets"}),
            ("POST", "invoices/{id}/{action}", {"id": "a", "action": "void"}),
            ("POST", "coupons/{id}/{action}", {"id": "a", "action": "terminate"}),
        ],
    )
    def test_a_record_cannot_turn_a_call_into_one_that_moves_money_or_destroys(self, method, endpoint, record, deliver):
        with ScriptedServer(fine) as server:
            run = deliver(server, [record], method, endpoint)
        assert server.requests == []
        assert run.tally.reasons == {"endpoint: leads elsewhere": 1}

    @pytest.mark.parametrize(
        "endpoint",
        [
            "https://evil.example/{id}",
            "//evil.example/{id}",
            "a/../{id}",
            "coupons?x={id}",
            "{}",
            "a/{b",
            " ",
            None,
            "coupons/a.b",
        ],
    )
    def test_an_endpoint_that_can_never_be_sent_fails_before_any_record(self, endpoint, deliver):
        with ScriptedServer(fine) as server, pytest.raises(ValueError, match=r"."):
            deliver(server, [{"id": "a"}], "POST", endpoint)
        assert server.requests == []

    def test_query_values_are_filled_for_each_record(self, deliver):
        query = {"external_id": "{id}", "status": ["{status}", "pending"], "page": 1, "none": None}
        with ScriptedServer(fine) as server:
            run = deliver(server, [{"id": "a&b", "status": "ü"}, {"id": "c"}], "GET", "subscriptions", query=query)
        assert run.counts == (2, 1, 0, 1, 0)
        assert server.requests[0].path == (
            "/api/v1/subscriptions?external_id=a%26b&status%5B%5D=%C3%BC&status%5B%5D=pending&page=1"
        )

    def test_a_query_that_can_never_be_sent_fails_before_any_record(self, deliver):
        with ScriptedServer(fine) as server, pytest.raises(ValueError, match="'filter'"):
            deliver(server, [{"id": "a"}], "GET", "customers", query={"filter": {"a": 1}})

    def test_a_value_that_no_query_can_hold_rejects_its_record(self, deliver):
        with ScriptedServer(fine) as server:
            run = deliver(server, [{"id": "\ud800"}, {"id": "a"}], "GET", "customers", query={"external_id": "{id}"})
        assert run.counts == (2, 1, 0, 1, 0)

    def test_the_columns_of_the_path_may_be_left_out_of_the_body(self, deliver):
        with ScriptedServer(fine) as server:
            deliver(
                server,
                [{"id": "a", "account": {"name": "n", "secret": 1}}],
                "PUT",
                "coupons/{id}",
                shaping=Shaping(exclude=["id", "account.secret"]),
                body=Body(root="coupon"),
            )
        assert json.loads(server.bodies[0]) == {"coupon": {"account": {"name": "n"}}}

    def test_what_a_read_does_not_send_rejects_nothing(self, deliver):
        with ScriptedServer(fine) as server:
            run = deliver(server, [{"id": "a", "amount": float("nan"), "tags": {1, 2}}], "GET", "customers/{id}")
        assert run.tally.accepted == 1


class TestGroups:
    def test_payloads_stand_under_the_envelope_beside_the_extra_body(self, deliver):
        with ScriptedServer(fine) as server:
            deliver(
                server,
                [{"n": n} for n in range(5)],
                body=Body(envelope="items", extra={"kind": "k"}),
                batch_size=2,
                concurrency=1,
            )
        assert [json.loads(body) for body in server.bodies] == [
            {"kind": "k", "items": [{"n": 0}, {"n": 1}]},
            {"kind": "k", "items": [{"n": 2}, {"n": 3}]},
            {"kind": "k", "items": [{"n": 4}]},
        ]

    def test_many_groups_lose_nothing_mix_nothing_and_keep_their_order(self, deliver):
        """5,000 groups, more than may wait at a time, whose requests answer out of turn."""
        records = [{"account": {"id": f"g{n % 5_000}"}, "n": n} for n in range(15_000)]
        records += [{"account": {"id": "one"}, "n": n} for n in range(1_000)]

        def slow_at_times(request):
            body = json.loads(request.body)["items"]
            return Reply(200, b"{}", {"Content-Type": "application/json"}, delay=0.02 if body[0]["n"] % 97 == 0 else 0)

        with ScriptedServer(slow_at_times) as server:
            run = deliver(
                server, records, body=Body(envelope="items"), batch_size=10, group_by="account.id", concurrency=8
            )
        assert run.counts == (16_000, 16_000, 0, 0, 0)
        seen = {}
        for body in server.bodies:
            items = json.loads(body)["items"]
            assert len({item["account"]["id"] for item in items}) == 1
            seen.setdefault(items[0]["account"]["id"], []).extend(item["n"] for item in items)
        assert len(seen) == 5_001
        assert all(numbers == sorted(numbers) for numbers in seen.values())
        assert sum(map(len, seen.values())) == 16_000

    def test_requests_of_a_group_never_overtake_each_other(self, deliver):
        """Without turns, the first request of the group, which is slow, would end last."""
        done = []

        def answer(request):
            first = json.loads(request.body)["items"][0]["n"]
            done.append(first)
            return Reply(200, b"{}", {"Content-Type": "application/json"}, delay=0.2 if first == 0 else 0)

        with ScriptedServer(answer) as server:
            deliver(
                server, [{"g": "x", "n": n} for n in range(8)], body=Body(envelope="items"), batch_size=2, group_by="g"
            )
        assert done == [0, 2, 4, 6]
        assert server.most_at_once == 1

    def test_what_waits_is_bounded_in_records_bytes_and_groups(self, monkeypatch):
        monkeypatch.setattr(requests, "_MOST_WAITING", 50)
        monkeypatch.setattr(requests, "_MOST_BYTES", 5_000)
        monkeypatch.setattr(requests, "_MOST_GROUPS", 20)
        read = 0

        def records():
            nonlocal read
            for n in range(10_000):
                read += 1
                yield {"g": n % 7, "n": n, "filler": "x" * 50}

        source = ValueSource(records())
        waiting = requests._Waiting(1_000, 100_000)
        out = 0
        for row in source.rows():
            shaped = requests._Shaped(row, row.data, row.data)
            for _, group in waiting.add(requests._Target("e", (), row.data["g"]), shaped, 80):
                out += len(group)
            assert read - out <= 50
            assert waiting._bytes <= 5_000
        out += sum(len(group) for _, group in waiting.rest())
        assert out == read == 10_000
        assert (waiting._records, waiting._bytes, waiting._groups) == (0, 0, {})

    def test_a_request_holds_no_more_bytes_than_it_may(self, deliver):
        with ScriptedServer(fine) as server:
            run = deliver(
                server,
                [{"text": "x" * 100} for _ in range(50)],
                body=Body(envelope="items"),
                batch_size=50,
                max_bytes=1_000,
            )
        assert run.tally.accepted == 50
        assert max(len(body) for body in server.bodies) < 1_100

    def test_a_record_without_its_group_is_rejected_alone(self, deliver):
        records = [{"g": "a"}, {}, {"g": None}, {"g": 1.5}, {"g": ""}]
        with ScriptedServer(fine) as server:
            run = deliver(server, records, body=Body(envelope="items"), batch_size=10, group_by="g")
        assert run.counts == (5, 2, 0, 3, 0)
        assert len(server.requests) == 2

    def test_a_function_makes_the_body(self, deliver):
        def build(payloads):
            return {"sum": sum(payload["n"] for payload in payloads), "of": len(payloads)}

        with ScriptedServer(fine) as server:
            deliver(server, [{"n": n} for n in range(4)], body=Body(build=build), batch_size=3, concurrency=1)
        assert [json.loads(body) for body in server.bodies] == [{"sum": 3, "of": 3}, {"sum": 3, "of": 1}]

    @pytest.mark.parametrize("fault", ["raises", "cannot be written"])
    def test_a_function_that_fails_rejects_its_records_and_no_others(self, fault, deliver):
        def build(payloads):
            if any(payload["n"] == 1 for payload in payloads):
                if fault == "raises":
                    raise KeyError("gone")
                return {"value": object()}
            return payloads[0]

        with ScriptedServer(fine) as server:
            run = deliver(server, [{"n": n} for n in range(6)], body=Body(build=build), batch_size=2)
        assert run.counts == (6, 4, 0, 2, 0)
        assert [line["position"] for line in rejects(run)] == [1, 2]

    def test_what_a_function_does_to_payloads_is_not_in_the_report(self, deliver):
        def build(payloads):
            payloads[0]["inner"]["n"] = "changed"
            return payloads[0]

        with ScriptedServer(lambda request: refused({"n": ["value_is_invalid"]})) as server:
            run = deliver(server, [{"inner": {"n": 1}}], body=Body(build=build), batch_size=5)
        assert rejects(run)[0]["payload"] == {"inner": {"n": 1}}

    def test_an_odd_record_ends_no_delivery(self, deliver):
        class Hostile:
            def __eq__(self, other):
                raise TypeError("ambiguous")

            __hash__ = object.__hash__

        records = [{"id": Hostile(), "key": "a"}, {"id": 10**5_000, "key": "b"}, {"id": "fine", "key": "c"}]
        with ScriptedServer(fine) as server:
            run = deliver(server, records, "GET", "customers/{key}")
        assert run.tally.accepted == 3


class TestAnswers:
    @pytest.mark.parametrize(
        ("record", "name"),
        [
            ({"external_id": "e", "transaction_id": "t", "id": "i"}, "e"),
            ({"transaction_id": "t", "lago_id": "l", "code": "c"}, "t"),
            ({"lago_id": "l", "id": "i"}, "l"),
            ({"id": 7, "code": "c"}, "7"),
            ({"id": True, "code": "c"}, "c"),
            ({"id": "", "code": "c"}, "c"),
            ({"external_customer_id": "k", "external_subscription_id": "s"}, "k"),
            ({"external_subscription_id": "s", "name": "n"}, "s"),
            ({"id": 2**499, "code": "c"}, str(2**499)),
            ({"id": 2**500, "code": "c"}, "c"),
            ({"name": "n"}, None),
        ],
    )
    def test_a_record_is_named_by_the_first_of_the_columns_that_commonly_do(self, record, name, deliver):
        with ScriptedServer(fine) as server:
            run = deliver(server, [record])
        (receipt,) = (run.folder / "receipts.jsonl").read_text().splitlines()
        assert json.loads(receipt)["id"] == name

    def test_lagos_words_and_code_are_in_the_report(self, deliver):
        with ScriptedServer(lambda request: refused({"code": ["value_already_exist"]})) as server:
            run = deliver(server, [{"code": "a"}])
        (rejected,) = rejects(run)
        assert rejected["reason"] == "code: value_already_exist"
        assert rejected["code"] == "validation_errors"
        assert rejected["detail"] == "refused by Lago (HTTP 422)"

    def test_a_check_gets_the_call_and_may_object(self, deliver):
        def accepts(call, answer):
            if call.path.endswith("c"):
                raise LookupError("no")
            return call.path.endswith("a")

        with ScriptedServer(fine) as server:
            run = deliver(server, [{"id": name} for name in "abc"], "GET", "customers/{id}", accepts=accepts)
        assert run.tally.accepted == 1
        assert run.tally.reasons == {"response_check returned False": 1, "response_check failed": 1}

    def test_a_preview_shows_the_bytes_that_are_sent(self, deliver):
        arguments = {
            "body": Body(envelope="items", extra={"x": Decimal("1.10")}),
            "batch_size": 2,
            "query": {"a": "{id}"},
            "headers": {"X-A": "1"},
        }
        records = [{"id": "ü/1", "n": Decimal("0.10")}, {"id": "ü/1", "n": 2}, {"id": "b"}]
        with ScriptedServer(fine) as server:
            shown, _ = preview(plan(server, records, "PUT", "things/{id}", **arguments), 10, logging.getLogger())
            assert server.requests == []
            deliver(server, records, "PUT", "things/{id}", concurrency=1, **arguments)
        sent = [(r.method, server.url + r.path, r.body.decode(), r.headers["x-a"]) for r in server.requests]
        assert [(s.method, s.url, s.body, dict(s.headers)["X-A"]) for s in shown] == sent
