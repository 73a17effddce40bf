"""The operator in a task's hands, with the sandbox as Lago; no Airflow database."""

import json
import logging
import signal
import socket
from functools import partial
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from support import tasks
from support.deliveries import KEY, usage
from support.scripted import Reply, ScriptedServer, echo

from airflow_provider_lago.exceptions import (
    LagoConnectionError,
    LagoDeliveryError,
    LagoFatalDeliveryError,
    LagoInputError,
    LagoRejectedError,
)
from airflow_provider_lago.operators import LagoIngestEventsOperator

context = partial(tasks.context, task_id="deliver")


def operator(**arguments):
    return LagoIngestEventsOperator(task_id="deliver", **arguments)


def execute(**arguments):
    return operator(**arguments).execute(context())


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture(autouse=True)
def connection(lago_sandbox_connection):
    return lago_sandbox_connection


class TestDelivery:
    def test_a_list_of_records_is_in_lago_once_and_the_summary_is_small(self, lago_sandbox):
        summary = execute(records=usage(250))
        assert {name: summary[name] for name in ("read", "accepted", "duplicate", "rejected", "skipped", "requests")} == {
            "read": 250, "accepted": 250, "duplicate": 0, "rejected": 0, "skipped": 0, "requests": 3,
        }  # fmt: skip
        assert summary["reasons"] == {}
        assert summary["report"] == {}
        assert summary["seconds"] > 0
        assert lago_sandbox.count() == 250
        json.dumps(summary)

    def test_a_second_run_adds_nothing(self, lago_sandbox):
        execute(records=usage(250))
        summary = execute(records=usage(250))
        assert (summary["accepted"], summary["duplicate"]) == (0, 250)
        assert lago_sandbox.count() == 250

    def test_one_record_may_be_given_as_a_dict(self, lago_sandbox):
        assert execute(records=usage(1)[0])["accepted"] == 1

    def test_files_are_delivered_with_a_mapping(self, lago_sandbox, tmp_path):
        (tmp_path / "usage.csv").write_text("id,account,at,bytes\n7,acme,2023-11-14 17:13:20,512\n")
        execute(
            files=str(tmp_path / "*.csv"),
            fields={"external_subscription_id": "account", "timestamp": "at"},
            constants={"code": "traffic"},
            properties=["bytes"],
            transaction_id=["id"],
            timezone="America/New_York",
        )
        (event,) = lago_sandbox.events()
        assert event["transaction_id"] == "7"
        assert event["properties"] == {"bytes": "512"}
        assert event["timestamp"].startswith("2023-11-14T22:13:20")

    def test_batch_size_one_uses_the_endpoint_for_single_events(self, lago_sandbox):
        summary = execute(records=usage(3), batch_size=1)
        assert (summary["requests"], lago_sandbox.count()) == (3, 3)

    def test_one_time_for_all_records_comes_only_when_asked_for_by_name(self, lago_sandbox, caplog):
        records = [{name: value for name, value in row.items() if name != "timestamp"} for row in usage(2)]
        execute(records=records, constants={"timestamp": "now"})
        assert len({event["timestamp"] for event in lago_sandbox.events()}) == 1

    def test_the_log_says_what_happened_and_never_the_key(self, caplog):
        with caplog.at_level(logging.DEBUG):
            execute(records=usage(5), report_path=None)
        assert KEY not in caplog.text


class TestReport:
    def test_rejected_records_and_the_summary_lie_in_the_report_folder(self, tmp_path):
        records = usage(3)
        records[1]["timestamp"] = 1_700_000_000_123
        summary = execute(records=records, report_path=str(tmp_path / "report"), max_rejected=1)
        assert summary["reasons"] == {"timestamp: not a time": 1}
        line = json.loads(Path(summary["report"]["rejected"]).read_text())
        assert (line["position"], line["record"]["transaction_id"]) == (2, "t1")
        assert line["run"]["dag_id"] == "d"
        assert line["payload"] is None  # the record never became one
        saved = json.loads(Path(summary["report"]["summary"]).read_text())
        assert saved["accepted"] == 2

    def test_mapped_tasks_do_not_write_over_each_other(self, tmp_path):
        for index in (0, 1):
            operator(records=usage(1), report_path=tmp_path).execute(context(map_index=index))
        assert (tmp_path / "0" / "summary.json").exists()
        assert (tmp_path / "1" / "summary.json").exists()

    def test_a_report_that_cannot_be_written_is_known_before_anything_is_sent(self, lago_sandbox, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(LagoInputError, match="report_path"):
            execute(records=usage(1), report_path=str(tmp_path / "file" / "report"))
        assert lago_sandbox.count() == 0

    def test_a_share_is_exact(self, tmp_path):
        records = usage(100)
        for n in range(29):
            records[n]["code"] = ""
        assert execute(records=records, report_path=tmp_path, max_rejected=0.29)["rejected"] == 29

    def test_a_ca_bundle_that_is_none_is_an_error_of_the_connection(self, monkeypatch, tmp_path):
        (tmp_path / "ca.pem").write_text("no certificate")
        monkeypatch.setenv(
            "AIRFLOW_CONN_LAGO_DEFAULT",
            json.dumps(
                {
                    "conn_type": "lago",
                    "host": "https://127.0.0.1:1",
                    "password": KEY,
                    "extra": json.dumps({"ca_bundle": str(tmp_path / "ca.pem")}),
                }
            ),
        )
        with pytest.raises(LagoConnectionError, match="CA bundle"):
            execute(records=usage(1))

    def test_a_store_that_airflow_does_not_know_is_refused_before_anything_is_sent(self):
        with pytest.raises(LagoInputError, match=r"report_path 'nostore://bucket/report'.*provider of this store"):
            execute(records=usage(1), report_path="nostore://bucket/report")

    def test_a_task_that_is_killed_leaves_its_counts(self, tmp_path, monkeypatch):
        class Killed(BaseException):
            pass

        def kill(self):
            raise Killed

        monkeypatch.setattr("airflow_provider_lago.delivery.delivery._PROGRESS_EVERY", 0.1)
        monkeypatch.setattr("airflow_provider_lago.delivery.delivery.Delivery._log_progress", kill)
        with ScriptedServer(lambda request: Reply(200, b"", delay=0.3)) as server:
            monkeypatch.setenv(
                "AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": server.url, "password": KEY})
            )
            with pytest.raises(Killed):
                execute(records=usage(5_000), concurrency=1, report_path=tmp_path)
        saved = json.loads((tmp_path / "summary.json").read_text())
        assert saved["halted"] == "interrupted by Killed"
        assert saved["unsettled"] > 0

    def test_on_kill_ends_a_delivery_and_leaves_its_counts(self, tmp_path, monkeypatch):
        """Airflow 3 calls on_kill in its handler of SIGTERM and does nothing else."""
        with ScriptedServer(lambda request: Reply(200, b"", delay=20)) as server:
            monkeypatch.setenv(
                "AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": server.url, "password": KEY})
            )
            task = operator(records=usage(500), report_path=tmp_path)
            before = signal.signal(signal.SIGALRM, lambda *_: task.on_kill())
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            try:
                with pytest.raises(LagoDeliveryError, match="ended by Airflow") as caught:
                    task.execute(context())
            finally:
                signal.signal(signal.SIGALRM, before)
        assert not isinstance(caught.value, AirflowFailException)
        saved = json.loads((tmp_path / "summary.json").read_text())
        assert (saved["halted"], saved["unsettled"]) == ("interrupted by Stopped", 500)
        task.on_kill()

    def test_an_event_that_lago_refuses_is_reported_as_it_was_sent(self, lago_sandbox, tmp_path):
        lago_sandbox.add_metric("c", "sum_agg", field_name="twice", expression="event.properties.n * 2")
        record = {"id": 1, "account": "s", "at": "2026-11-02", "gb": "1.50"}
        summary = execute(
            records=[record],
            fields={"external_subscription_id": "account", "timestamp": "at"},
            constants={"code": "c"},
            properties=["gb"],
            transaction_id=["account", "id"],
            report_path=tmp_path,
            max_rejected=1,
        )
        line = json.loads(Path(summary["report"]["rejected"]).read_text())
        assert line["record"] == record
        assert line["payload"] == {
            "transaction_id": "s:1",
            "external_subscription_id": "s",
            "code": "c",
            "timestamp": line["payload"]["timestamp"],
            "properties": {"gb": "1.50"},
        }
        assert float(line["payload"]["timestamp"]) == 1_793_577_600


class TestReceipts:
    def test_they_lie_in_the_report_folder_and_are_named_in_the_summary(self, lago_sandbox, tmp_path):
        summary = execute(records=usage(5), report_path=tmp_path, receipts=True)
        lines = [json.loads(line) for line in Path(summary["report"]["receipts"]).read_text().splitlines()]
        assert [line["lago_id"] for line in lines] == [event["lago_id"] for event in lago_sandbox.events()]

    def test_without_being_asked_for_there_are_none(self, tmp_path):
        summary = execute(records=usage(5), report_path=tmp_path)
        assert set(summary["report"]) == {"rejected", "summary"}
        assert not (tmp_path / "receipts.jsonl").exists()

    def test_without_a_folder_they_are_refused_before_anything_is_sent(self, lago_sandbox):
        with pytest.raises(LagoInputError, match="'deliver': receipts need a folder to go to: set report_path"):
            execute(records=usage(1), receipts=True)
        assert lago_sandbox.requests == []


class TestLimit:
    @pytest.mark.parametrize("limit", [7, "7", " 7 "])
    def test_only_the_first_records_are_delivered(self, lago_sandbox, limit):
        assert execute(records=usage(250), limit=limit)["read"] == 7
        assert [event["transaction_id"] for event in lago_sandbox.events()] == [f"t{n}" for n in range(7)]

    @pytest.mark.parametrize("limit", [None, "", "None", 1_000])
    def test_no_limit_or_a_generous_one_delivers_all(self, limit):
        assert execute(records=usage(5), limit=limit)["accepted"] == 5

    @pytest.mark.parametrize("limit", [0, -1, "0", "x", 1.5, True])
    def test_what_is_no_count_is_refused(self, lago_sandbox, limit):
        with pytest.raises(LagoInputError, match="limit must be a whole number of at least 1"):
            execute(records=usage(5), limit=limit)
        assert lago_sandbox.requests == []

    def test_it_counts_over_all_files_and_what_is_rejected_counts(self, lago_sandbox, tmp_path):
        records = usage(10)
        records[0]["code"] = ""
        files = [write(tmp_path / "a.jsonl", records[:4]), write(tmp_path / "b.jsonl", records[4:])]
        summary = execute(files=files, limit=6, report_path=tmp_path / "report", max_rejected=1)
        assert (summary["read"], summary["accepted"], summary["rejected"]) == (6, 5, 1)
        assert [event["transaction_id"] for event in lago_sandbox.events()] == ["t1", "t2", "t3", "t4", "t5"]

    def test_the_trial_is_part_of_the_whole_delivered_later(self):
        execute(records=usage(150), limit=120)
        summary = execute(records=usage(150))
        assert (summary["accepted"], summary["duplicate"]) == (30, 120)


class TestThreshold:
    def records(self, bad):
        records = usage(100)
        for n in range(bad):
            records[n]["code"] = ""
        return records

    def test_a_rejected_record_fails_the_task_after_all_others_were_delivered(self, lago_sandbox, tmp_path):
        with pytest.raises(LagoRejectedError, match=r"1 of 100 records were rejected: code: missing \(1\)") as caught:
            execute(records=self.records(1), report_path=tmp_path)
        assert isinstance(caught.value, AirflowFailException)
        assert str(tmp_path / "rejected.jsonl") in str(caught.value)
        assert lago_sandbox.count() == 99

    @pytest.mark.parametrize("allowed", [5, 0.05, "5%", "5", "0.05"])
    def test_a_count_or_a_share_may_be_rejected(self, tmp_path, allowed):
        assert execute(records=self.records(5), report_path=tmp_path, max_rejected=allowed)["rejected"] == 5
        with pytest.raises(LagoRejectedError, match="more than max_rejected"):
            execute(records=self.records(6), report_path=tmp_path, max_rejected=allowed)

    def test_without_a_report_folder_no_record_may_be_rejected(self):
        with pytest.raises(LagoRejectedError, match="Set report_path"):
            execute(records=self.records(1), max_rejected=10)

    @pytest.mark.parametrize("value", [-1, 1.5, "many", None, "-1%", True, "120%"])
    def test_a_threshold_that_is_none_is_refused(self, value):
        with pytest.raises(LagoInputError, match="max_rejected"):
            execute(records=[], max_rejected=value)

    def test_duplicates_fail_the_task_where_that_is_wanted(self, lago_sandbox):
        execute(records=usage(3), on_duplicate="fail")
        with pytest.raises(LagoRejectedError, match="3 of 5 records were in Lago already"):
            execute(records=usage(5), on_duplicate="fail")
        assert lago_sandbox.count() == 5


class TestWrongInput:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({}, "not none of them"),
            ({"records": [], "files": "x.jsonl"}, "not records and files"),
            ({"files": "missing.jsonl"}, "'missing.jsonl' does not exist"),
            ({"files": "nothing-*.jsonl"}, "no file matches"),
            ({"records": "{{ x }}"}, "render_template_as_native_obj"),
            ({"records": [], "batch_size": 101}, "batch_size must be a whole number from 1 to 100"),
            ({"records": [], "batch_size": 0}, "batch_size"),
            ({"records": [], "concurrency": 0}, "concurrency"),
            ({"records": [], "requests_per_second": 0}, "requests_per_second"),
            ({"records": [], "requests_per_second": float("nan")}, "requests_per_second"),
            ({"records": [], "requests_per_second": "5"}, "requests_per_second"),
            ({"records": [], "report_path": 5}, "report_path"),
            ({"records": [], "timezone": "Europe"}, "'Europe' is not known"),
            ({"records": [], "timestamp_unit": "min"}, "timestamp_unit must be one of"),
            ({"records": [], "timezone": "Mars"}, "'Mars' is not known"),
            ({"records": [], "fields": {"cod": "x"}}, "fields names 'cod'"),
            ({"records": [], "constants": [1]}, "constants must be a dict"),
            ({"records": [], "transaction_id": "id"}, "did you mean"),
            ({"records": [], "on_duplicate": "ignore"}, "on_duplicate must be one of"),
            ({"records": [], "dry_run": "perhaps"}, "dry_run must be true or false"),
        ],
    )
    def test_an_argument_that_cannot_be_meant_fails_at_once_and_names_itself(self, arguments, says):
        with pytest.raises(LagoInputError, match=says) as caught:
            execute(**arguments)
        assert isinstance(caught.value, AirflowFailException)
        assert "'deliver'" in str(caught.value)

    def test_nothing_is_checked_when_the_dag_is_parsed(self):
        operator(records="{{ ti }}", files=5, batch_size=-1, lago_conn_id="none_such")

    def test_an_empty_file_is_an_error_unless_it_is_normal(self, tmp_path):
        (tmp_path / "a.jsonl").write_text("")
        with pytest.raises(LagoInputError, match="holds no records"):
            execute(files=str(tmp_path / "a.jsonl"))
        with pytest.raises(AirflowSkipException):
            execute(files=str(tmp_path / "a.jsonl"), skip_on_empty=True)

    def test_a_glob_without_files_skips_where_that_is_normal(self, tmp_path):
        with pytest.raises(AirflowSkipException, match="no file matches"):
            execute(files=str(tmp_path / "*.jsonl"), skip_on_empty=True)

    def test_no_records_at_all_is_fine_unless_the_task_shall_skip(self):
        assert execute(records=[])["read"] == 0
        with pytest.raises(AirflowSkipException):
            execute(records=[], skip_on_empty=True)

    def test_a_missing_connection_is_named(self):
        with pytest.raises(AirflowException, match="none_such"):
            execute(records=[], lago_conn_id="none_such")

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"password": ""}, "password"),
            ({"password": KEY, "extra": json.dumps({"region": "asia"})}, "region"),
            ({"password": KEY, "extra": json.dumps({"regoin": "eu"})}, "regoin"),
        ],
    )
    def test_a_wrong_connection_names_the_field(self, monkeypatch, fields, says):
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", **fields}))
        with pytest.raises(LagoConnectionError, match=says) as caught:
            execute(records=usage(1))
        assert KEY not in str(caught.value)


class TestLagoSaysNo:
    def connect(self, monkeypatch, **fields):
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "password": KEY, **fields}))

    def test_a_wrong_key_is_not_retried_and_says_what_to_check(self, monkeypatch, lago_sandbox):
        self.connect(monkeypatch, host=lago_sandbox.url, password="99999999-2222-4333-8444-555555555555")
        with pytest.raises(LagoFatalDeliveryError, match="check the password") as caught:
            execute(records=usage(3))
        assert isinstance(caught.value, AirflowFailException)
        assert "99999999" not in str(caught.value)

    def test_a_server_that_is_down_is_left_to_airflows_retries(self, monkeypatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.connect(monkeypatch, host=f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.wait", lambda *_: 0.01)
        with pytest.raises(LagoDeliveryError, match="refused the connection") as caught:
            execute(records=usage(3))
        assert not isinstance(caught.value, AirflowFailException)


class TestDryRun:
    def test_it_shows_the_first_requests_exactly_and_sends_nothing(self, lago_sandbox):
        shown = execute(records=usage(500), dry_run=True)
        assert lago_sandbox.count() == 0
        assert lago_sandbox.requests == []
        assert len(shown["preview"]) == 3
        assert shown["read"] == 300
        assert json.loads(shown["preview"][0]["body"]) == {"events": usage(100)}
        assert shown["preview"][0]["url"] == f"{lago_sandbox.url}/api/v1/events/batch"
        assert KEY not in json.dumps(shown)

    @pytest.mark.parametrize("batch_size", [1, 2, 100])
    def test_the_preview_is_byte_for_byte_what_is_then_sent(self, monkeypatch, tmp_path, batch_size):
        arguments = {
            "files": write(tmp_path / "a.jsonl", [{"id": n, "when": f"2026-11-02T09:00:0{n}.5Z", "eur": 0.1} for n in range(6)]),
            "fields": {"timestamp": "when"},
            "constants": {"code": "caf\u00e9", "external_subscription_id": "s", "properties.region": "eu"},
            "properties": ["eur"],
            "transaction_id": "hash",
            "batch_size": batch_size,
            "concurrency": 1,
        }  # fmt: skip
        with ScriptedServer(echo) as server:
            monkeypatch.setenv(
                "AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": server.url, "password": KEY})
            )
            shown = execute(**arguments, dry_run=True, report_path=tmp_path / "report")
            assert server.requests == []
            execute(**arguments)
        lines = [json.loads(line) for line in (tmp_path / "report" / "preview.jsonl").read_bytes().splitlines()]
        assert shown["preview"] == lines
        assert shown["report"] == {"preview": str(tmp_path / "report" / "preview.jsonl")}
        assert len(lines) == min(3, len(server.requests))
        for line, request in zip(lines, server.requests, strict=False):
            assert line["body"].encode() == request.body
            assert (line["method"], line["url"]) == (request.method, server.url + request.path)
            assert line["records"] == len(request.events)

    def test_it_is_of_the_limited_source_and_leaves_earlier_reports_alone(self, lago_sandbox, tmp_path):
        execute(records=usage(3), report_path=tmp_path, receipts=True)
        before = (tmp_path / "summary.json").read_bytes()
        shown = execute(records=usage(250), limit=120, dry_run=True, report_path=tmp_path)
        assert [request["records"] for request in shown["preview"]] == [100, 20]
        assert lago_sandbox.count() == 3
        assert (tmp_path / "summary.json").read_bytes() == before
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "preview.jsonl", "receipts.jsonl", "rejected.jsonl", "summary.json",
        ]  # fmt: skip

    def test_a_template_gives_text(self, lago_sandbox):
        assert execute(records=usage(1), dry_run="True")["dry_run"]
        assert "dry_run" not in execute(records=usage(1), dry_run="False")


class TestTemplates:
    def test_functions_survive_the_rendering_of_templates(self, lago_sandbox):
        records = [{name: value for name, value in row.items() if name != "transaction_id"} for row in usage(2)]
        task = operator(
            records=records,
            transform=lambda record: {**record, "code": "changed"},
            transaction_id=lambda record: f"id-{record['properties']['n']}",
        )
        task.render_template_fields({})
        task.execute(context())
        assert {event["transaction_id"] for event in lago_sandbox.events()} == {"id-0", "id-1"}

    def test_sources_paths_and_switches_are_templated(self):
        task = operator(
            records="{{ rows }}",
            files="/data/{{ ds }}/*.jsonl",
            constants={"code": "{{ code }}"},
            report_path="/reports/{{ run }}",
            dry_run="{{ dry }}",
            lago_conn_id="lago_{{ env }}",
        )
        task.render_template_fields(
            {"rows": "r", "ds": "2026-01-01", "code": "c", "run": "x", "dry": True, "env": "eu"}
        )
        assert task.files == "/data/2026-01-01/*.jsonl"
        assert task.constants == {"code": "c"}
        assert (task.report_path, task.preview, task.lago_conn_id) == ("/reports/x", "True", "lago_eu")

    def test_limit_receipts_and_the_ways_of_answers_are_templated(self, lago_sandbox, tmp_path):
        task = operator(
            records=usage(5),
            limit="{{ params.limit }}",
            receipts="{{ params.receipts }}",
            report_path=f"{tmp_path}/{{{{ run_id }}}}",
            responses_path="{{ run_id }}/answers.jsonl",
            response_webhook_conn_id="hook_{{ run_id }}",
            response_webhook_path="lago/{{ run_id }}",
        )
        task.render_template_fields({"params": {"limit": 2, "receipts": True}, "run_id": "x"})
        assert (task.responses_path, task.response_webhook_conn_id, task.response_webhook_path) == (
            "x/answers.jsonl", "hook_x", "lago/x",
        )  # fmt: skip
        task.responses_path = task.response_webhook_conn_id = task.response_webhook_path = None
        summary = task.execute(context())
        assert summary["read"] == 2
        assert len((tmp_path / "x" / "receipts.jsonl").read_bytes().splitlines()) == 2

    def test_template_text_in_a_record_stays_text(self, lago_sandbox):
        execute(records=usage(1, properties={"note": "{{ conn.lago_default.password }}"}))
        assert lago_sandbox.events()[0]["properties"]["note"] == "{{ conn.lago_default.password }}"
