"""Reports in an object store, through Airflow's own paths and Amazon's provider, against S3's API on this machine."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from support import tasks
from support.deliveries import KEY, connection, usage
from support.scripted import Reply, ScriptedServer
from support.states import State
from support.stores import memory_folder

from airflow_provider_lago.delivery import delivery, keeper
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.keeper import Rhythm
from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.exceptions import LagoDeliveryError, LagoInputError, LagoRejectedError
from airflow_provider_lago.operators import LagoExtractOperator, LagoIngestEventsOperator, LagoUpsertCustomerOperator
from airflow_provider_lago.sources.values import ValueSource
from airflow_provider_lago.storage.folders import StoreFolder

RECORDS = 3_000
INVALID = range(7, RECORDS, 50)

context = partial(tasks.context, task_id="deliver", max_tries=3)


@pytest.fixture(autouse=True)
def lago(lago_sandbox, lago_sandbox_connection, monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.__init__.__defaults__", (3, 0.01, 0.02))
    return lago_sandbox


@pytest.fixture
def often(monkeypatch):
    """Checkpoints as often as short deliveries need them to be gone on with."""
    monkeypatch.setattr(delivery, "REMOTE", Rhythm(records=200, seconds=0.1, ahead=400))


@pytest.fixture
def source(tmp_path):
    records = usage(RECORDS)
    for number in INVALID:
        del records[number]["code"]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def deliver(bucket, folder="run", tries=1, state=None, kind=LagoIngestEventsOperator, map_index=-1, **arguments):
    operator = kind(task_id="deliver", report_path=bucket.uri(folder), **{"max_rejected": "50%", **arguments})
    more = {} if state is None else {"task_state_store": state}
    return operator.execute(context(more, try_number=tries, map_index=map_index))


def check(bucket, lago, summary, folder="run"):
    """Every record is in Lago once or in rejected.jsonl once, and has one receipt."""
    valid = [number for number in range(RECORDS) if number not in INVALID]
    assert Counter(event["transaction_id"] for event in lago.events()) == Counter(f"t{n}" for n in valid)
    assert [line["position"] - 1 for line in bucket.lines(f"{folder}/rejected.jsonl")] == list(INVALID)
    receipts = bucket.lines(f"{folder}/receipts.jsonl")
    assert sorted(line["position"] for line in receipts) == list(range(1, RECORDS + 1))
    assert Counter(line["outcome"] for line in receipts) == {
        name: summary[name] for name in ("accepted", "duplicate", "rejected") if summary[name]
    }
    assert summary["read"] == RECORDS
    left = set(bucket.objects(f"{folder}/"))
    assert not [name for name in left if name.endswith(".part") or name == "checkpoint.jsonl"]
    return left


class TestReports:
    def test_events_leave_whole_objects_that_hold_everything(self, bucket, lago, source, often):
        summary = deliver(bucket, "a run/with+odd:signs=1", files=source, receipts=True)
        left = check(bucket, lago, summary, "a run/with+odd:signs=1")
        assert left == {"rejected.jsonl", "receipts.jsonl", "summary.json"}
        assert summary["report"]["rejected"] == bucket.uri("a run/with+odd:signs=1") + "/rejected.jsonl"
        assert json.loads(bucket.objects()["a run/with+odd:signs=1/summary.json"])["rejected"] == len(INVALID)

    def test_customers_leave_a_report_too(self, bucket):
        records = [{"external_id": "c1", "name": "C"}, {"external_id": "", "name": "D"}]
        summary = deliver(bucket, kind=LagoUpsertCustomerOperator, records=records, receipts=True)
        assert (summary["accepted"], summary["rejected"]) == (1, 1)
        assert [line["record"]["name"] for line in bucket.lines("run/rejected.jsonl")] == ["D"]
        assert len(bucket.lines("run/receipts.jsonl")) == 2

    def test_a_run_keeps_what_an_earlier_one_left_and_mapped_tasks_have_folders_of_their_own(self, bucket):
        deliver(bucket, records=usage(2))
        deliver(bucket, records=usage(3, code=""), receipts=True, max_rejected="100%")
        deliver(bucket, "mapped", map_index=4, records=usage(1, code=""), max_rejected=1)
        assert set(bucket.objects()) == {
            "run/rejected.jsonl", "run/receipts.jsonl", "run/summary.json", "run/rejected.1.jsonl", "run/summary.1.json",
            "mapped/4/rejected.jsonl", "mapped/4/summary.json",
        }  # fmt: skip
        assert len(bucket.lines("run/rejected.jsonl")) == 3

    def test_a_dry_run_leaves_the_requests(self, bucket):
        summary = deliver(bucket, records=usage(2), dry_run=True)
        assert summary["report"] == {"preview": bucket.uri("run/preview.jsonl")}
        assert len(bucket.lines("run/preview.jsonl")) == 1
        assert set(bucket.objects()) == {"run/preview.jsonl"}

    def test_answers_that_a_webhook_did_not_take_are_kept(self, bucket, monkeypatch):
        with ScriptedServer(lambda _: Reply(400)) as hook:
            monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps({"conn_type": "http", "host": hook.url}))
            for first in (0, 250):
                deliver(bucket, records=usage(250, first), response_webhook_conn_id="hook")
        assert len(bucket.lines("run/unforwarded.jsonl")) == 3
        assert len(bucket.lines("run/unforwarded.1.jsonl")) == 3

    def test_nothing_is_asked_of_the_store_where_events_are_sent(self, bucket, source, often, monkeypatch):
        asked = Counter()

        def noting(name):
            given = getattr(StoreFolder, name)

            def ask(self, *arguments, **named):
                asked[threading.current_thread().name, name] += 1
                return given(self, *arguments, **named)

            return ask

        for name in ("read", "write", "remove", "sizes", "chunks", "join"):
            monkeypatch.setattr(StoreFolder, name, noting(name))
        with ScriptedServer(lambda _: Reply(400)) as hook:
            monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps({"conn_type": "http", "host": hook.url}))
            deliver(bucket, files=source, receipts=True, response_webhook_conn_id="hook")
        assert "lago-delivery" not in {thread for thread, _ in asked}
        assert asked["lago-keeper", "write"] > 2


class TestEnds:
    @pytest.mark.parametrize("writes", [4, 9, 20])
    def test_a_killed_task_leaves_whole_lines_and_its_retry_goes_on(self, bucket, lago, source, often, writes):
        kill(bucket, lago, source, writes)
        left = bucket.objects("run/")
        assert all(content.endswith(b"\n") for content in left.values())
        resumes = "checkpoint.jsonl" in left
        summary = deliver(bucket, files=source, receipts=True, tries=2)
        after = check(bucket, lago, summary)
        assert ("rejected.1.jsonl" not in after) or not resumes
        assert summary["duplicate"] == 0 or not resumes

    def test_without_a_checkpoint_the_parts_of_the_first_try_are_kept_as_files(self, bucket, lago, source, often):
        kill(bucket, lago, source, 9)
        parts = bucket.objects("run/.rejected.jsonl.")
        assert parts
        summary = deliver(bucket, files=source, receipts=True, tries=2, durable=False)
        after = check(bucket, lago, summary)
        assert after == {f"{name}{number}.{kind}" for number in ("", ".1") for name, kind in (
            ("rejected", "jsonl"), ("receipts", "jsonl"), ("summary", "json"))}  # fmt: skip
        assert bucket.objects("run/rejected.1.jsonl")[""] == b"".join(parts[name] for name in sorted(parts))

    @pytest.mark.parametrize("state", [None, State()], ids=["checkpoint in the folder", "checkpoint in Airflow"])
    def test_a_stopped_delivery_goes_on_with_its_joined_files(self, bucket, lago, source, often, state):
        rule = lago.fault("error", path="/events/batch", skip=15, status=503)
        with pytest.raises(LagoDeliveryError, match="Delivery stopped"):
            deliver(bucket, files=source, receipts=True, state=state)
        before = len(bucket.lines("run/receipts.jsonl"))
        assert before
        assert rule.fired
        lago.clear_faults()
        summary = deliver(bucket, files=source, receipts=True, tries=2, state=state)
        assert summary["duplicate"] == 0
        assert check(bucket, lago, summary) == {"rejected.jsonl", "receipts.jsonl", "summary.json"}

    def test_a_store_that_fails_in_mid_run_ends_the_try_and_loses_nothing(self, bucket, lago, source, often):
        bucket.refuse = fails(lambda request: request.method == "PUT" and ".part" in request.path, after=3)
        with pytest.raises(LagoDeliveryError, match=r"Delivery stopped: the report cannot be .*cannot be finished"):
            deliver(bucket, files=source, receipts=True)
        bucket.refuse = lambda request: None
        summary = deliver(bucket, files=source, receipts=True, tries=2)
        assert check(bucket, lago, summary) == {"rejected.jsonl", "receipts.jsonl", "summary.json"}

    @pytest.mark.parametrize("name", ["rejected.jsonl", "receipts.jsonl", "summary.json"])
    def test_an_end_that_fails_half_way_is_made_good_by_the_retry(self, bucket, lago, source, often, name):
        bucket.refuse = fails(lambda request: request.method == "PUT" and request.path.endswith(f"/{name}"),
                              after=1 if name == "summary.json" else 0)  # fmt: skip
        with pytest.raises(
            LagoDeliveryError, match=r"the report in 's3://.*/run' cannot be finished: .*ServiceUnavailable"
        ):
            deliver(bucket, files=source, receipts=True)
        bucket.refuse = lambda request: None
        summary = deliver(bucket, files=source, receipts=True, tries=2)
        assert summary["duplicate"] == 0
        assert check(bucket, lago, summary) == {"rejected.jsonl", "receipts.jsonl", "summary.json"}


class TestRefusals:
    """Before anything is sent."""

    def test_a_bucket_that_is_not_there(self, bucket, lago):
        bucket.name = "nosuch"
        with pytest.raises(LagoInputError, match=r"report_path 's3://.*@nosuch/run' cannot be written: .*bucket"):
            deliver(bucket, records=usage(1))
        assert lago.count() == 0

    def test_credentials_that_are_wrong(self, bucket, lago):
        bucket.refuse = lambda request: (403, "InvalidAccessKeyId")
        with pytest.raises(LagoInputError, match=r"report_path 's3://.*/run' cannot be written: .*InvalidAccessKeyId"):
            deliver(bucket, records=usage(1))
        assert lago.count() == 0

    def test_a_connection_that_is_not_there(self, bucket, lago):
        bucket.conn_id = "nosuch"
        with pytest.raises(LagoInputError, match=r"report_path 's3://nosuch@.*nosuch.* isn't defined"):
            deliver(bucket, records=usage(1))
        assert lago.count() == 0

    def test_a_store_that_is_busy_is_asked_again_by_a_retry(self, bucket, lago):
        bucket.refuse = lambda request: (503, "ServiceUnavailable")
        with pytest.raises(
            LagoDeliveryError, match=r"cannot be written: .*ServiceUnavailable.*Nothing was sent"
        ) as raised:
            deliver(bucket, records=usage(1))
        assert not isinstance(raised.value, (LagoInputError, LagoRejectedError))
        assert lago.count() == 0


class TestASlowStore:
    def test_what_waits_for_it_is_bounded(self, lago, monkeypatch):
        monkeypatch.setattr(keeper, "_MOST_HELD", 64 << 10)
        folder, fs = memory_folder()
        report = FolderReport(folder, {"run_id": "r"}, receipts=True)
        plan = EventPlan(
            source=ValueSource(usage(4_000)),
            shaping=EventShaping(),
            settings=connection(lago.url),
            user_agent="test",
            concurrency=4,
        )
        run = delivery.Delivery(plan, report)
        peaks = []

        def wait_until_the_delivery_waits(what, path):
            if path.endswith(".part"):
                read = -1
                while read != run.tally.read:
                    read = run.tally.read
                    threading.Event().wait(0.2)
                peaks.append(report.held)

        fs.before = wait_until_the_delivery_waits
        result = run.run()
        report.finish(result.summary())
        assert result.tally.accepted == 4_000
        assert len(folder.read("receipts.jsonl").splitlines()) == 4_000
        in_flight = (plan.concurrency + 1) * plan.batch_size * 300
        assert max(peaks) <= (64 << 10) + in_flight
        assert len(folder.read("receipts.jsonl")) > 2 * max(peaks)


class TestExtraction:
    def test_its_parts_are_whole_objects_and_a_retry_goes_on_behind_them(self, bucket, lago):
        for first in range(0, 60, 20):
            lago.post("/events/batch", {"events": usage(20, first)})
        bucket.refuse = fails(lambda request: request.path.endswith("part-000002.jsonl"), status=(500, "InternalError"))
        extract = LagoExtractOperator(
            task_id="extract", endpoint="events", path=bucket.uri("lists"), per_page=10, pages_per_part=2
        )
        with pytest.raises(OSError, match="InternalError"):
            extract.execute(tasks.context(task_id="extract"))
        assert set(bucket.objects("lists/")) == {"extract.json", "part-000001.jsonl"}
        bucket.refuse = lambda request: None
        summary = extract.execute(tasks.context(task_id="extract", try_number=2))
        assert (summary["items"], summary["resumed_at_page"]) == (60, 3)
        parts = bucket.objects("lists/part-")
        ids = [json.loads(line)["transaction_id"] for name in sorted(parts) for line in parts[name].splitlines()]
        assert ids == [f"t{n}" for n in reversed(range(60))]


def fails(wanted, *, after=0, status=(503, "ServiceUnavailable")):
    """Return what refuses all wanted requests after the first few."""
    seen = iter(range(1_000_000))
    return lambda request: status if wanted(request) and next(seen) >= after else None


def kill(bucket, lago, source, writes):
    """Deliver in another process, which ends itself by SIGKILL when it has written so many objects."""
    script = f"""
        import os, signal
        from support import tasks
        from airflow_provider_lago.delivery import delivery
        from airflow_provider_lago.delivery.keeper import Rhythm
        from airflow_provider_lago.operators import LagoIngestEventsOperator
        from airflow_provider_lago.storage.folders import StoreFolder

        delivery.REMOTE = Rhythm(records=200, seconds=0.1, ahead=400)
        write, written = StoreFolder.write, iter(range(1, {writes} + 1))

        def write_and_die(self, name, chunks):
            write(self, name, chunks)
            if next(written) == {writes}:
                os.kill(os.getpid(), signal.SIGKILL)

        StoreFolder.write = write_and_die
        LagoIngestEventsOperator(
            task_id="deliver", files={source!r}, report_path={bucket.uri("run")!r}, receipts=True, max_rejected="50%"
        ).execute(tasks.context(task_id="deliver", max_tries=3))
    """
    name, value = bucket.environment
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        name: value,
        "AIRFLOW_CONN_LAGO_DEFAULT": json.dumps({"conn_type": "lago", "host": lago.url, "password": KEY}),
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
    }
    # No pipes: what the killed process has started would hold them open.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -9
