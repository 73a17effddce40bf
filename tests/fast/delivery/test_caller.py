"""Outages, poison, stops, limits and pace of deliveries of single calls, over real HTTP."""

import collections
import itertools
import json
import random
import socket
import time

import pytest
from support.calls import upsert
from support.deliveries import connection
from support.scripted import CUT, Reply, ScriptedServer, as_json

from airflow_provider_lago.api.retry import RetryPolicy

ABSENT = as_json(404, {"status": 404, "error": "Not Found", "code": "customer_not_found"})
BROKEN = as_json(500, {"status": 500, "error": "Internal Server Error"})


class Lago:
    """Customers by id; ``trouble(request, id)`` may give another reply before Lago sees the request."""

    def __init__(self, trouble=lambda request, name: None):
        self.held = {}
        self.trouble = trouble
        self.times = []

    def __call__(self, request):
        self.times.append(time.monotonic())
        posted = json.loads(request.body)["customer"] if request.method == "POST" else None
        name = posted["external_id"] if posted else request.path.rsplit("/", 1)[1]
        trouble = self.trouble(request, name)
        if trouble is not None:
            return trouble
        if posted:
            self.held[name] = {**self.held.get(name, {}), **posted}
        return as_json(200, {"customer": self.held[name]}) if name in self.held else ABSENT


def records(count):
    return [{"external_id": f"c{n}", "name": str(n)} for n in range(count)]


def post(request):
    return request.method == "POST"


class TestOutage:
    @pytest.mark.parametrize(
        "failure", [Reply(502), Reply(503), Reply(504), CUT, BROKEN, Reply(404, b"page not found")]
    )
    def test_a_short_one_costs_no_record(self, tmp_path, failure):
        served = itertools.count()
        lago = Lago(lambda request, name: failure if 20 <= next(served) < 32 else None)
        with ScriptedServer(lago) as server:
            run = upsert(server, records(40), tmp_path)
        assert run.counts == (40, 40, 0, 0)
        assert len(lago.held) == 40

    @pytest.mark.parametrize("failure", [Reply(502), Reply(503), CUT, BROKEN], ids=["502", "503", "reset", "500"])
    @pytest.mark.parametrize("writes_only", [False, True])
    def test_a_long_one_stops_the_delivery_soon_and_rejects_nothing(self, tmp_path, failure, writes_only):
        served = itertools.count()

        def trouble(request, name):
            return failure if next(served) >= 40 and (post(request) or not writes_only) else None

        with ScriptedServer(Lago(trouble)) as server:
            run = upsert(server, records(5_000), tmp_path)
        assert run.tally.rejected == 0
        assert not run.halt.final
        assert "gave up at record" in run.halt.why
        assert len(server.requests) < 120

    def test_a_server_that_is_down_ends_the_try_at_once(self, tmp_path):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        run = upsert(None, records(100), tmp_path, settings=connection(url), concurrency=1)
        assert not run.halt.final
        assert run.tally.requests == 15

    def test_a_read_timeout_rejects_nothing(self, tmp_path):
        slow = iter(range(3))

        def trouble(request, name):
            return Reply(200, b"{}", delay=1.0) if next(slow, None) is not None else None

        with ScriptedServer(Lago(trouble)) as server:
            run = upsert(server, records(5), tmp_path, read_timeout=0.2)
        assert run.counts == (5, 5, 0, 0)

    @pytest.mark.parametrize("failure", [Reply(502), CUT])
    def test_a_record_that_makes_the_server_fall_over_is_named_after_all_others_are_delivered(self, tmp_path, failure):
        lago = Lago(lambda request, name: failure if post(request) and name == "c7" else None)
        with ScriptedServer(lago) as server:
            run = upsert(server, records(100), tmp_path)
        assert run.counts == (100, 99, 0, 0)
        assert "record 8" in run.halt.why
        assert not run.halt.final

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b'{"customer": []}', b'{"status": "ok"}', b'{"customer": {"ext', b"null"]
    )
    def test_a_success_that_says_nothing_is_an_outage_and_no_answer(self, tmp_path, body):
        reply = Reply(200, body, {"Content-Type": "application/json"})
        with ScriptedServer(lambda request: reply) as server:
            run = upsert(server, records(50), tmp_path)
        assert run.counts[1:] == (0, 0, 0)
        assert not run.halt.final

    def test_a_refusal_that_is_cut_on_its_way_is_no_refusal(self, tmp_path):
        cut = Reply(404, b'{"status":404,"err', {"Content-Type": "application/json; charset=utf-8"})
        first = itertools.count()
        with ScriptedServer(Lago(lambda request, name: cut if next(first) < 2 else None)) as server:
            run = upsert(server, records(5), tmp_path)
        assert run.counts == (5, 5, 0, 0)


class TestPoison:
    @pytest.mark.parametrize("count", [2, 10, 200])
    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_a_record_that_lago_cannot_take_is_rejected_and_the_others_delivered(self, tmp_path, count, concurrency):
        lago = Lago(lambda request, name: BROKEN if post(request) and name == "c1" else None)
        with ScriptedServer(lago) as server:
            run = upsert(server, records(count), tmp_path, concurrency=concurrency)
        assert run.halt is None
        assert run.counts == (count, count - 1, 1, 0)
        assert run.rejected[0]["record"]["external_id"] == "c1"

    @pytest.mark.parametrize("status", [400, 403, 413, 422])
    def test_what_a_firewall_refuses_of_one_record_is_rejected(self, tmp_path, status):
        lago = Lago(lambda request, name: Reply(status, b"<html>") if post(request) and name == "c7" else None)
        with ScriptedServer(lago) as server:
            run = upsert(server, records(50), tmp_path)
        assert run.counts == (50, 49, 1, 0)

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_what_a_gateway_refuses_of_everybody_is_blamed_on_nobody(self, tmp_path, status):
        gateway = as_json(status, {"message": "missing tenant header"})
        with ScriptedServer(Lago(lambda request, name: gateway if post(request) else None)) as server:
            run = upsert(server, records(500), tmp_path)
        assert run.tally.rejected == 0
        assert run.halt is not None
        assert len(server.requests) < 100

    def test_creation_that_fails_now_and_then_under_load_costs_no_record(self, tmp_path):
        rng = random.Random(3)
        lago = Lago(lambda request, name: BROKEN if post(request) and rng.random() < 0.3 else None)
        with ScriptedServer(lago) as server:
            run = upsert(
                server, records(300), tmp_path, concurrency=10, policy=RetryPolicy(attempts=12, base=0.005, cap=0.01)
            )
        assert run.counts == (300, 300, 0, 0)


class TestStopping:
    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            (as_json(401, {"status": 401, "error": "Unauthorized"}), "password"),
            (
                as_json(403, {"status": 403, "error": "Forbidden", "code": "write_action_not_allowed_for_customer"}),
                "customer:write",
            ),
            (as_json(404, {"status": 404, "error": "Not Found", "code": "resource_not_found"}), "host"),
        ],
    )
    def test_what_somebody_has_to_change_first_stops_it_for_good(self, tmp_path, reply, says):
        lago = Lago(lambda request, name: reply if post(request) and len(lago.held) >= 20 else None)
        with ScriptedServer(lago) as server:
            run = upsert(server, records(500), tmp_path)
        assert run.halt.final
        assert says in run.halt.why
        assert run.tally.rejected == 0
        assert run.tally.accepted == len(lago.held) == 20


class TestPace:
    def test_after_a_429_everybody_waits_for_as_long_as_asked(self, tmp_path):
        refusals = iter([as_json(429, {}, **{"x-ratelimit-reset": "1"})])
        lago = Lago(lambda request, name: next(refusals, None) if len(lago.held) >= 10 else None)
        with ScriptedServer(lago) as server:
            run = upsert(server, records(100), tmp_path)
        assert run.counts == (100, 100, 0, 0)
        gaps = [later - earlier for earlier, later in itertools.pairwise(lago.times)]
        assert max(gaps) > 0.9
        assert sum(gap > 0.5 for gap in gaps) == 1

    def test_so_many_requests_are_in_flight_as_asked_for(self, tmp_path):
        lago = Lago()

        def slow(request):
            return Reply(**{**vars(lago(request)), "delay": 0.02})

        with ScriptedServer(slow) as server:
            upsert(server, records(100), tmp_path, concurrency=7)
        assert server.most_at_once == 7

    @pytest.mark.parametrize("rate", [20, 100])
    def test_no_second_sees_more_requests_than_asked_for(self, tmp_path, rate):
        lago = Lago()
        with ScriptedServer(lago) as server:
            run = upsert(server, records(rate), tmp_path, concurrency=10, requests_per_second=rate)
        assert run.tally.requests == 2 * rate
        assert busiest_second(lago.times) <= rate + 10  # those in flight may arrive together
        assert lago.times[-1] - lago.times[0] < 4

    def test_the_bound_holds_also_after_the_process_was_held_up(self, tmp_path):
        stalled = []

        def trouble(request, name):
            if len(lago.times) == 50:
                stalled.append(time.sleep(0.15))

        lago = Lago(trouble)
        with ScriptedServer(lago) as server:
            upsert(server, records(100), tmp_path, concurrency=10, requests_per_second=100)
        assert stalled
        assert busiest_second(lago.times) <= 100 + 10  # those in flight arrive together

    def test_records_of_one_customer_are_never_in_flight_together(self, tmp_path):
        now, most = collections.Counter(), collections.Counter()
        lago = Lago()

        def answer(request):
            name = (
                json.loads(request.body)["customer"]["external_id"] if post(request) else request.path.rsplit("/", 1)[1]
            )
            now[name] += 1
            most[name] = max(most[name], now[name])
            now[name] -= 1
            return Reply(**{**vars(lago(request)), "delay": 0.002})

        with ScriptedServer(answer) as server:
            run = upsert(
                server, [{"external_id": f"c{n % 2}", "name": str(n)} for n in range(60)], tmp_path, concurrency=8
            )
        assert run.counts == (60, 60, 0, 0)
        assert server.most_at_once <= 2
        assert [lago.held[name]["name"] for name in ("c0", "c1")] == ["58", "59"]


def busiest_second(times):
    first = most = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_records_that_wait_for_one_that_lago_cannot_take_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.delivery.calls.caller._MOST_PARKED", 10)
    lago = Lago(lambda request, name: Reply(502) if post(request) and name == "stuck" else None)
    stuck = [{"external_id": "stuck", "name": str(n)} for n in range(50)]
    with ScriptedServer(lago) as server:
        run = upsert(server, [*records(30), *stuck], tmp_path)
    assert run.counts[:2] == (run.counts[0], 30)
    assert "10 records wait for others" in run.halt.why
    assert not run.halt.final


def test_an_id_with_a_slash_behind_a_proxy_that_decodes_it_costs_only_itself(tmp_path):
    """Lago then sees another path and says that there is no such route, which else means a wrong address."""

    def behind_a_proxy(request):
        if "%2F" in request.path.partition("?")[0]:
            return as_json(404, {"status": 404, "error": "Not Found", "code": "resource_not_found"})
        if request.path.startswith("/api/v1/customers?"):
            return as_json(200, {"customers": []})
        return lago(request)

    lago = Lago()
    with ScriptedServer(behind_a_proxy) as server:
        run = upsert(server, [*records(5), {"external_id": "x/y", "name": "slash"}, *records(3)], tmp_path)
    assert run.halt is None
    assert run.counts == (9, 9, 0, 0)
    assert lago.held["x/y"]["name"] == "slash"
