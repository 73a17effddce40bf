"""The engine over real HTTP, against a server that answers as each test says."""

import itertools
import json
import random
import re
import socket
import ssl
import time
import types
from collections import Counter
from datetime import datetime, tzinfo
from decimal import Decimal

import pendulum
import pytest
import trustme
from support.scripted import CUT, Reply, ScriptedServer, as_json, echo, refused

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.report import FolderReport, ReportInUseError
from airflow_provider_lago.delivery.shaping import Shaping
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.rows import Row, SourceError
from tests.fast.delivery.conftest import connection, usage

DUPLICATE = {"transaction_id": ["value_already_exist"]}
INVALID = {"timestamp": ["invalid_format"]}


def ids(request):
    return [event["transaction_id"] for event in request.events]


class Store:
    """Keeps events as Lago's Postgres store does: a batch whole or not at all, each id once."""

    def __init__(self):
        self.held = Counter()

    def take(self, request):
        known = {str(n): DUPLICATE for n, event in enumerate(ids(request)) if event in self.held}
        if known:
            return refused(known if "events" in json.loads(request.body) else DUPLICATE)
        self.held.update(ids(request))
        return echo(request)


class TestSettling:
    def test_one_bad_event_in_each_of_1000_batches_costs_one_more_request_and_itself(self, deliver):
        def answer(request):
            bad = {str(n): INVALID for n, event in enumerate(ids(request)) if event.endswith("42")}
            return refused(bad) if bad else echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(100_000), concurrency=16)
        assert run.counts == (100_000, 99_000, 0, 1_000, 0)
        assert len(server.requests) == run.tally.requests == 2_000

    def test_events_that_lago_has_are_duplicates_and_the_rest_goes_in_one_more_request(self, deliver):
        store = Store()
        store.held.update(f"t{n}" for n in range(0, 100, 3))
        with ScriptedServer(store.take) as server:
            run = deliver(server, usage(100))
        assert run.counts == (100, 66, 34, 0, 0)
        assert len(server.requests) == 2
        assert set(store.held.values()) == {1}

    def test_bad_events_and_duplicates_are_told_apart_although_lago_names_them_in_two_answers(self, deliver):
        store = Store()
        store.held.update(["t1", "t2"])

        def answer(request):
            bad = {str(n): INVALID for n, event in enumerate(ids(request)) if event == "t7"}
            return refused(bad) if bad else store.take(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(10))
        assert run.counts == (10, 7, 2, 1, 0)

    def test_a_rejected_event_is_reported_with_record_place_payload_and_reason(self, deliver):
        def answer(request):
            return refused({"0": INVALID}) if "t0" in ids(request) else echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(2))
        line = json.loads((run.folder / "rejected.jsonl").read_text())
        assert line["position"] == 1
        assert line["record"] == usage(1)[0]
        assert line["event"]["transaction_id"] == "t0"
        assert line["reason"] == "timestamp: invalid_format"
        assert line["code"] == "validation_errors"
        assert line["run"] == {"run_id": "r"}

    def test_single_events_go_to_their_own_endpoint_with_the_same_outcomes(self, deliver):
        store = Store()
        store.held["t1"] += 1

        def answer(request):
            return refused(INVALID) if ids(request) == ["t2"] else store.take(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(4), batch_size=1)
        assert run.counts == (4, 2, 1, 1, 0)
        assert {request.path for request in server.requests} == {"/api/v1/events"}

    def test_single_events_use_the_ingest_service_where_there_is_one(self, deliver):
        with ScriptedServer(echo) as ingest, ScriptedServer(echo) as api:
            settings = connection(api.url, ingest_url=f"{ingest.url}/api/v1")
            deliver(api, usage(3), batch_size=1, settings=settings)
            deliver(api, usage(3), batch_size=100, settings=settings)
        assert len(ingest.requests) == 3
        assert [request.path for request in api.requests] == ["/api/v1/events/batch"]

    def test_twins_share_the_outcome_of_the_event_that_was_sent(self, deliver):
        def answer(request):
            bad = {str(n): INVALID for n, event in enumerate(ids(request)) if event == "t1"}
            return refused(bad) if bad else echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(2) + usage(2))
        assert run.counts == (4, 1, 1, 2, 0)

    def test_other_content_under_one_id_is_rejected_as_a_conflict(self, deliver):
        with ScriptedServer(echo) as server:
            run = deliver(server, usage(2) + usage(1, properties={"n": 99}))
        assert run.counts == (3, 2, 0, 1, 0)
        line = json.loads((run.folder / "rejected.jsonl").read_text())
        assert line["reason"] == "transaction_id: conflict"
        assert line["detail"].startswith("record 1 has the same")


class TestLostAnswers:
    def test_every_first_answer_lost_after_commit_loses_and_doubles_nothing(self, deliver):
        store, seen = Store(), set()

        def answer(request):
            reply = store.take(request)
            first = request.body not in seen
            seen.add(request.body)
            return CUT if first else reply

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(5_000), concurrency=8)
        assert run.counts == (5_000, 5_000, 0, 0, 0)
        assert set(store.held.values()) == {1}
        assert len(store.held) == 5_000

    @pytest.mark.parametrize(
        "broken",
        [
            Reply(200, b'{"events":[{"lago_id":', {"Content-Type": "application/json"}),
            Reply(200, b'{"events":[' + b" " * 50, {"Content-Length": "500"}, cut_after=90),
            Reply(502, b"<html>Bad Gateway</html>"),
            Reply(500, b'{"status":500,"error":"Internal Server Error"}'),
            Reply(200, b"", delay=1.0),
        ],
        ids=["broken JSON", "cut in the body", "502 after commit", "500 after commit", "beyond the timeout"],
    )
    def test_an_answer_that_does_not_tell_is_found_out_by_sending_again(self, deliver, broken):
        store, seen = Store(), set()

        def answer(request):
            reply = store.take(request)
            first = request.body not in seen
            seen.add(request.body)
            return broken if first else reply

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(300), settings=connection(server.url, read_timeout=0.3))
        assert run.counts == (300, 300, 0, 0, 0)
        assert set(store.held.values()) == {1}

    def test_events_known_before_stay_duplicates_although_an_answer_was_lost(self, deliver):
        store, seen = Store(), set()
        store.held.update(["t3"])

        def answer(request):
            reply = store.take(request)
            first = request.body not in seen
            seen.add(request.body)
            return CUT if first else reply

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(10))
        assert run.counts == (10, 9, 1, 0, 0)


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
            def rows(self):
                for n, record in enumerate(usage(250), 1):
                    yield Row(n, "records", n, record)
                raise SourceError("the rest cannot be read")

            def share_done(self):
                return None

        with ScriptedServer(echo) as server:
            run = deliver(server, Breaking())
        assert run.halt.final
        assert run.halt.why == "the rest cannot be read"
        assert run.tally.accepted == 200
        assert run.tally.read == 250


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

    def test_a_halt_does_not_wait_for_the_pace(self, deliver):
        answers = iter([Reply(429, b"", {"Retry-After": "60"})])

        def answer(request):
            return next(answers, None) or Reply(401, b"", delay=0.2)

        with ScriptedServer(answer) as server:
            started = time.monotonic()
            run = deliver(server, usage(500), concurrency=2)
        assert run.halt.final
        assert time.monotonic() - started < 10

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


class TestSource:
    def test_nothing_mapped_sends_the_lines_of_the_file_byte_for_byte(self, deliver, tmp_path):
        lines = [json.dumps(event, separators=(", ", ": ")).encode() for event in usage(3)]
        (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
        with ScriptedServer(echo) as server:
            deliver(server, FileSource(str(tmp_path / "a.jsonl")))
        assert server.bodies == [b'{"events":[' + b",".join(lines) + b"]}"]

    def test_broken_lines_are_rejected_with_their_line_and_the_others_delivered(self, deliver, tmp_path):
        good = json.dumps(usage(1)[0]).encode()
        (tmp_path / "a.jsonl").write_bytes(
            good + b'\n{"broken": \n[1]\n"text"\n{"a":"\xff"}\nnull\n' + b'{"a":' * 5000 + b"\n"
        )
        with ScriptedServer(echo) as server:
            run = deliver(server, FileSource(str(tmp_path / "a.jsonl")))
        assert run.counts == (7, 1, 0, 6, 0)
        report = [json.loads(line) for line in (run.folder / "rejected.jsonl").read_text().splitlines()]
        assert [line["line"] for line in report] == [2, 3, 4, 5, 6, 7]
        assert report[0]["record"] == '{"broken":'
        assert report[1]["record"] == [1]
        assert [line["reason"] for line in report[:4]] == ["not JSON", "not an object", "not an object", "not UTF-8"]

    def test_csv_with_holes_sends_what_is_whole_and_reports_the_rest(self, deliver, tmp_path):
        (tmp_path / "a.csv").write_bytes(
            b"id,who,at,bytes\n1,s,2023-11-14 22:13:20,5\n2,s,1700000000,\n3,s,1700000000\n4,caf\xe9,1700000000,7\n5,s,never,7\n"
        )
        shaping = Shaping(
            fields={"transaction_id": "id", "external_subscription_id": "who", "timestamp": "at"},
            constants={"code": "traffic"},
            properties=["bytes"],
        )
        with ScriptedServer(echo) as server:
            run = deliver(server, FileSource(str(tmp_path / "a.csv")), shaping=shaping)
        assert run.counts == (5, 1, 0, 4, 0)
        assert dict(run.tally.reasons) == {
            "property missing: bytes": 1,
            "wrong number of cells": 1,
            "not UTF-8": 1,
            "timestamp: not a time": 1,
        }
        report = [json.loads(line) for line in (run.folder / "rejected.jsonl").read_text().splitlines()]
        assert report[2]["record"]["who"] == "caf\\udce9"

    def test_records_that_json_cannot_hold_are_reported_nevertheless(self, deliver):
        records = usage(2)
        records[0]["properties"] = {"x": float("nan")}
        records[1]["properties"] = {"x": {1, 2}}
        with ScriptedServer(echo) as server:
            run = deliver(server, records)
        assert run.counts == (2, 0, 0, 2, 0)
        report = [json.loads(line) for line in (run.folder / "rejected.jsonl").read_text().splitlines()]
        assert report[0]["record"]["properties"] == {"x": "nan"}
        assert server.requests == []

    def test_skipped_records_are_counted_and_not_sent(self, deliver):
        shaping = Shaping(transform=lambda record: record if record["properties"]["n"] % 2 else None)
        with ScriptedServer(echo) as server:
            run = deliver(server, usage(10), shaping=shaping)
        assert run.counts == (10, 5, 0, 0, 5)


class NoOffset(tzinfo):
    def utcoffset(self, moment):
        return None

    def dst(self, moment):
        return None

    def tzname(self, moment):
        return None


class Odd:
    def __str__(self):
        raise RuntimeError("no text")


class Text(str):
    pass


class TestOddRecords:
    """One odd record must never end a delivery: every retry would end at it again."""

    @pytest.mark.parametrize(
        "odd",
        [
            {"timestamp": "1e99999999999999999999"},
            {"timestamp": Decimal("1e999999999")},
            {"timestamp": datetime(2024, 1, 1, tzinfo=NoOffset())},
            {"transaction_id": 10**5000},
            {"precise_total_amount_cents": Decimal("1e100000000")},
            {"precise_total_amount_cents": "١٢٣"},
            {"properties": {"x": Odd()}},
            {"properties": {"x": {"y": Decimal("NaN")}}},
            {"properties": Odd()},
            {"code": Odd()},
        ],
    )
    def test_it_is_rejected_and_reported_and_the_others_delivered(self, deliver, odd):
        records = usage(3)
        records[1].update(odd)
        if isinstance(odd.get("timestamp"), datetime):
            odd = None  # a zone without an offset is no zone: the time is taken in the given one
        with ScriptedServer(echo) as server:
            run = deliver(server, records)
        assert run.counts == ((3, 3, 0, 0, 0) if odd is None else (3, 2, 0, 1, 0))

    def test_lines_that_are_odd_are_rejected_and_reported(self, deliver, tmp_path):
        good = json.dumps(usage(1)[0]).encode()
        odd = [
            b'{"a":' * 100_000,
            b'{"transaction_id":"x","n":1e99999999999999999999}',
            b'{"transaction_id":"' + b"9" * 10 + b'","timestamp":1e400}',
            b"[" * 3_000 + b"]" * 3_000,
            b'{"transaction_id":"deep","properties":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_001,
        ]
        path = tmp_path / "od\udcffd.jsonl"
        with open(path, "wb") as stream:
            stream.write(b"\n".join([good, *odd]))
        with ScriptedServer(echo) as server:
            run = deliver(server, FileSource(str(path)))
        assert run.counts == (6, 1, 0, 5, 0)

    def test_plain_types_in_disguise_are_sent_as_what_they_are(self, deliver):
        records = usage(1)
        records[0]["properties"] = {
            "text": Text("x"),
            "when": pendulum.datetime(2024, 1, 1),
            "map": types.MappingProxyType({"a": 1}),
        }
        with ScriptedServer(echo) as server:
            deliver(server, records)
        sent = server.requests[0].events[0]["properties"]
        assert (sent["text"], sent["map"]) == ("x", {"a": 1})
        assert sent["when"].startswith("2024-01-01T00:00:00")

    def test_twins_that_differ_by_type_are_a_conflict(self, deliver):
        records = [*usage(1, properties={"n": 1}), *usage(1, properties={"n": True})]
        with ScriptedServer(echo) as server:
            run = deliver(server, records)
        assert run.counts == (2, 1, 0, 1, 0)

    def test_a_transform_cannot_change_the_record_that_is_reported(self, deliver):
        def spoil(record):
            record["properties"]["n"] = "changed"
            raise KeyError("x")

        with ScriptedServer(echo) as server:
            run = deliver(server, usage(1), shaping=Shaping(transform=spoil))
        assert json.loads((run.folder / "rejected.jsonl").read_text())["record"]["properties"] == {"n": 0}


class TestEvidence:
    def test_a_folder_of_another_task_is_refused(self, tmp_path):
        FolderReport(tmp_path, {"dag_id": "d", "task_id": "a", "map_index": -1})
        with pytest.raises(ReportInUseError, match="task 'a' of DAG 'd'"):
            FolderReport(tmp_path, {"dag_id": "d", "task_id": "b", "map_index": -1})

    def test_two_runs_of_a_task_in_one_folder_keep_all_their_lines(self, tmp_path):
        reports = [FolderReport(tmp_path, {"task_id": "a", "run_id": n}) for n in range(2)]
        for n, report in enumerate(reports):
            report.rejected(Row(1, "records", 1, {"n": n}), reason="r", detail="d", code=None, payload=None)
        lines = [json.loads((tmp_path / name).read_text()) for name in ("rejected.1.jsonl", "rejected.jsonl")]
        assert [line["record"]["n"] for line in lines] == [0, 1]

    def test_the_key_that_a_proxy_echoes_is_blotted_out(self, deliver):
        def answer(request):
            return as_json(422, {"status": 422, "code": "x", "error": request.headers["authorization"] + "y" * 100_000})

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(1))
        evidence = "".join(path.read_text() for path in run.folder.iterdir())
        assert "11111111" not in evidence
        assert len(evidence) < 3_000

    def test_an_answer_without_end_is_not_held(self, deliver, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.delivery.transport._LONGEST_ANSWER", 1_000_000)
        with ScriptedServer(lambda request: Reply(200, b"x" * 2_000_000)) as server:
            run = deliver(server, usage(1))
        assert run.halt.final
        assert "is it Lago?" in run.halt.why

    def test_progress_is_in_the_log_with_the_share_done(self, deliver, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr("airflow_provider_lago.delivery.delivery._PROGRESS_EVERY", 0.1)
        (tmp_path / "a.jsonl").write_bytes(b"".join(json.dumps(event).encode() + b"\n" for event in usage(20_000)))
        with caplog.at_level("INFO"), ScriptedServer(lambda request: Reply(200, b"", delay=0.02)) as server:
            deliver(server, FileSource(str(tmp_path / "a.jsonl")), concurrency=4)
        lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Read ")]
        assert len(lines) >= 3
        assert re.search(r"Read [\d,]+ \(\d+% of the source\): accepted [\d,]+, .* requests, [\d,]+ events/s", lines[1])

    def test_what_an_earlier_run_left_is_kept(self, deliver):
        with ScriptedServer(lambda request: refused({"0": INVALID})) as server:
            deliver(server, usage(1))
            run = deliver(server, usage(1, first=5))
        assert json.loads((run.folder / "rejected.1.jsonl").read_text())["event"]["transaction_id"] == "t0"
        assert json.loads((run.folder / "rejected.jsonl").read_text())["event"]["transaction_id"] == "t5"

    def test_the_key_is_in_no_evidence(self, deliver):
        with ScriptedServer(lambda request: refused({"0": INVALID})) as server:
            run = deliver(server, usage(1))
            key = server.requests[0].headers["authorization"].removeprefix("Bearer ")
        assert all(key not in path.read_text() for path in run.folder.iterdir())
        assert key not in repr(connection("http://x"))
