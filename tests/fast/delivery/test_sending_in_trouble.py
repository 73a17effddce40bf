"""Poison, outages, stops and rate limits, over real HTTP."""

import itertools
import json
import random
import socket
import ssl
import time

import pytest
import trustme
from support.deliveries import connection, usage
from support.lago import DUPLICATE, Store, ids
from support.scripted import CUT, Reply, ScriptedServer, as_json, echo, refused

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.report import EvidenceError
from airflow_provider_lago.sources.rows import BEGINNING, BrokenOff, Row, SourceError
from airflow_provider_lago.sources.values import ValueSource


class TestPoison:
    @pytest.mark.parametrize("status", [400, 413, 500])
    def test_one_record_that_breaks_its_batch_does_not_cost_the_other_99(self, deliver, status):
        def answer(request):
            return Reply(status, b"<html>") if "t37" in ids(request) else echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(300))
        assert run.counts == (300, 299, 0, 1, 0)
        assert f"HTTP {status}" in next(iter(run.tally.reasons))
        assert len(server.requests) < 40

    def test_two_poison_records_beside_each_other_are_both_found(self, deliver):
        def answer(request):
            return Reply(500) if {"t10", "t11"} & set(ids(request)) else echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(100))
        assert run.counts == (100, 98, 0, 2, 0)

    def test_a_busy_server_that_fails_now_and_then_costs_no_record(self, deliver):
        rng, store = random.Random(1), Store()

        def answer(request):
            return Reply(500) if rng.random() < 0.3 else store.take(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(10_000), policy=RetryPolicy(attempts=8, base=0.001, cap=0.002))
        assert run.counts == (10_000, 10_000, 0, 0, 0)

    def test_the_worse_a_server_is_the_more_it_takes_to_blame_a_record(self, deliver):
        rng, store = random.Random(1), Store()

        def answer(request):
            return Reply(500) if rng.random() < 0.7 else store.take(request)

        with ScriptedServer(answer) as server:
            policy = RetryPolicy(attempts=8, base=0.001, cap=0.002)
            run = deliver(server, usage(10_000), policy=policy, concurrency=1)  # the same failures every time
        assert run.counts == (10_000, 10_000, 0, 0, 0)

    def test_a_batch_limit_lower_than_lagos_own_is_found_by_halves(self, deliver):
        def answer(request):
            return echo(request) if len(request.events) <= 25 else refused({"events": ["too_many_events"]})

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(200))
        assert run.counts == (200, 200, 0, 0, 0)

    def test_a_server_that_fails_everything_rejects_nothing(self, deliver):
        with ScriptedServer(lambda request: Reply(500)) as server:
            run = deliver(server, usage(300), concurrency=2)
        assert run.tally.rejected == 0
        assert run.tally.accepted == 0
        assert not run.halt.final
        assert "gave up" in run.halt.why

    @pytest.mark.parametrize("failure", [Reply(500), Reply(502), CUT], ids=["500", "502", "reset"])
    def test_an_outage_in_the_middle_rejects_nothing(self, deliver, failure):
        store, served = Store(), []

        def answer(request):
            served.append(1)
            return store.take(request) if len(served) <= 20 else failure

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(20_000), concurrency=8)
        assert run.tally.rejected == 0
        assert run.tally.accepted == len(store.held)
        assert not run.halt.final

    @pytest.mark.parametrize("failure", [Reply(502, b"<html>"), Reply(524), CUT], ids=["502", "524", "reset"])
    @pytest.mark.parametrize("place", [0, 37, 99])
    def test_a_record_that_makes_the_server_fall_over_is_named_after_all_others_are_delivered(
        self, deliver, failure, place
    ):
        def answer(request):
            return failure if f"t{place}" in ids(request) else echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(20_000))
        assert run.counts == (20_000, 19_999, 0, 0, 0)
        assert not run.halt.final
        assert f"(record {place + 1})" in run.halt.why

    def test_an_event_that_is_locked_for_a_while_is_delivered_in_the_end(self, deliver):
        served = []

        def answer(request):
            served.append(1)
            locked = "t7" in ids(request) and len(served) < 230
            return refused(None, "lock_acquisition_failed") if locked else echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(20_000))
        assert run.counts == (20_000, 20_000, 0, 0, 0)

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(422, b"<html>"),
            as_json(400, {"message": "missing tenant header"}),
            Reply(413, b"<html>"),
            Reply(403, b"<html>"),
            as_json(400, {"status": 400, "error": "BadRequest: param is missing or the value is empty: event"}),
        ],
        ids=["422 page", "gateway's 400", "413", "403 page", "body lost"],
    )
    @pytest.mark.parametrize("batch_size", [1, 100])
    def test_what_a_gateway_refuses_for_everybody_is_not_blamed_on_the_records(self, deliver, reply, batch_size):
        with ScriptedServer(lambda request: reply) as server:
            run = deliver(server, usage(500), batch_size=batch_size)
        assert run.halt is not None
        assert run.tally.rejected <= 25

    def test_an_outage_of_500s_is_noticed_after_few_requests(self, deliver):
        with ScriptedServer(lambda request: Reply(500)) as server:
            run = deliver(server, usage(5_000), concurrency=4)
        assert run.halt is not None
        assert len(server.requests) < 80

    def test_a_firewall_that_refuses_everything_rejects_nothing(self, deliver):
        with ScriptedServer(lambda request: Reply(400, b"<html>blocked</html>")) as server:
            run = deliver(server, usage(4), concurrency=1)
        assert run.tally.rejected == 0
        assert run.halt is not None

    def test_what_a_failing_server_is_asked_before_the_delivery_ends(self, deliver):
        sizes = []

        def answer(request):
            sizes.append(len(request.events))
            return Reply(500)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(100), concurrency=1)
        # The whole request, then halves by turns, until two single events have failed for good.
        assert sizes[:5] == [100] * 5
        assert len(sizes) == 20
        assert "(record 1)" in run.halt.why
        assert run.tally.settled == 0
        assert not run.halt.final

    def test_lago_that_refuses_everything_ends_the_delivery_after_a_few_records(self, deliver):
        with ScriptedServer(lambda request: as_json(400, {"status": 400, "error": "Bad Request"})) as server:
            run = deliver(server, usage(100), concurrency=1)
        assert run.halt.final
        assert run.halt.why.startswith("everything is refused: ")
        assert run.counts == (100, 0, 0, 20, 0)

    def test_a_record_that_makes_the_server_fall_over_does_so_once_more_at_the_end(self, deliver):
        with ScriptedServer(lambda request: Reply(502) if "t37" in ids(request) else echo(request)) as server:
            run = deliver(server, usage(2_000))
        assert run.counts == (2_000, 1_999, 0, 0, 0)
        assert not run.halt.final
        assert "(record 38)" in run.halt.why
        assert [ids(request) for request in server.requests[-5:]] == [["t37"]] * 5

    def test_an_event_whose_answers_were_all_lost_until_the_last_is_our_own(self, deliver):
        store, alone = Store(), []

        def answer(request):
            if "t37" not in ids(request):
                return store.take(request)
            if len(request.events) > 1:
                return Reply(502)
            alone.append(1)
            taken = store.take(request)
            return Reply(502) if len(alone) <= 5 else taken

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(2_000))
        assert run.counts == (2_000, 2_000, 0, 0, 0)
        assert len(alone) == 6


class TestLookingUp:
    """What ``audit`` asks Lago, when it does not answer."""

    @staticmethod
    def known(lookup):
        def answer(request):
            if request.method == "GET":
                return lookup()
            return refused({str(n): DUPLICATE for n in range(len(request.events))})

        return answer

    def test_lookups_are_tried_as_often_as_the_policy_says_and_then_left_to_airflow(self, deliver):
        with ScriptedServer(self.known(lambda: Reply(503))) as server:
            run = deliver(server, usage(3), audit=True)
        assert [request.method for request in server.requests] == ["POST"] + ["GET"] * 5
        assert "gave up after 5 tries to look up what Lago holds" in run.halt.why
        assert not run.halt.final
        assert run.tally.requests == 6
        assert run.counts == (3, 0, 0, 0, 0)

    def test_a_key_that_may_not_read_ends_the_delivery(self, deliver):
        with ScriptedServer(self.known(lambda: as_json(401, {"status": 401, "error": "Unauthorized"}))) as server:
            run = deliver(server, usage(3), audit=True)
        assert [request.method for request in server.requests] == ["POST", "GET"]
        assert run.halt.final
        assert run.tally.settled == 0

    def test_nothing_but_429_to_lookups_ends_the_delivery_too(self, deliver, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.delivery.courier._PATIENCE", 0.05)
        with ScriptedServer(self.known(lambda: Reply(429))) as server:
            run = deliver(server, usage(3), audit=True)
        assert "too many requests" in run.halt.why
        assert not run.halt.final
        assert run.tally.settled == 0

    def test_a_429_among_good_lookups_is_no_reason_to_end(self, deliver, lago_sandbox, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.delivery.courier._PATIENCE", 0.05)
        lago_sandbox.post("/events/batch", {"events": usage(20)})
        lago_sandbox.fault("rate_limit", method="GET", every=2, reset=0)
        settings = connection(lago_sandbox.url, api_key=lago_sandbox.api_key)
        run = deliver(lago_sandbox, usage(20), audit=True, settings=settings)
        assert run.counts == (20, 0, 20, 0, 0)


class TestStopping:
    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            (as_json(401, {"status": 401, "error": "Unauthorized"}), "password"),
            (
                as_json(403, {"status": 403, "error": "Forbidden", "code": "write_action_not_allowed_for_event"}),
                "event:write",
            ),
            (as_json(404, {"status": 404, "error": "Not Found", "code": "resource_not_found"}), "host"),
        ],
    )
    def test_a_key_revoked_in_mid_run_stops_and_keeps(self, deliver, reply, says):
        served = []

        def answer(request):
            served.append(1)
            return echo(request) if len(served) <= 5 else reply

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(100_000), concurrency=4)
        assert run.tally.accepted == 500
        assert run.tally.rejected == 0
        assert run.halt.final
        assert says in run.halt.why
        assert len(server.requests) <= 5 + 4
        summary = json.loads((run.folder / "summary.json").read_text())
        assert summary["unsettled"] == run.tally.read - 500 > 0
        assert says in summary["halted"]

    def test_redirects_are_not_followed_and_the_key_goes_nowhere_else(self, deliver):
        with ScriptedServer(echo) as other:
            moved = Reply(307, b"", {"Location": f"{other.url}/api/v1/events/batch"})
            with ScriptedServer(lambda request: moved) as server:
                run = deliver(server, usage(5))
        assert run.halt.final
        assert other.url in run.halt.why
        assert other.requests == []

    def test_a_server_that_is_down_ends_the_try_and_loses_nothing(self, deliver):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        run = deliver(None, usage(5), settings=connection(url))
        assert not run.halt.final
        assert "refused the connection" in run.halt.why
        assert run.tally.requests == 5

    def test_a_server_that_comes_back_is_delivered_to(self, deliver):
        failures = iter([Reply(503), CUT, Reply(504)])

        def answer(request):
            return next(failures, None) or echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(50), concurrency=1)
        assert run.counts == (50, 50, 0, 0, 0)
        assert len(server.requests) == 4

    def test_an_untrusted_certificate_stops_at_once_and_names_the_fix(self, deliver):
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        with ScriptedServer(echo, tls=context) as server:
            run = deliver(server, usage(5))
        assert run.halt.final
        assert "ca_bundle" in run.halt.why
        assert run.tally.requests <= 4

    def test_a_certificate_of_the_users_own_ca_is_trusted_when_given(self, deliver, tmp_path):
        authority = trustme.CA()
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(bundle)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        with ScriptedServer(echo, tls=context) as server:
            run = deliver(server, usage(5), settings=connection(server.url, verify=str(bundle)))
        assert run.counts == (5, 5, 0, 0, 0)

    def test_a_source_that_breaks_settles_what_was_read_before_it_did(self, deliver):
        class Breaking:
            is_foreign = False

            def rows(self, start):
                for n, record in enumerate(usage(250), 1):
                    yield Row(n, "records", n, record)
                raise SourceError("the rest cannot be read")

            def share_done(self):
                return None

        with ScriptedServer(echo) as server:
            run = deliver(server, Breaking())
        assert run.halt.final
        assert run.halt.why == "the rest cannot be read"
        assert run.counts == (250, 250, 0, 0, 0)


class TestPace:
    def test_after_a_429_the_whole_delivery_is_quiet_for_as_long_as_asked(self, deliver):
        times, refusals = [], iter([Reply(429, b"slow", {"x-ratelimit-reset": "1"})])

        def answer(request):
            times.append(time.monotonic())
            return next(refusals, None) or echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(2_000), concurrency=4)
        assert run.counts == (2_000, 2_000, 0, 0, 0)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert max(gaps) >= 0.95
        assert sum(gap > 0.5 for gap in gaps) == 1

    def test_requests_per_second_is_an_upper_bound(self, deliver):
        with ScriptedServer(echo) as server:
            started = time.monotonic()
            deliver(server, usage(1_000), concurrency=8, requests_per_second=20)
            seconds = time.monotonic() - started
        assert len(server.requests) == 10
        assert seconds >= 9 / 20

    def test_requests_are_in_flight_together_up_to_the_concurrency(self, deliver):
        with ScriptedServer(lambda request: Reply(200, b"", delay=0.05)) as server:
            deliver(server, usage(5_000), concurrency=10)
        assert server.most_at_once == 10

    def test_nothing_but_429_for_long_ends_the_delivery_to_be_retried_by_airflow(self, deliver, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.delivery.courier._PATIENCE", 0.1)
        with ScriptedServer(lambda request: Reply(429)) as server:
            run = deliver(server, usage(500))
        assert "too many requests" in run.halt.why
        assert not run.halt.final
        assert run.counts[1:] == (0, 0, 0, 0)

    def test_a_429_among_good_answers_is_no_reason_to_end(self, deliver, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.delivery.courier._PATIENCE", 0.1)
        turns = itertools.count()
        with ScriptedServer(lambda request: echo(request) if next(turns) % 2 else Reply(429)) as server:
            run = deliver(server, usage(3_000))
        assert run.counts == (3_000, 3_000, 0, 0, 0)

    def test_a_halt_does_not_wait_for_the_pace(self, deliver):
        replies = iter([None, Reply(429, b"", {"Retry-After": "60"}), Reply(401, b"", delay=0.2)])

        with ScriptedServer(lambda request: next(replies) or echo(request)) as server:
            started = time.monotonic()
            run = deliver(server, usage(500), concurrency=2)
        assert run.halt.final
        assert time.monotonic() - started < 10

    def test_a_halt_does_not_wait_for_those_that_wait_to_try_again(self, deliver):
        """Of seven waits of up to two minutes hardly all are over at once."""
        replies = iter([None, *[Reply(503)] * 7, Reply(401, delay=0.5)])

        with ScriptedServer(lambda request: next(replies, None) or echo(request)) as server:
            started = time.monotonic()
            run = deliver(server, usage(2_000), concurrency=8, policy=RetryPolicy(attempts=9, base=120.0, cap=120.0))
        assert run.halt.final
        assert time.monotonic() - started < 20

    def test_a_window_that_is_said_to_be_over_is_not_believed_at_once(self, deliver):
        refusals = iter([Reply(429, b"", {"x-ratelimit-reset": "0"})] * 20)

        def answer(request):
            return next(refusals, None) or echo(request)

        with ScriptedServer(answer) as server:
            started = time.monotonic()
            run = deliver(server, usage(500), concurrency=1, policy=RetryPolicy(attempts=5, base=0.2, cap=1))
        assert run.counts == (500, 500, 0, 0, 0)
        assert time.monotonic() - started > 0.5

    @pytest.mark.parametrize("status", [202, 204, 409, 423, 520, 522, 524, 529, 599])
    def test_a_passing_trouble_of_a_gateway_is_tried_again(self, deliver, status):
        answers = iter([Reply(status)])
        with ScriptedServer(lambda request: next(answers, None) or echo(request)) as server:
            run = deliver(server, usage(50))
        assert run.counts == (50, 50, 0, 0, 0)


class Full:
    """Takes no answers: the disk is full."""

    async def put(self, response):
        raise OSError(28, "No space left on device")

    async def close(self, patience):
        pass


def test_answers_that_cannot_be_written_end_the_delivery_to_be_tried_again(deliver):
    with ScriptedServer(echo) as server:
        run = deliver(server, usage(300), responses=Full(), concurrency=1)
    assert run.result.halt.why == "Lago's answers cannot be written: No space left on device"
    assert not run.result.halt.final
    assert run.result.tally.accepted == 100, "what Lago took counts all the same"


@pytest.mark.parametrize(
    ("error", "why", "final"),
    [
        (EvidenceError("the disk is full"), "the disk is full", False),
        (BrokenOff("the store hung up"), "the store hung up", False),
        (SourceError("no such table"), "no such table", True),
        (OSError(5, "Input/output error"), "reading failed: [Errno 5] Input/output error", False),
    ],
)
def test_a_source_that_breaks_delivers_what_was_read_and_says_whether_another_try_is_worth_it(
    deliver, error, why, final
):
    class Breaking(ValueSource):
        is_foreign = False

        def rows(self, start=BEGINNING):
            yield from super().rows(start)
            raise error

    with ScriptedServer(echo) as server:
        run = deliver(server, Breaking(usage(150)))
    assert (run.result.halt.why, run.result.halt.final) == (why, final)
    assert run.result.tally.accepted == 150
