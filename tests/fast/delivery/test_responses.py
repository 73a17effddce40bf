"""Lago's answers to a file and to a webhook, over real HTTP; and what a webhook may cost."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import resource
import socket
import ssl
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme
from support.scripted import CUT, Reply, ScriptedServer

from airflow_provider_lago.api.connection import ConnectionSettingsError
from airflow_provider_lago.api.failures import Cause
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.api.webhook import Webhook
from airflow_provider_lago.delivery.responses import (
    AllResponses,
    FileResponses,
    Limits,
    NoResponses,
    Response,
    WebhookResponses,
)
from airflow_provider_lago.delivery.responses.file import open_lines
from airflow_provider_lago.delivery.responses.posting import Later, Never, Taken, judge, judge_failure
from airflow_provider_lago.delivery.responses.response import LONGEST_TEXT
from airflow_provider_lago.delivery.responses.restraint import Breaker, Patience
from airflow_provider_lago.storage.earlier import keep_earlier
from airflow_provider_lago.storage.lines import LineFile

SECRET = "hunter2hunter2"
QUICK = RetryPolicy(attempts=4, base=0.01, cap=0.02)


def limits(**changes) -> Limits:
    return Limits(**{"policy": QUICK, "drain": 5.0, **changes})


def answer(position=1, body=b'{"event":{}}', **changes) -> Response:
    values = {"records": [(position, f"t{position}")], "method": "POST", "path": "events", "status": 200}
    return Response(**{**values, "request_id": f"req-{position}", "body": body, **changes})


def lines(path) -> list[dict]:
    raw = Path(path).read_bytes()
    assert raw == b"" or raw.endswith(b"\n")
    return [json.loads(line) for line in raw.split(b"\n")[:-1]]


def positions(path) -> list[int]:
    return [line["position"] for line in lines(path)]


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def silent_server():
    """Takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def forward(tmp_path, caplog):
    """Put answers to a webhook and close; check what holds whatever the webhook does."""
    caplog.set_level(logging.DEBUG)

    def run(url, answers, *, limits=None, within=None, pause=0.0, **fields):
        path = tmp_path / "unforwarded.jsonl"
        webhook = Webhook("hook", url, **{"timeout": 2.0, **fields})
        sink = WebhookResponses(
            webhook, unforwarded=open_lines(path, what="unforwarded"), log=logging.getLogger("task"), limits=limits
        )
        took = []

        async def main():
            count = 0
            for response in answers:
                started = time.monotonic()
                await sink.put(response)
                took.append(time.monotonic() - started)
                count += 1
                if pause:
                    await asyncio.sleep(pause)
            started = time.monotonic()
            await sink.close(within)
            run.closing = time.monotonic() - started
            return count

        started = time.monotonic()
        count = asyncio.run(main())
        run.seconds = time.monotonic() - started
        run.took = took
        run.unforwarded = lines(path)
        run.summary = summary = sink.summary()
        assert summary["forwarded"] + summary["not_forwarded"] == count
        assert len(run.unforwarded) == summary["not_forwarded"]
        assert SECRET not in caplog.text + path.read_text() + json.dumps(summary)
        return summary["forwarded"], summary["not_forwarded"]

    return run


class TestLine:
    def test_an_answer_about_one_record_has_its_position_and_id_at_the_top(self):
        line = json.loads(answer(7).line())
        at = datetime.fromisoformat(line.pop("at"))
        assert abs((datetime.now(UTC) - at).total_seconds()) < 5
        assert line == {
            "position": 7,
            "id": "t7",
            "records": [{"position": 7, "id": "t7"}],
            "method": "POST",
            "path": "events",
            "status": 200,
            "request_id": "req-7",
            "body": {"event": {}},
        }

    def test_an_answer_about_several_records_names_them_in_the_order_of_the_request(self):
        line = json.loads(answer(records=[(3, "c"), (1, None), (2, "b")]).line())
        assert [record["position"] for record in line["records"]] == [3, 1, 2]
        assert line["records"][1]["id"] is None
        assert "position" not in line
        assert "id" not in line

    def test_lagos_json_is_kept_digit_by_digit(self):
        body = b'{"amount": 0.10000000000000000000001, "big": 123456789012345678901234567890, "e": 1E400}'
        assert body in answer(body=body).line()

    def test_json_over_several_lines_becomes_one(self):
        line = answer(body=b'{\r\n  "a": "x\\ny",\n  "b": 1\n}\n').line()
        assert b"\n" not in line
        assert b"\r" not in line
        assert json.loads(line)["body"] == {"a": "x\ny", "b": 1}

    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            (b"", None),
            (b"  ", "  "),
            (b"<html>\n502</html>", "<html>\n502</html>"),
            (b'{"cut": ', '{"cut": '),
            (b'{"a": 1} {"b": 2}', '{"a": 1} {"b": 2}'),
            (b'{"a": "\xff"}', '{"a": "\\xff"}'),
            (b"NaN", "NaN"),
            (b'"\\ud800"', '"\\ud800"'),
            (b"[" * 100_000, "[" * LONGEST_TEXT),
        ],
    )
    def test_a_body_that_is_not_json_is_a_text(self, body, shown):
        assert json.loads(answer(body=body).line())["body"] == shown

    def test_a_long_text_is_cut_and_says_how_long_it_was(self):
        line = json.loads(answer(body=b"<" * 1_000_000).line())
        assert (len(line["body"]), line["body_length"]) == (LONGEST_TEXT, 1_000_000)

    def test_an_id_that_no_json_can_hold_does_not_stop_the_line(self):
        assert json.loads(answer(records=[(1, "a\ud800")]).line())["id"] == "a\\ud800"


class TestFile:
    def put(self, path, answers):
        async def main():
            sink = FileResponses(path)
            for response in answers:
                await sink.put(response)
            await sink.close()
            return sink.summary()

        return asyncio.run(main())

    def test_every_answer_is_there_in_order(self, tmp_path):
        path = tmp_path / "a" / "b" / "responses.jsonl"
        summary = self.put(path, map(answer, range(1, 2001)))
        assert positions(path) == list(range(1, 2001))
        assert summary == {"path": str(path), "written": 2000}

    def test_a_line_is_there_when_put_returns_and_two_answers_never_mix(self, tmp_path):
        path = tmp_path / "r.jsonl"

        async def main():
            sink = FileResponses(path)

            async def some(first):
                for n in range(first, first + 200):
                    await sink.put(answer(n, body=b'"' + b"x" * 100_000 + b'"'))
                    await asyncio.sleep(0)

            await asyncio.gather(*(some(first) for first in range(0, 1000, 200)))
            seen = positions(path)  # not closed yet, as after a kill
            await sink.close()
            return seen

        assert sorted(asyncio.run(main())) == list(range(1000))

    def test_a_closed_file_takes_no_more_answers(self, tmp_path):
        async def main():
            sink = FileResponses(tmp_path / "r.jsonl")
            await sink.put(answer(1))
            await sink.close()
            with pytest.raises(ValueError, match="closed"):
                await sink.put(answer(2))

        asyncio.run(main())
        assert positions(tmp_path / "r.jsonl") == [1]

    def test_files_of_earlier_runs_are_kept(self, tmp_path):
        path = tmp_path / "responses.jsonl"
        for n in (1, 2, 3):
            self.put(path, [answer(n)])
        kept = {file.name: positions(file) for file in tmp_path.iterdir()}
        assert kept == {"responses.1.jsonl": [1], "responses.2.jsonl": [2], "responses.jsonl": [3]}

    @pytest.mark.parametrize(
        "path", ["s3://bucket/r.jsonl?key=hunter2hunter2", "file:///tmp/r.jsonl", "", " ", "folder/"]
    )
    def test_a_path_that_is_no_local_file_is_refused_before_anything_is_sent(self, path):
        with pytest.raises(ValueError, match="responses_path") as caught:
            FileResponses(path)
        assert SECRET not in str(caught.value)
        if "?" in path:
            assert "'s3://bucket/r.jsonl'" in str(caught.value)

    def test_a_file_is_gone_on_with_where_that_is_asked_for(self, tmp_path):
        path = tmp_path / "r.jsonl"
        for number in range(2):
            file = FileResponses(path, append=True)
            asyncio.run(file.put(answer(number)))
            asyncio.run(file.close())
        assert len(lines(path)) == 2
        assert os.listdir(tmp_path) == ["r.jsonl"]

    def test_a_folder_or_a_device_is_refused_and_not_renamed(self, tmp_path):
        for path in (tmp_path, "/dev/null"):
            with pytest.raises(ValueError, match="responses_path"):
                FileResponses(path)
        assert tmp_path.is_dir()

    def test_a_full_disk_stops_the_delivery_and_leaves_whole_lines(self, tmp_path):
        path = tmp_path / "r.jsonl"
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        async def main():
            sink = FileResponses(path)
            await sink.put(answer(1))
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
            try:
                with pytest.raises(OSError, match="large"):
                    await sink.put(answer(2, body=b'"' + b"x" * 10_000 + b'"'))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            await sink.put(answer(3))
            await sink.close()
            return sink.summary()["written"]

        assert asyncio.run(main()) == 2
        assert positions(path) == [1, 3]


class Failing(NoResponses):
    """Fails to close, where there is an error."""

    def __init__(self, error=None):
        self.error = error
        self.closed = []

    async def close(self, within=None):
        self.closed.append(within)
        if self.error is not None:
            raise self.error


class TestAll:
    def test_all_takers_are_closed_although_some_fail_and_the_first_failure_is_told(self):
        takers = [Failing(), Failing(OSError("disk")), Failing(asyncio.CancelledError()), Failing()]
        with pytest.raises(OSError, match="disk"):
            asyncio.run(AllResponses(takers).close(0))
        assert [taker.closed for taker in takers] == [[0]] * 4

    def test_a_file_that_takes_no_more_lines_keeps_the_answer_from_the_takers_after_it(self, tmp_path):
        class Full(NoResponses):
            async def put(self, response):
                raise OSError("disk")

        file = FileResponses(tmp_path / "r.jsonl")
        both = AllResponses([Full(), file])
        with pytest.raises(OSError, match="disk"):
            asyncio.run(both.put(answer()))
        assert both.summary()["written"] == 0


class TestEarlier:
    def test_files_that_belong_together_share_a_number(self, tmp_path):
        for name in ("a.jsonl", "b.json", "b.1.json"):
            (tmp_path / name).write_text(name)
        keep_earlier(tmp_path / "a.jsonl", tmp_path / "b.json")
        kept = {file.name: file.read_text() for file in tmp_path.iterdir()}
        assert kept == {"a.2.jsonl": "a.jsonl", "b.2.json": "b.json", "b.1.json": "b.1.json"}

    def test_nothing_to_keep_is_fine(self, tmp_path):
        keep_earlier(tmp_path / "a.jsonl", tmp_path / "b.json")
        assert not list(tmp_path.iterdir())

    def test_tasks_that_begin_at_the_same_time_overwrite_nothing(self, tmp_path):
        path = tmp_path / "r.jsonl"
        ready = threading.Barrier(8)

        def begin(n):
            ready.wait()
            for at in range(20):
                draft = tmp_path / f"draft-{n}"
                draft.write_text(f"{n}/{at}")
                try:
                    path.hardlink_to(draft)
                except FileExistsError:
                    keep_earlier(path)
                else:
                    made.append(f"{n}/{at}")
                draft.unlink()

        made = []
        threads = [threading.Thread(target=begin, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [file.read_text() for file in tmp_path.iterdir()]
        assert sorted(text for text in found if text) == sorted(made)


class TestHealthyWebhook:
    def test_it_gets_each_answer_once_as_a_line_of_json(self, forward):
        with ScriptedServer(lambda request: Reply(204)) as server:
            counts = forward(f"{server.url}/hook?k={SECRET}", map(answer, range(1, 301)))
        assert counts == (300, 0)
        assert sorted(json.loads(body)["position"] for body in server.bodies) == list(range(1, 301))
        assert len({request.headers["idempotency-key"] for request in server.requests}) == 300
        assert {(request.method, request.path) for request in server.requests} == {("POST", f"/hook?k={SECRET}")}
        assert {request.headers["content-type"] for request in server.requests} == {"application/json"}
        assert server.most_at_once <= 4
        assert forward.unforwarded == []
        assert forward.summary["webhook"] == server.url

    def test_it_gets_the_connections_headers_and_credentials(self, forward):
        with ScriptedServer(lambda request: Reply(200)) as server:
            forward(
                f"{server.url}/",
                [answer()],
                headers={"content-type": "application/vnd.lago+json", "X-Token": SECRET},
                auth=("me", SECRET),
            )
        headers = server.requests[0].headers
        assert headers["content-type"] == "application/vnd.lago+json"
        assert headers["x-token"] == SECRET
        assert headers["authorization"] == "Basic bWU6aHVudGVyMmh1bnRlcjI="
        assert headers["user-agent"].startswith("airflow-provider-lago/")

    def test_it_is_reached_through_the_connections_proxy(self, forward):
        with ScriptedServer(lambda request: Reply(200)) as proxy:
            through = proxy.url.replace("//", f"//me:{SECRET}@")
            assert forward("http://hooks.example.com/a", [answer()], proxy=through) == (1, 0)
        assert proxy.requests[0].path == "http://hooks.example.com/a"
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")

    def test_answers_alike_on_two_days_have_different_keys(self, forward):
        days = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)]
        with ScriptedServer(lambda request: Reply(200)) as server:
            forward(f"{server.url}/", [answer(body=b"", request_id=None, at=day) for day in days])
        assert len({request.headers["idempotency-key"] for request in server.requests}) == 2

    def test_what_it_answers_itself_does_not_matter(self, forward):
        with ScriptedServer(lambda request: Reply(200, b"x" * 5_000_000)) as server:
            assert forward(f"{server.url}/", map(answer, range(5))) == (5, 0)

    def test_a_file_beside_it_has_the_same_lines(self, tmp_path):
        with ScriptedServer(lambda request: Reply(200)) as server:
            log = logging.getLogger("task")
            path = tmp_path / "r.jsonl"

            async def main():
                webhook = WebhookResponses(Webhook("hook", f"{server.url}/"), unforwarded=None, log=log)
                both = AllResponses([FileResponses(path), webhook, NoResponses()])
                for n in range(20):
                    await both.put(answer(n))
                await both.close()
                return both.summary()

            summary = asyncio.run(main())
        assert summary == {"path": str(path), "written": 20, "webhook": server.url, "forwarded": 20, "not_forwarded": 0}
        assert sorted(server.bodies) == sorted(path.read_bytes().splitlines())


class TestTroubledWebhook:
    def test_a_503_is_tried_again_with_the_same_key(self, forward):
        seen = Counter()

        def reply(request):
            seen[request.headers["idempotency-key"]] += 1
            return Reply(503 if seen[request.headers["idempotency-key"]] < 3 else 200)

        with ScriptedServer(reply) as server:
            assert forward(f"{server.url}/", map(answer, range(40)), limits=limits()) == (40, 0)
        assert set(seen.values()) == {3}

    @pytest.mark.parametrize("trouble", [Reply(429), Reply(408), Reply(500), CUT], ids=["429", "408", "500", "cut"])
    def test_trouble_that_may_pass_is_tried_again(self, forward, trouble):
        replies = itertools.chain([trouble] * 3, itertools.repeat(Reply(200)))
        with ScriptedServer(lambda request: next(replies)) as server:
            assert forward(f"{server.url}/", [answer()], limits=limits()) == (1, 0)
        assert len(server.requests) == 4

    def test_a_timeout_is_tried_again(self, forward):
        replies = iter([Reply(200, delay=1.0), Reply(200)])
        with ScriptedServer(lambda request: next(replies)) as server:
            assert forward(f"{server.url}/", [answer()], limits=limits(), timeout=0.2) == (1, 0)

    def test_the_wait_that_it_asks_for_is_kept(self, forward):
        replies = iter([Reply(429, headers={"Retry-After": "1"}), Reply(200)])
        with ScriptedServer(lambda request: next(replies)) as server:
            assert forward(f"{server.url}/", [answer()], limits=limits()) == (1, 0)
        assert 1.0 <= forward.seconds < 3.0

    @pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
    def test_a_refusal_is_not_tried_again_and_the_answer_kept_with_the_reason(self, forward, status):
        with ScriptedServer(lambda request: Reply(status)) as server:
            assert forward(f"{server.url}/", [answer()], limits=limits()) == (0, 1)
        (request,) = server.requests
        (kept,) = forward.unforwarded
        assert kept.pop("reason") == f"HTTP {status}"
        assert kept.pop("idempotency_key") == request.headers["idempotency-key"]
        assert kept == json.loads(request.body)

    def test_answers_that_it_refuses_one_by_one_do_not_cost_the_others(self, forward):
        with ScriptedServer(lambda request: Reply(200 if b'"position":9,' in request.body else 422)) as server:
            assert forward(f"{server.url}/", map(answer, range(10)), limits=limits()) == (1, 9)

    def test_a_redirect_is_not_followed(self, forward):
        with ScriptedServer(lambda request: Reply(200)) as other:
            elsewhere = Reply(307, headers={"Location": f"{other.url}/"})
            with ScriptedServer(lambda request: elsewhere) as server:
                counts = forward(f"{server.url}/", [answer()], auth=("me", SECRET), limits=limits())
        assert counts == (0, 1)
        assert (len(server.requests), len(other.requests)) == (1, 0)
        assert "redirect" in forward.unforwarded[0]["reason"]

    def test_a_certificate_that_is_not_trusted_is_refused_unless_the_connection_names_it(self, forward, tmp_path):
        authority = trustme.CA()
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        with ScriptedServer(lambda request: Reply(200), tls=context) as server:
            assert forward(f"{server.url}/", [answer()], limits=limits()) == (0, 1)
            assert "certificate is not trusted" in forward.unforwarded[0]["reason"]
            assert server.requests == []
            assert forward(f"{server.url}/", [answer()], verify=str(bundle)) == (1, 0)
            assert forward(f"{server.url}/", [answer()], verify=False) == (1, 0)

    def test_a_bundle_without_certificates_is_told_before_anything_is_sent(self, tmp_path):
        bundle = tmp_path / "ca.pem"
        bundle.write_text("nothing")
        with pytest.raises(ConnectionSettingsError, match="CA bundle"):
            WebhookResponses(
                Webhook("hook", "https://x/", verify=str(bundle)), unforwarded=None, log=logging.getLogger("task")
            )

    def test_the_log_names_the_first_few_and_no_secret(self, forward, caplog):
        body = b'{"private":"customer-data"}'
        with ScriptedServer(lambda request: Reply(500)) as server:
            url = f"{server.url}/{SECRET}?k={SECRET}"
            headers = {"X-Token": SECRET}
            forward(
                url, [answer(n, body=body) for n in range(50)], auth=("me", SECRET), headers=headers, limits=limits()
            )
        named = [message for message in caplog.messages if "was not forwarded" in message]
        assert len(named) == 5
        assert "record 0 (id 't0')" in caplog.text
        assert "HTTP 500" in named[0]
        assert "customer-data" not in caplog.text
        assert "50 of 50 answers were not forwarded" in caplog.messages[-1]
        assert "unforwarded.jsonl" in caplog.messages[-1]


class TestWhatAWebhookMayCost:
    def test_one_that_is_down_holds_up_a_burst_of_5000_answers_by_seconds_and_loses_none(self, forward, caplog):
        url = f"http://127.0.0.1:{unused_port()}/{SECRET}"
        counts = forward(url, map(answer, range(5000)), limits=Limits())  # the real bounds
        assert counts == (0, 5000)
        assert sorted(line["position"] for line in forward.unforwarded) == list(range(5000))
        # Two rounds of four tries until the fifth answer in a row has failed: at most 2 * (0.5 + 1 + 2) s.
        assert forward.seconds < 9
        assert max(forward.took) < 8
        assert len(caplog.messages) < 10

    def test_one_that_says_nothing_holds_up_a_burst_no_longer_than_the_patience(self, forward):
        bounds = limits(answers=100, wait=0.5, patience=1.0, drain=1.0)
        with silent_server() as url:
            counts = forward(url, map(answer, range(5000)), limits=bounds, timeout=60)
        assert counts == (0, 5000)
        assert max(forward.took) < 0.7
        assert sum(forward.took) < 3.5  # the patience, and as long again as the delivery itself took
        assert forward.closing < 1.5

    def test_one_that_is_slow_gets_what_it_can_take_and_all_is_accounted_for(self, forward):
        bounds = limits(answers=10, wait=0.2, patience=0.5, drain=0.5)
        with ScriptedServer(lambda request: Reply(200, delay=0.1)) as server:
            taken, kept = forward(f"{server.url}/", map(answer, range(500)), limits=bounds)
        assert taken > 20
        assert kept > 300
        assert forward.seconds < 3
        assert {line["position"] for line in forward.unforwarded} | {
            json.loads(body)["position"] for body in server.bodies
        } == set(range(500))

    def test_one_that_is_a_little_slow_slows_the_delivery_and_misses_nothing(self, forward):
        with ScriptedServer(lambda request: Reply(200, delay=0.01)) as server:
            assert forward(f"{server.url}/", map(answer, range(300)), limits=limits(answers=8)) == (300, 0)

    def test_one_that_comes_back_gets_answers_again(self, forward, caplog):
        down = threading.Event()
        down.set()
        timer = threading.Timer(0.5, down.clear)
        with ScriptedServer(lambda request: Reply(503 if down.is_set() else 200)) as server:
            timer.start()
            taken, kept = forward(f"{server.url}/", map(answer, range(150)), limits=limits(probe_every=0.1), pause=0.01)
        assert kept > 10
        assert taken > 50
        assert "takes answers again" in caplog.text
        assert positions_of(server.bodies[-5:]) & set(range(140, 150))

    def test_memory_is_bounded_by_bytes_also_with_large_answers(self, tmp_path):
        large = b'"' + b"x" * (1 << 20) + b'"'

        async def main(url):
            bounds = limits(size=10 << 20, wait=0.02, patience=0.1, drain=0.1)
            log = logging.getLogger("task")
            sink = WebhookResponses(
                Webhook("hook", url), unforwarded=LineFile(tmp_path / "u.jsonl"), log=log, limits=bounds
            )
            tracemalloc.start()
            for n in range(100):
                await sink.put(answer(n, body=large))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            await sink.close()
            return peak, sink.summary()

        with silent_server() as url:
            peak, summary = asyncio.run(main(url))
        assert peak < 24 << 20, peak  # the bound, what four sockets hold, and some copies of the one at hand
        assert summary["not_forwarded"] == 100
        assert (tmp_path / "u.jsonl").stat().st_size > 100 << 20

    def test_an_answer_longer_than_the_bound_is_forwarded_alone(self, forward):
        body = b'"' + b"x" * 100_000 + b'"'
        with ScriptedServer(lambda request: Reply(200)) as server:
            counts = forward(f"{server.url}/", [answer(n, body=body) for n in range(5)], limits=limits(size=1000))
        assert counts == (5, 0)
        assert server.most_at_once == 1

    @pytest.mark.parametrize("room", [0, -1], ids=["just enough", "a byte less"])
    def test_the_bytes_held_never_exceed_the_bound(self, forward, room):
        answers = [answer(n, at=datetime(2026, 1, 1, tzinfo=UTC)) for n in range(3)]
        size = sum(len(one.line()) for one in answers) + room
        with silent_server() as url:
            forward(url, answers, limits=limits(size=size, wait=0.02), within=0)
        slow = [line["position"] for line in forward.unforwarded if "too slowly" in line["reason"]]
        assert slow == ([] if room == 0 else [2])

    @pytest.mark.parametrize("count", [3, 4])
    def test_the_answers_held_never_exceed_the_bound(self, forward, count):
        with silent_server() as url:
            forward(url, map(answer, range(count)), limits=limits(answers=3, wait=0.02), within=0)
        slow = [line["position"] for line in forward.unforwarded if "too slowly" in line["reason"]]
        assert slow == list(range(3, count))

    def test_one_that_came_back_gets_the_waits_that_it_asks_for(self):
        replies = iter([Reply(404), Reply(200), Reply(429, headers={"Retry-After": "0.3"}), Reply(200)])
        times = []

        def reply(request):
            times.append(time.monotonic())
            return next(replies)

        async def main(url):
            bounds = limits(failures=1, probe_every=0.0)
            sink = WebhookResponses(
                Webhook("hook", url), unforwarded=None, log=logging.getLogger("task"), limits=bounds
            )
            for n in range(3):
                await sink.put(answer(n))
                while n < 2 and sum(sink.summary()[name] for name in ("forwarded", "not_forwarded")) <= n:
                    await asyncio.sleep(0.001)
            await sink.close()
            return sink.summary()

        with ScriptedServer(reply) as server:
            summary = asyncio.run(main(f"{server.url}/"))
        assert (summary["forwarded"], summary["not_forwarded"]) == (2, 1)
        assert times[3] - times[2] >= 0.3

    def test_the_bounds_are_those_that_users_are_promised(self):
        bounds = Limits()
        assert (bounds.answers, bounds.size, bounds.parallel) == (1_000, 32 << 20, 4)
        assert bounds.policy == RetryPolicy(attempts=4, base=0.5, cap=8.0)
        assert (bounds.wait, bounds.patience, bounds.drain) == (10, 30, 30)
        assert (bounds.failures, bounds.probe_every) == (5, 15)

    def test_the_end_is_bounded_and_the_rest_kept(self, forward):
        with ScriptedServer(lambda request: Reply(200, delay=0.2)) as server:
            taken, kept = forward(f"{server.url}/", map(answer, range(100)), within=0.5)
        assert 0 < taken < 30
        assert kept == 100 - taken
        assert forward.closing < 1.0
        assert {line["reason"].split(";")[0] for line in forward.unforwarded} == {
            "the delivery ended before the webhook had taken it"
        }

    def test_a_killed_delivery_writes_down_the_rest_without_waiting(self, forward):
        with silent_server() as url:
            assert forward(url, map(answer, range(100)), within=0) == (0, 100)
        assert forward.closing < 0.5

    def test_a_cancellation_while_closing_or_waiting_still_writes_down_the_rest(self, tmp_path):
        path = tmp_path / "u.jsonl"

        async def main(url):
            sink = WebhookResponses(
                Webhook("hook", url),
                unforwarded=open_lines(path, what="unforwarded"),
                log=logging.getLogger("task"),
                limits=limits(answers=10, drain=60),
            )

            async def deliver():
                try:
                    for n in range(20):
                        await sink.put(answer(n))
                finally:
                    await sink.close()

            task = asyncio.create_task(deliver())
            for _ in range(2):  # in put, then in close
                await asyncio.sleep(0.1)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return sink.summary()

        with silent_server() as url:
            summary = asyncio.run(main(url))
        assert positions(path) == [10, *range(10)]  # the one that waited for room, then those that had it
        assert summary["not_forwarded"] == 11

    def test_a_disk_without_room_for_what_was_not_forwarded_does_not_stop_the_delivery(self, tmp_path, caplog):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        async def main(url):
            sink = WebhookResponses(
                Webhook("hook", url),
                unforwarded=LineFile(tmp_path / "u.jsonl"),
                log=logging.getLogger("task"),
                limits=limits(),
            )
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
            try:
                for n in range(50):
                    await sink.put(answer(n))
                await sink.close()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return sink.summary()

        summary = asyncio.run(main(f"http://127.0.0.1:{unused_port()}/"))
        assert summary["not_forwarded"] == 50
        assert caplog.text.count("cannot be written") == 1
        assert 0 < len(lines(tmp_path / "u.jsonl")) < 50

    def test_the_end_without_any_answer_is_quiet(self, forward, caplog):
        assert forward("http://127.0.0.1:1/", []) == (0, 0)
        assert not [record for record in caplog.records if record.name == "task"]


def positions_of(bodies) -> set[int]:
    return {json.loads(body)["position"] for body in bodies}


class TestDecisions:
    @pytest.mark.parametrize(
        ("status", "retry_after", "verdict"),
        [
            (200, None, Taken()),
            (202, None, Taken()),
            (503, None, Later("HTTP 503")),
            (503, "7", Later("HTTP 503", 7.0)),
            (429, "9999", Later("HTTP 429", 30.0)),
            (429, "-1", Later("HTTP 429", 0.0)),
            (429, "nan", Later("HTTP 429")),
            (429, "soon", Later("HTTP 429")),
            (429, "Thu, 01 Jan 2026 00:00:05 GMT", Later("HTTP 429", 5.0)),
            (429, "Wed, 31 Dec 2025 00:00:00 GMT", Later("HTTP 429", 0.0)),
            (302, None, Never("HTTP 302, and redirects are not followed", others_too=True)),
            (401, "7", Never("HTTP 401", others_too=True)),
            (422, None, Never("HTTP 422", others_too=False)),
        ],
    )
    def test_what_an_answer_of_the_webhook_means(self, status, retry_after, verdict):
        assert judge(status, retry_after, datetime(2026, 1, 1, tzinfo=UTC)) == verdict

    @pytest.mark.parametrize("cause", list(Cause))
    def test_without_an_answer_only_tls_is_hopeless(self, cause):
        verdict = judge_failure(cause)
        assert isinstance(verdict, Never) == (cause in {Cause.CERTIFICATE, Cause.TLS})
        assert verdict.reason

    def test_failures_in_a_row_open_the_breaker_and_one_success_closes_it(self):
        breaker = Breaker(3, 15, Clock())
        breaker.note_failure()
        breaker.note_failure()
        breaker.note_alive()
        assert [breaker.note_failure() for _ in range(4)] == [False, False, True, False]
        assert breaker.open
        breaker.note_alive()
        assert not breaker.open

    def test_an_open_breaker_lets_one_probe_through_from_time_to_time(self):
        clock = Clock()
        breaker = Breaker(1, 15, clock)
        breaker.note_failure()
        assert not breaker.take_probe()
        clock.now += 15
        assert breaker.take_probe()
        assert not breaker.take_probe()

    def test_waiting_takes_no_more_than_the_patience_and_the_time_without_waiting(self):
        clock = Clock()
        patience = Patience(30, clock)
        patience.start()
        clock.now += 10  # worked
        assert patience.left() == 40
        patience.begin()
        clock.now += 15
        patience.begin()  # two at a time count once
        clock.now += 10
        assert patience.left() == 15
        patience.end()
        patience.end()
        assert patience.left() == 15
        clock.now += 5
        assert patience.left() == 20

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [
            (199, Never("HTTP 199, and redirects are not followed", others_too=True)),
            (299, Taken()),
            (300, Never("HTTP 300, and redirects are not followed", others_too=True)),
            (400, Never("HTTP 400", others_too=False)),
            (403, Never("HTTP 403", others_too=True)),
            (404, Never("HTTP 404", others_too=True)),
            (405, Never("HTTP 405", others_too=True)),
            (407, Never("HTTP 407", others_too=True)),
            (408, Later("HTTP 408")),
            (410, Never("HTTP 410", others_too=True)),
            (499, Never("HTTP 499", others_too=False)),
            (500, Later("HTTP 500")),
        ],
    )
    def test_a_webhook_that_refuses_one_answer_is_told_from_one_that_refuses_all(self, status, verdict):
        assert judge(status, None) == verdict

    def test_a_date_without_a_zone_is_utc(self):
        assert judge(503, "Thu, 01 Jan 2026 00:00:05", datetime(2026, 1, 1, tzinfo=UTC)) == Later("HTTP 503", 5.0)
        assert judge(503, " 5 ") == Later("HTTP 503", 5.0)
        soon = format_datetime(datetime.now(UTC) + timedelta(hours=1))
        assert judge(503, soon) == Later("HTTP 503", 30.0)

    def test_why_no_answer_came_is_told_in_words(self):
        told = {cause: judge_failure(cause).reason for cause in Cause}
        assert told[Cause.DNS] == "the host name cannot be resolved"
        assert told[Cause.READ_TIMEOUT] == "no answer in time"
        assert told[Cause.BROKEN] == told[Cause.TOO_LONG] == "the connection broke"
        assert len(set(told.values())) == len(told) - 1
        assert judge_failure(Cause.TLS).others_too
        assert judge_failure(Cause.CERTIFICATE).others_too

    def test_a_closed_breaker_needs_as_many_failures_in_a_row_again(self):
        breaker = Breaker(2, 15, Clock())
        assert not breaker.open
        assert [breaker.note_failure(), breaker.note_failure()] == [False, True]
        breaker.note_alive()
        assert [breaker.note_failure(), breaker.open] == [False, False]
        assert [breaker.note_failure(), breaker.open] == [True, True]

    def test_each_probe_and_each_failure_put_off_the_next_probe(self):
        clock = Clock()
        breaker = Breaker(1, 15, clock)
        assert breaker.take_probe()
        clock.now += 14
        assert not breaker.take_probe()
        breaker.note_failure()
        clock.now += 14
        assert not breaker.take_probe()
        clock.now += 1
        assert breaker.take_probe()

    def test_patience_counts_from_the_first_start_alone(self):
        clock = Clock()
        patience = Patience(30, clock)
        assert patience.left() == 30
        clock.now += 100
        assert patience.left() == 30
        patience.start()
        clock.now += 10
        patience.start()
        assert patience.left() == 40
        patience.begin()
        clock.now += 4
        patience.end()
        patience.begin()
        clock.now += 6
        patience.end()
        assert patience.left() == 30
