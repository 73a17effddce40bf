"""The caller by itself, with a wire that answers as a test says: tries, waits, doubts, turns, and what is put off."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from support.deliveries import connection

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.failures import Cause, Failure
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.calls import caller as caller_module
from airflow_provider_lago.delivery.calls.requests import RequestPlan
from airflow_provider_lago.delivery.calls.subscriptions import SubscriptionPlan
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.responses import NoResponses
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.values import ValueSource


def answer(status, body=None, **headers):
    content = b"" if body is None else json.dumps(body).encode()
    return Answer(status, {"content-type": "application/json", **headers}, content)


def error(status, code, details=None):
    return answer(status, {"status": status, "error": "Refused", "code": code, "error_details": details})


FINE = answer(200, {"thing": {"lago_id": "l"}})
DOWN = answer(502, {})
BROKEN = answer(500, {"status": 500, "error": "Internal Server Error"})
WALL = answer(413)
REFUSED = error(422, "validation_errors", {"name": ["value_is_invalid"]})
THROTTLED = error(429, "too_many_provider_requests")
LOCKED = error(422, "lock_acquisition_failed")
HURRIED = answer(429, {}, **{"retry-after": "0"})


@dataclass(frozen=True)
class Patience(RetryPolicy):
    """Waits as long as it is told to, and keeps after how many tries it was asked."""

    asked: list[int] = field(default_factory=list)

    def wait(self, tries, rng=None):
        self.asked.append(tries)
        return self.base


class Wire:
    """Answers each call as ``reply(call)`` says, at once or when it is done waiting."""

    def __init__(self, reply):
        self._reply = reply
        self.calls = []
        self.times = []

    async def send(self, call):
        self.calls.append(f"{call.method} {call.target}")
        self.times.append(time.monotonic())
        reply = self._reply(call)
        return await reply if inspect.isawaitable(reply) else reply


class Script:
    """Replies by the last segment of the path, one after the other; the last one goes on; fine for all others."""

    def __init__(self, **replies):
        self._replies = {name: list(given) for name, given in replies.items()}

    def __call__(self, call):
        left = self._replies.get(call.path.rsplit("/", 1)[1])
        return FINE if left is None else left.pop(0) if len(left) > 1 else left[0]


class Kept(NoReport):
    wants_receipts = True

    def __init__(self):
        self.lines = []
        self.details = []

    def receipts(self, lines):
        self.lines += lines

    def rejected(self, row, *, reason, detail, code, payload):
        self.details.append(detail)


class Answers:
    """Takes Lago's answers."""

    def __init__(self):
        self.taken = []

    async def put(self, response):
        self.taken.append(response)


class Calling:
    """A caller with its plan, as a delivery has it."""

    def __init__(self, reply, kind=RequestPlan, attempts=5, base=0.0, cap=0.0, responses=None, **plan):
        if kind is RequestPlan:
            plan = {"method": "PUT", "endpoint": "things/{id}", "idempotent": True, **plan}
        self.policy = Patience(attempts=attempts, base=base, cap=cap)
        self.plan = kind(
            source=ValueSource([]), settings=connection("http://lago"), user_agent="test", policy=self.policy, **plan
        )
        self.wire, self.report = Wire(reply), Kept()
        self.tally = Tally.of_kinds(self.plan.kinds)
        self.ledger = Ledger(self.tally, self.report, logging.getLogger("test"))
        self.caller = self.plan.courier(self.wire, self.ledger, responses or NoResponses())

    def jobs(self, *records):
        records = [{"id": given} if isinstance(given, str) else given for given in records]
        return [self.plan.job(row, row.data, dict(row.data)) for row in ValueSource(records).rows()]

    def job(self, record):
        return self.jobs(record)[0]

    async def deliver(self, *records):
        """Deliver records one after the other, as far as it comes."""
        for job in self.jobs(*records):
            if self.caller.halt is None:
                await self.caller.deliver(job)

    async def end(self):
        await self.caller.deliver_parked()

    def run(self, *records):
        async def main():
            await self.deliver(*records)
            await self.end()

        asyncio.run(main())
        return self

    @property
    def halt(self):
        return self.caller.halt

    @property
    def outcomes(self):
        return {line["id"]: line["outcome"] for line in self.report.lines}

    def sent(self, name):
        """How often something was sent about a record."""
        return Counter(call.partition("?")[0].rsplit("/", 1)[1] for call in self.wire.calls)[name]


class TestTries:
    @pytest.mark.parametrize(
        "failure", [DOWN, BROKEN, LOCKED, Failure(Cause.BROKEN, "reset"), answer(409), answer(408)]
    )
    def test_a_call_is_tried_again_after_longer_and_longer_waits(self, failure):
        calling = Calling(Script(a=[failure, failure, FINE])).run("a")
        assert calling.policy.asked == [1, 2]
        assert calling.outcomes == {"a": "accepted"}
        assert calling.tally.requests == 3

    def test_after_the_last_try_nobody_waits(self):
        calling = Calling(Script(a=[DOWN]), attempts=3)
        asyncio.run(calling.deliver("a"))
        assert calling.policy.asked == [1, 2]
        assert calling.sent("a") == 3
        assert (calling.outcomes, calling.halt) == ({}, None)

    def test_too_many_requests_are_no_failed_tries(self):
        calling = Calling(Script(a=[HURRIED] * 5 + [FINE]), attempts=2).run("a")
        assert calling.outcomes == {"a": "accepted"}
        assert calling.sent("a") == 6

    def test_nothing_but_too_many_requests_for_long_ends_the_delivery_to_be_tried_later(self, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.delivery.courier._PATIENCE", 0.0)
        calling = Calling(lambda call: HURRIED).run("a")
        assert calling.halt.why.startswith("nothing but 'too many requests' (HTTP 429)")
        assert not calling.halt.final
        assert calling.outcomes == {}

    def test_what_a_repetition_is_refused_for_may_be_an_earlier_trys_work(self):
        taken = error(422, "validation_errors", {"code": ["value_already_exist"]})
        assert Calling(Script(a=[DOWN, taken])).run("a").outcomes == {"a": "accepted"}
        assert Calling(Script(a=[answer(409), taken])).run("a").outcomes == {"a": "rejected"}, "that was never done"
        assert Calling(Script(a=[DOWN, answer(409), taken])).run("a").outcomes == {"a": "accepted"}

    def test_what_must_be_sent_once_is_sent_again_only_as_long_as_lago_did_not_do_it(self):
        calling = Calling(Script(a=[LOCKED, answer(409), DOWN, FINE]), idempotent=False).run("a")
        assert calling.sent("a") == 3
        assert calling.outcomes == {"a": "rejected"}

    def test_a_page_that_is_not_there_is_a_wrong_address_until_lago_has_answered_once(self):
        nowhere = answer(404)
        first = Calling(Script(a=[nowhere, FINE])).run("a")
        assert first.halt.final
        assert first.sent("a") == 1
        assert Calling(Script(b=[nowhere, FINE])).run("a", "b").outcomes == {"a": "accepted", "b": "accepted"}

    def test_a_provider_that_throttles_one_record_holds_up_that_one_alone(self):
        calling = Calling(Script(a=[THROTTLED]), idempotent=False).run("a")
        assert calling.policy.asked == [1]
        assert calling.outcomes == {"a": "rejected"}

    @pytest.mark.parametrize(("failure", "holds_up"), [(LOCKED, True), (answer(409), False)], ids=["lock", "conflict"])
    def test_lagos_lock_holds_up_every_call_and_any_other_trouble_its_own(self, failure, holds_up):
        async def main():
            calling = Calling(Script(a=[FINE, failure, FINE]), base=0.1)
            await calling.deliver("a")
            task = asyncio.create_task(calling.deliver("a"))
            while len(calling.wire.calls) < 2:
                await asyncio.sleep(0)
            await calling.deliver("b")
            await task
            return calling

        calling = asyncio.run(main())
        assert sorted(calling.wire.calls) == ["PUT things/a"] * 3 + ["PUT things/b"]
        if holds_up:
            assert calling.wire.times[2] - calling.wire.times[1] >= 0.09
        else:
            assert calling.wire.calls[2] == "PUT things/b"

    def test_no_more_requests_start_in_a_second_than_asked_for(self):
        calling = Calling(Script(), requests_per_second=20).run("a", "b", "c")
        assert calling.wire.times[2] - calling.wire.times[0] >= 0.1

    def test_once_it_is_over_nothing_is_sent_any_more(self):
        async def main():
            calling = Calling(lambda call: answer(401, {"status": 401, "error": "Unauthorized"}))
            await calling.caller.deliver(calling.job("a"))
            assert calling.halt.final
            await calling.caller.deliver(calling.job("b"))
            await calling.end()
            return calling

        calling = asyncio.run(main())
        assert calling.wire.calls == ["PUT things/a"]
        assert calling.outcomes == {}


class Gate:
    """Bad records fail with ``failure``; after the first time, not before others were delivered."""

    def __init__(self, failure, *bad, good=FINE):
        self._failure = failure
        self._good = good
        self._waits = set(bad)
        self.open = asyncio.Event()
        self.all_failed = asyncio.Event()
        self._bad = frozenset(bad)

    async def __call__(self, call):
        name = call.path.rsplit("/", 1)[1]
        if name not in self._bad:
            return self._good
        if name in self._waits:
            self._waits.discard(name)
            if not self._waits:
                self.all_failed.set()
        else:
            await self.open.wait()
        return self._failure


def through_a_gate(failure, bad, *, between=("good",), good=FINE, **plan):
    """Deliver bad records at the same time, and others after the bad ones failed for the first time."""

    async def main():
        gate = Gate(failure, *bad, good=good)
        calling = Calling(gate, **plan)
        tasks = [asyncio.create_task(calling.caller.deliver(job)) for job in calling.jobs(*bad)]
        await gate.all_failed.wait()
        await calling.deliver(*between)
        gate.open.set()
        await asyncio.gather(*tasks)
        return calling

    return asyncio.run(main())


class TestDoubts:
    def test_three_in_a_row_that_nothing_shows_to_be_at_fault_end_the_delivery(self):
        async def main(*records):
            calling = Calling(lambda call: DOWN)
            await calling.deliver(*records)
            return calling

        assert asyncio.run(main("a", "b")).halt is None
        calling = asyncio.run(main("a", "b", "c", "d"))
        assert calling.halt.why.startswith("gave up at record 3: 5 tries failed: ")
        assert not calling.halt.final
        assert calling.sent("d") == 0

    def test_those_that_fail_while_others_are_delivered_are_put_off_however_many(self):
        calling = through_a_gate(DOWN, ["a", "b", "c", "d"])
        assert calling.halt is None
        assert calling.outcomes == {"good": "accepted"}

    def test_a_refusal_shows_nothing_of_what_fails_behind_lagos_checks(self):
        calling = through_a_gate(DOWN, ["a", "b", "c"], good=REFUSED)
        assert calling.outcomes == {"good": "rejected"}
        assert calling.halt is not None

    def test_what_worked_before_they_began_to_fail_shows_nothing(self):
        async def main():
            calling = Calling(Script(a=[DOWN], b=[DOWN], c=[DOWN]))
            await calling.deliver("good", "a", "b")
            assert calling.halt is None
            await calling.deliver("c")
            return calling

        assert asyncio.run(main()).halt is not None

    def test_one_that_works_ends_the_row(self):
        async def main():
            calling = Calling(Script(a=[DOWN], b=[DOWN], c=[DOWN], d=[DOWN]))
            await calling.deliver("a", "b", "good", "c", "d")
            return calling

        assert asyncio.run(main()).halt is None

    def test_a_gateways_refusal_is_believed_sooner_than_what_lago_may_have_done(self):
        calling = through_a_gate(WALL, ["a"])
        assert calling.sent("a") == 3
        assert calling.outcomes["a"] == "rejected"
        calling = through_a_gate(WALL, ["a"], attempts=2)
        assert calling.sent("a") == 2
        assert calling.outcomes["a"] == "rejected"
        calling = through_a_gate(BROKEN, ["a"])
        assert calling.sent("a") == 5
        assert calling.outcomes["a"] == "rejected"

    def test_an_outage_is_no_records_fault_even_if_others_are_delivered(self):
        calling = through_a_gate(DOWN, ["a"])
        assert calling.sent("a") == 5
        assert "a" not in calling.outcomes

    def test_reads_that_work_say_nothing_of_writes(self):
        """As with a server that lost its queue."""

        def reply(call):
            return answer(200, {"subscriptions": []}) if call.reads else BROKEN

        calling = Calling(reply, SubscriptionPlan, require_customer=False, attempts=2)
        records = [{"external_id": f"s{n}", "external_customer_id": "c", "plan_code": "p"} for n in range(9)]
        calling.run(*records)
        assert calling.tally.rejected == 0
        assert "gave up at record 3" in calling.halt.why

    def test_answers_of_what_was_sent_once_that_are_lost_in_a_row_end_the_delivery(self):
        async def main():
            calling = Calling(Script(a=[DOWN], b=[DOWN], c=[DOWN], d=[DOWN], e=[DOWN]), idempotent=False)
            await calling.deliver("a", "b", "good", "c", "d")
            assert calling.halt is None
            await calling.deliver("e", "never")
            return calling

        calling = asyncio.run(main())
        assert calling.halt.why == "3 requests in a row without an answer: answer lost: Lago may have done it"
        assert not calling.halt.final
        assert Counter(calling.outcomes.values()) == {"rejected": 5, "accepted": 1}

    def test_refusals_in_a_row_end_nothing(self):
        records = [str(n) for n in range(9)]
        calling = Calling(Script(**{name: [REFUSED] for name in records}), idempotent=False).run(*records)
        assert calling.halt is None
        assert calling.tally.rejected == 9


class TestPutOff:
    def test_what_could_not_be_delivered_is_tried_once_more_when_all_others_are(self):
        calling = Calling(Script(a=[DOWN] * 5 + [FINE])).run("a", "b")
        assert calling.outcomes == {"a": "accepted", "b": "accepted"}
        assert [line["id"] for line in calling.report.lines] == ["b", "a"]

    def test_only_what_lago_may_still_be_at_is_waited_for(self, monkeypatch):
        slept = []

        async def sleep(seconds):
            slept.append(seconds)
            return True

        calling = Calling(Script(a=[DOWN] * 5 + [FINE]), cap=9.0)
        monkeypatch.setattr(calling.caller, "_sleep", sleep)
        calling.run("a")
        assert calling.outcomes == {"a": "accepted"}
        assert slept == [0.0] * 5

    def test_what_fails_then_too_ends_the_delivery_and_is_named(self):
        calling = Calling(Script(a=[DOWN])).run("a", "b")
        assert calling.halt.why.startswith("gave up at record 1: 5 tries failed: ")
        assert calling.outcomes == {"b": "accepted"}
        assert calling.sent("a") == 10

    def test_a_500_then_is_the_records_own_as_others_were_delivered(self):
        calling = Calling(Script(a=[BROKEN])).run("a", "b")
        assert calling.halt is None
        assert calling.outcomes == {"a": "rejected", "b": "accepted"}

    def test_however_many_are_at_fault_then_each_is_rejected_and_none_ends_the_delivery(self):
        bad = [f"bad{number}" for number in range(6)]
        records = [name for pair in zip("abcdef", bad, strict=True) for name in pair]
        calling = Calling(Script(**{name: [BROKEN] for name in bad})).run(*records, "g")
        assert calling.halt is None
        assert calling.outcomes == {**dict.fromkeys("abcdefg", "accepted"), **dict.fromkeys(bad, "rejected")}

    def test_a_500_then_is_nobodys_fault_as_long_as_nothing_was_written(self):
        calling = Calling(Script(a=[BROKEN])).run("a")
        assert calling.halt is not None
        assert calling.outcomes == {}

    def test_what_is_about_the_same_thing_waits_for_it_and_keeps_its_order(self):
        def reply(call):
            if call.path.endswith("/x"):
                texts.append(json.loads(call.body)["n"])
                return DOWN if len(texts) <= 5 else FINE
            return FINE

        texts = []
        first, second, third = ({"id": name, "n": n} for n, name in enumerate(("x", "x", "y")))
        calling = Calling(reply).run(first, second, third)
        assert texts == [0] * 6 + [1]
        assert [line["position"] for line in calling.report.lines] == [3, 1, 2]

    def test_so_many_may_wait_and_no_more(self, monkeypatch):
        monkeypatch.setattr(caller_module, "_MOST_PARKED", 2)

        async def main(records):
            calling = Calling(Script(x=[DOWN], y=[DOWN]))
            await calling.deliver(*records)
            return calling

        assert asyncio.run(main(["x", "x", "good"])).halt is None
        followed = asyncio.run(main(["x", "x", "x", "good"]))
        assert followed.halt.why == "gave up at record 3: 2 records wait for others that Lago could not take"
        assert followed.outcomes == {}
        assert "gave up at record 3: 5 tries failed" in asyncio.run(main(["x", "x", "y"])).halt.why

    def test_what_is_in_flight_is_in_the_order_of_the_source_for_each_thing(self):
        async def main():
            release, begun = asyncio.Event(), asyncio.Event()

            async def reply(call):
                begun.set()
                if json.loads(call.body)["n"] == 0:
                    await release.wait()
                return FINE

            calling = Calling(reply)
            records = [{"id": "x", "n": 0}, {"id": "x", "n": 1}, {"id": "x", "n": 2}]
            tasks = [asyncio.create_task(calling.caller.deliver(job)) for job in calling.jobs(*records)]
            await begun.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(calling.wire.calls) == 1
            release.set()
            await asyncio.gather(*tasks)
            assert calling.caller._latest == {}, "nothing is kept of things that are done"
            return calling

        assert [line["position"] for line in asyncio.run(main()).report.lines] == [1, 2, 3]


class TestSilence:
    """What is neither done nor refused: posts that come once, and what a provider throttles."""

    OVERRIDDEN = {"plan_overrides": {"amount_cents": 1}}

    @staticmethod
    def records(*names, **more):
        return [{"external_id": name, "external_customer_id": "c", "plan_code": "p", **more} for name in names]

    @staticmethod
    def lago(trouble, *troubled):
        """Lago without subscriptions, that meets trouble when it is to make those that are named."""

        def reply(call):
            if call.reads:
                return answer(200, {"subscriptions": []})
            wanted = json.loads(call.body)["subscription"]
            if wanted["external_id"] in troubled:
                return trouble
            return answer(200, {"subscription": {**wanted, "status": "active"}})

        return reply

    @pytest.mark.parametrize("trouble", [DOWN, Failure(Cause.READ_TIMEOUT, "no answer in time"), answer(200, {})])
    def test_a_post_without_an_answer_is_neither_refused_nor_done_to_the_very_end(self, trouble):
        records = [*self.records("bad", **self.OVERRIDDEN), *self.records("good")]
        calling = Calling(self.lago(trouble, "bad"), SubscriptionPlan, require_customer=False).run(*records)
        assert calling.outcomes == {"good": "accepted"}
        assert calling.halt.why.startswith("gave up at record 1: POST subscriptions: ")
        assert not calling.halt.final
        assert calling.wire.calls.count("POST subscriptions") == 1 + 1 + 5

    def test_lago_has_time_to_end_what_it_may_still_be_at(self):
        records = self.records("bad", **self.OVERRIDDEN)
        calling = Calling(self.lago(DOWN, "bad"), SubscriptionPlan, require_customer=False, attempts=2, cap=0.1).run(
            *records
        )
        posts = [moment for call, moment in zip(calling.wire.calls, calling.wire.times, strict=True) if "POST" in call]
        assert len(posts) == 3
        assert min(later - earlier for earlier, later in itertools.pairwise(posts)) >= 0.09

    def test_each_weighs_less_than_a_call_that_was_tried_to_the_end(self):
        async def main(count):
            names = [f"bad{n}" for n in range(count)]
            calling = Calling(self.lago(DOWN, *names), SubscriptionPlan, require_customer=False, attempts=2)
            await calling.deliver(*self.records(*names, **self.OVERRIDDEN))
            return calling

        assert asyncio.run(main(5)).halt is None
        assert "gave up at record 6: POST subscriptions" in asyncio.run(main(6)).halt.why

    @pytest.mark.parametrize("more", [{}, OVERRIDDEN], ids=["may be repeated", "comes once"])
    def test_a_throttle_that_lasts_is_the_records_own_once_others_are_delivered(self, more):
        records = [*self.records("bad", **more), *self.records("good")]
        calling = Calling(self.lago(THROTTLED, "bad"), SubscriptionPlan, require_customer=False, attempts=4)
        calling.run(*records)
        assert calling.halt is None
        assert calling.outcomes == {"bad": "rejected", "good": "accepted"}
        assert "a payment provider throttles Lago" in calling.report.details[0]

    @pytest.mark.parametrize("more", [{}, OVERRIDDEN], ids=["may be repeated", "comes once"])
    def test_a_throttle_that_lasts_rejects_nothing_as_long_as_nothing_was_written(self, more):
        calling = Calling(self.lago(THROTTLED, "bad"), SubscriptionPlan, require_customer=False, attempts=4)
        calling.run(*self.records("bad", **more))
        assert calling.outcomes == {}
        assert calling.halt.why.startswith("gave up at record 1: ")

    def test_each_throttle_of_a_post_that_comes_once_is_waited_for_longer(self):
        calling = Calling(self.lago(THROTTLED, "bad"), SubscriptionPlan, require_customer=False)
        asyncio.run(calling.deliver(*self.records("bad", **self.OVERRIDDEN)))
        assert calling.policy.asked == [1, 2, 3]


class TestAnswers:
    def test_an_answer_is_handed_on_with_its_records_whole_or_filtered(self):
        whole, filtered = Answers(), Answers()
        Calling(Script(), responses=whole).run("a")
        (response,) = whole.taken
        assert (response.records, response.method, response.path) == ([(1, "a")], "PUT", "things/a")
        assert (response.status, response.body) == (200, FINE.body)
        Calling(Script(), responses=filtered, filters=lambda call, answer: call.path.encode()).run("a")
        assert filtered.taken[0].body == b"things/a"

    def test_a_refusal_is_handed_on_and_what_never_came_is_not(self):
        taken = Answers()
        Calling(Script(a=[REFUSED], b=[Failure(Cause.BROKEN, "reset")]), idempotent=False, responses=taken).run(
            "a", "b"
        )
        assert [(response.path, response.status) for response in taken.taken] == [("things/a", 422)]

    def test_a_filter_that_fails_loses_no_answer(self, caplog):
        taken = Answers()
        Calling(Script(), responses=taken, filters=lambda call, answer: 1 / 0).run("a")
        assert taken.taken[0].body == FINE.body
        assert "record 1: response_filter failed (ZeroDivisionError: division by zero)" in caplog.text

    def test_without_a_filter_nothing_is_warned_of(self, caplog):
        Calling(Script(), responses=Answers()).run("a")
        assert "response_filter" not in caplog.text

    def test_lagos_request_id_is_in_the_receipt(self):
        calling = Calling(Script(a=[answer(200, {}, **{"x-request-id": "r1"})], b=[Failure(Cause.BROKEN, "reset")]))
        calling.run("a")
        assert [line["request_id"] for line in calling.report.lines] == ["r1"]

    def test_an_answer_that_nobody_understands_costs_its_record_alone(self):
        def odd():
            yield calling.job("a").call
            raise LookupError("x" * 500)

        calling = Calling(Script())
        asyncio.run(calling.caller.deliver(replace(calling.job("a"), talk=odd)))
        assert calling.report.lines[0]["reason"] == "Lago's answer is not understood"
        assert calling.report.lines[0]["code"] == "200"
        (detail,) = calling.report.details
        assert detail.startswith("HTTP 200; please report this: LookupError: xxx")
        assert len(detail) == 300
