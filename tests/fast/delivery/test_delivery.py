"""The engine over real HTTP, against a server that answers as each test says."""

import json
import logging
import re

import pytest
from support.deliveries import QUICK, connection, usage
from support.lago import INVALID, Store, first_broken, ids
from support.scripted import CUT, Reply, ScriptedServer, as_json, echo, refused

from airflow_provider_lago.delivery.checkpoint import Durability, FolderCheckpoints, read_checkpoint
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.report import FolderReport, ReportInUseError
from airflow_provider_lago.delivery.responses import FileResponses
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.rows import Row
from airflow_provider_lago.sources.values import ValueSource
from airflow_provider_lago.storage.folders import LocalFolder


class TestSettling:
    def test_one_bad_event_in_each_of_1000_batches_costs_one_more_request_and_itself(self, deliver):
        def answer(request):
            bad = {str(n): INVALID for n, event in enumerate(ids(request)) if event.endswith("42")}
            return refused(bad) if bad else echo(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(100_000), concurrency=16)
        assert run.counts == (100_000, 99_000, 0, 1_000, 0)
        assert len(server.requests) == run.tally.requests == 2_000

    def test_records_that_the_transform_leaves_out_count_as_skipped_and_the_counts_add_up(self, deliver):
        shaping = EventShaping(transform=lambda record: record if record["properties"]["n"] % 3 else None)
        with ScriptedServer(echo) as server:
            run = deliver(server, usage(300), shaping=shaping)
        assert run.counts == (300, 200, 0, 0, 100)
        assert run.tally.settled == 300

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
        assert line["payload"]["transaction_id"] == "t0"
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
        store = Store()
        with ScriptedServer(first_broken(store.take, CUT)) as server:
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
        store = Store()
        with ScriptedServer(first_broken(store.take, broken)) as server:
            run = deliver(server, usage(300), settings=connection(server.url, read_timeout=0.3))
        assert run.counts == (300, 300, 0, 0, 0)
        assert set(store.held.values()) == {1}

    def test_events_known_before_stay_duplicates_although_an_answer_was_lost(self, deliver):
        store = Store()
        store.held.update(["t3"])
        with ScriptedServer(first_broken(store.take, CUT)) as server:
            run = deliver(server, usage(10))
        assert run.counts == (10, 9, 1, 0, 0)


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
        assert json.loads((run.folder / "rejected.1.jsonl").read_text())["payload"]["transaction_id"] == "t0"
        assert json.loads((run.folder / "rejected.jsonl").read_text())["payload"]["transaction_id"] == "t5"

    def test_the_key_is_in_no_evidence(self, deliver):
        with ScriptedServer(lambda request: refused({"0": INVALID})) as server:
            run = deliver(server, usage(1))
            key = server.requests[0].headers["authorization"].removeprefix("Bearer ")
        assert all(key not in path.read_text() for path in run.folder.iterdir())
        assert key not in repr(connection("http://x"))


class TestRequests:
    @pytest.mark.parametrize(("less", "sizes"), [(0, [3]), (1, [2, 1])])
    def test_a_body_may_be_as_long_as_allowed_and_no_byte_longer(self, deliver, less, sizes):
        with ScriptedServer(echo) as server:
            deliver(server, usage(3))
            longest = len(server.requests.pop().body)
            deliver(server, usage(3), max_bytes=longest - less, concurrency=1)
        assert [len(request.events) for request in server.requests] == sizes

    def test_what_is_left_out_is_left_out_of_lines_of_json_too(self, deliver, tmp_path):
        path = tmp_path / "usage.jsonl"
        path.write_text(json.dumps({**usage(1)[0], "noise": 1}))
        with ScriptedServer(echo) as server:
            run = deliver(server, FileSource(path), shaping=EventShaping(exclude=["noise"]))
        assert run.counts == (1, 1, 0, 0, 0)
        assert server.requests[0].events == usage(1)

    def test_twins_may_be_written_differently(self, deliver, tmp_path):
        (event,) = usage(1)
        path = tmp_path / "usage.jsonl"
        path.write_text(json.dumps(event) + "\n" + json.dumps(dict(reversed(event.items())), separators=(",", ":")))
        with ScriptedServer(echo) as server:
            run = deliver(server, FileSource(path))
        assert run.counts == (2, 1, 1, 0, 0)
        assert len(server.requests[0].events) == 1


class TestAnotherTry:
    def test_it_sends_only_what_has_no_outcome_yet(self, tmp_path):
        store, records = Store(), [*usage(1), *usage(7), *usage(13, 7)]
        store.held.update(f"t{n}" for n in range(7))
        served = []

        def answer(request):
            served.append(ids(request))
            return store.take(request) if len(served) != 3 else as_json(401, {"status": 401, "error": "Unauthorized"})

        def deliver(found):
            folder = LocalFolder(tmp_path)
            checkpoints = FolderCheckpoints(folder)
            report = FolderReport(folder, {"run_id": "r"}, marks=found.evidence if found else None)
            plan = EventPlan(
                source=ValueSource(records),
                settings=connection(server.url),
                user_agent="test",
                shaping=EventShaping(),
                policy=QUICK,
                batch_size=5,
                concurrency=1,
            )
            durability = Durability(checkpoints, "mark", None, found)
            result = Delivery(plan, report, logging.getLogger("test"), durability=durability).run()
            report.finish(result.summary())
            return result, checkpoints.load()

        with ScriptedServer(answer) as server:
            first, saved = deliver(None)
            second, _ = deliver(read_checkpoint(saved, "mark", None))
        assert first.halt.final
        # Five that Lago has, one of them said twice; then two that it has among five, and the key is revoked.
        assert (first.tally.duplicate, first.tally.accepted) == (6 + 2, 0)
        assert [len(batch) for batch in served[:3]] == [5, 5, 3]
        sent_again = {name for batch in served[3:] for name in batch}
        assert not sent_again & {f"t{n}" for n in range(5)}
        assert second.tally.read == second.tally.settled == len(records)
        assert set(store.held.values()) == {1}


class TestAnswersHandedOn:
    def test_each_answer_that_gives_records_their_outcome_with_the_records_of_its_request(self, deliver, tmp_path):
        store = Store()
        store.held.update(["t1"])

        def answer(request):
            return Reply(413) if "t2" in ids(request) else store.take(request)

        with ScriptedServer(answer) as server:
            run = deliver(server, usage(4), concurrency=1, responses=FileResponses(tmp_path / "responses.jsonl"))
        assert run.counts == (4, 2, 1, 1, 0)
        lines = [json.loads(line) for line in (tmp_path / "responses.jsonl").read_bytes().splitlines()]
        assert [(line["status"], [record["id"] for record in line["records"]]) for line in lines] == [
            (422, ["t0", "t1"]),
            (200, ["t0"]),
            (413, ["t2"]),
            (200, ["t3"]),
        ]
        assert {(line["method"], line["path"]) for line in lines} == {("POST", "events/batch")}
        assert lines[2]["position"] == 3


class TestRejectsInTheLog:
    @pytest.mark.parametrize("count", [10, 11, 25])
    def test_the_first_ten_are_named_and_the_rest_is_told_of_once(self, deliver, caplog, count):
        with ScriptedServer(echo) as server:
            run = deliver(server, usage(count, code=None))
        assert run.tally.rejected == count
        named = [message for message in caplog.messages if message.startswith("Rejected ")]
        assert len(named) == 10
        assert all(f"(transaction_id 't{n}')" in message for n, message in enumerate(named))
        further = [message for message in caplog.messages if message.startswith("Further rejected")]
        assert len(further) == (count > 10)

    def test_a_long_id_is_cut(self, deliver, caplog):
        with ScriptedServer(echo) as server:
            deliver(server, usage(1, transaction_id="x" * 200, code=None))
        assert f"(transaction_id '{'x' * 80}')" in caplog.text

    def test_twins_of_an_event_that_lago_refuses_are_reported_at_their_own_places(self, deliver):
        with ScriptedServer(lambda request: refused({"0": INVALID})) as server:
            run = deliver(server, [*usage(1), *usage(1)])
        assert run.counts == (2, 0, 0, 2, 0)
        lines = [json.loads(line) for line in (run.folder / "rejected.jsonl").read_bytes().splitlines()]
        assert [(line["position"], line["line"]) for line in lines] == [(1, 1), (2, 2)]
        assert {line["reason"] for line in lines} == {"timestamp: invalid_format"}
