"""A retry goes on where the try before left off, and its summary covers all tries."""

import json
import threading
from functools import partial

import pytest
from support import tasks
from support.deliveries import usage
from support.lago import INVALID, Store, ids
from support.scripted import Reply, ScriptedServer, echo, refused
from support.states import State

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.exceptions import LagoDeliveryError, LagoRejectedError
from airflow_provider_lago.operators import LagoIngestEventsOperator, LagoUpsertCustomerOperator

context = partial(tasks.context, task_id="deliver", max_tries=3)
COUNTS = ("read", "accepted", "duplicate", "rejected", "skipped")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.__init__.__defaults__", (3, 0.01, 0.02))


@pytest.fixture
def lago(monkeypatch):
    """A server whose answers a test may change, and the connection to it."""

    class Lago:
        def __init__(self):
            self.store = Store()
            self.answer = self.store.take

    lago = Lago()
    with ScriptedServer(lambda request: lago.answer(request)) as server:  # noqa: PLW0108 - the answer changes
        lago.server = server
        monkeypatch.setenv(
            "AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": server.url, "password": "k"})
        )
        yield lago


def fails_after(requests, answer):
    """Answer so many requests, and all others with an outage."""
    left = [requests]

    def reply(request):
        left[0] -= 1
        return answer(request) if left[0] >= 0 else Reply(503, b"down")

    return reply


def deliver(state, tries=1, more=None, **arguments):
    operator = LagoIngestEventsOperator(task_id="deliver", **{"concurrency": 2, **arguments})
    given = {} if state is None else {"task_state_store": state}
    return operator.execute(context(given, try_number=tries, **(more or {})))


def sent(lago):
    return [event for request in lago.server.requests for event in ids(request)]


def counts(summary):
    return tuple(summary[name] for name in COUNTS)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def said(caplog, capsys):
    """What the tasks' log says: Airflow 3 writes it out by itself."""
    caplog.set_level("INFO")
    return lambda: caplog.text + capsys.readouterr().out


@pytest.fixture
def source(tmp_path):
    """10,000 records, each hundredth of which is invalid."""
    records = usage(10_000)
    for number in range(50, 10_000, 100):
        del records[number]["code"]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture(params=["state store", "file"])
def place(request, tmp_path):
    """Where the checkpoint is: Airflow's store, or a file in the report's folder."""
    return State() if request.param == "state store" else None


class TestRetry:
    def test_it_goes_on_and_its_summary_and_report_cover_all_tries(self, lago, source, tmp_path, place):
        report = tmp_path / "report"
        arguments = {"files": source, "report_path": report, "receipts": True, "max_rejected": "1%"}
        lago.answer = fails_after(40, lago.store.take)
        with pytest.raises(LagoDeliveryError):
            deliver(place, **arguments)
        first = len(lago.server.requests)
        lago.answer = lago.store.take
        summary = deliver(place, tries=2, **arguments)
        assert counts(summary) == (10_000, 9_900, 0, 100, 0)
        assert set(lago.store.held.values()) == {1}
        assert len(lago.store.held) == 9_900
        assert len(lago.server.requests) - first <= 100 - 40
        assert summary["requests"] == len(lago.server.requests)
        assert sorted(line["position"] for line in lines(report / "rejected.jsonl")) == list(range(51, 10_000, 100))
        assert sorted(line["position"] for line in lines(report / "receipts.jsonl")) == list(range(1, 10_001))
        assert sorted(file.name for file in report.iterdir()) == ["receipts.jsonl", "rejected.jsonl", "summary.json"]

    def test_after_success_nothing_is_left_of_the_checkpoint(self, lago, source, tmp_path, place):
        deliver(place, files=source, report_path=tmp_path / "report", max_rejected=100)
        assert not (tmp_path / "report" / "checkpoint.jsonl").exists()
        assert place is None or place.values == {}

    def test_nor_after_too_many_rejects_which_no_retry_follows(self, lago, source, tmp_path, place):
        with pytest.raises(LagoRejectedError):
            deliver(place, files=source, report_path=tmp_path / "report")
        assert not (tmp_path / "report" / "checkpoint.jsonl").exists()
        assert place is None or place.values == {}

    def test_a_third_try_goes_on_after_the_second(self, lago, source, tmp_path, place):
        arguments = {"files": source, "report_path": tmp_path / "report", "max_rejected": "1%"}
        for tries in (1, 2):
            lago.answer = fails_after(30, lago.store.take)
            with pytest.raises(LagoDeliveryError):
                deliver(place, tries, **arguments)
        lago.answer = lago.store.take
        before = len(lago.server.requests)
        assert counts(deliver(place, 3, **arguments)) == (10_000, 9_900, 0, 100, 0)
        assert len(lago.server.requests) - before <= 40

    def test_records_of_another_task_are_gone_on_with_too(self, lago, tmp_path, place):
        arguments = {"records": usage(5_000), "report_path": tmp_path / "report"}
        lago.answer = fails_after(20, lago.store.take)
        with pytest.raises(LagoDeliveryError):
            deliver(place, **arguments)
        lago.answer = lago.store.take
        assert counts(deliver(place, 2, **arguments)) == (5_000, 5_000, 0, 0, 0)
        assert len(sent(lago)) < 5_000 + 10 * 100

    def test_what_was_in_flight_and_is_in_lago_counts_as_accepted(self, lago, source, tmp_path, place):
        """It was this task that sent it: that Lago calls it a duplicate says only that an answer was lost."""

        def store_and_go_down(request):
            reply = lago.store.take(request)
            return reply if len(lago.store.held) < 3_000 else Reply(503, b"stored, and the proxy gave up")

        arguments = {"files": source, "report_path": tmp_path / "report", "max_rejected": "1%", "on_duplicate": "fail"}
        lago.answer = store_and_go_down
        with pytest.raises(LagoDeliveryError):
            deliver(place, **arguments)
        lago.answer = lago.store.take
        assert counts(deliver(place, 2, **arguments)) == (10_000, 9_900, 0, 100, 0)

    def test_customers_go_on_as_well(self, lago_sandbox, lago_sandbox_connection, tmp_path, place):
        records = [{"external_id": f"c{n}", "name": f"n{n}"} for n in range(60)]

        def upsert(tries):
            operator = LagoUpsertCustomerOperator(
                task_id="deliver", records=records, concurrency=2, report_path=tmp_path / "report"
            )
            given = {} if place is None else {"task_state_store": place}
            return operator.execute(context(given, try_number=tries))

        lago_sandbox.fault("error", status=503, method="POST", skip=30)
        with pytest.raises(LagoDeliveryError):
            upsert(1)
        lago_sandbox.clear_faults()
        summary = upsert(2)
        assert (summary["read"], summary["accepted"], summary["created"]) == (60, 60, 60)


class TestAnew:
    @pytest.fixture
    def broken_off(self, lago, source, tmp_path, place):
        """A try that was broken off after 40 requests; returns the arguments of the next."""
        arguments = {"files": source, "report_path": tmp_path / "report", "max_rejected": "1%"}
        lago.answer = fails_after(40, lago.store.take)
        with pytest.raises(LagoDeliveryError):
            deliver(place, **arguments)
        lago.answer = lago.store.take
        lago.server.requests.clear()
        return arguments

    def assert_all_sent_again(self, lago, summary):
        assert len(set(sent(lago))) == 9_900
        assert summary["accepted"] + summary["duplicate"] == 9_900
        assert set(lago.store.held.values()) == {1}

    def test_a_cleared_task_delivers_all_again(self, lago, place, broken_off, said):
        summary = deliver(place, 2, {"max_tries": 4}, **broken_off)
        self.assert_all_sent_again(lago, summary)
        assert "was cleared" in said()

    def test_a_source_that_changed_is_delivered_anew(self, lago, place, broken_off, source, said):
        with open(source, "a") as stream:
            stream.write("\n")
        self.assert_all_sent_again(lago, deliver(place, 2, **broken_off))
        assert "the source, the shaping or the connection" in said()

    def test_another_shaping_begins_anew(self, lago, place, broken_off):
        self.assert_all_sent_again(lago, deliver(place, 2, **broken_off, exclude=["nothing"]))

    def test_a_report_that_is_gone_is_written_anew(self, lago, place, broken_off, tmp_path, said):
        (tmp_path / "report" / "rejected.jsonl").unlink()
        self.assert_all_sent_again(lago, deliver(place, 2, **broken_off))
        assert len(lines(tmp_path / "report" / "rejected.jsonl")) == 100
        assert "not there any more" in said()

    def test_durable_false_keeps_nothing(self, lago, source, tmp_path, place):
        arguments = {"files": source, "report_path": tmp_path / "report", "max_rejected": "1%", "durable": False}
        lago.answer = fails_after(40, lago.store.take)
        with pytest.raises(LagoDeliveryError):
            deliver(place, **arguments)
        assert not (tmp_path / "report" / "checkpoint.jsonl").exists()
        assert place is None or place.saved == []
        lago.answer = lago.store.take
        lago.server.requests.clear()
        self.assert_all_sent_again(lago, deliver(place, 2, **arguments))

    def test_a_generator_begins_anew(self, lago, tmp_path, place, said):
        lago.answer = fails_after(4, lago.store.take)
        with pytest.raises(LagoDeliveryError):
            deliver(place, records=iter(usage(1_000)), report_path=tmp_path / "report")
        lago.answer = lago.store.take
        summary = deliver(place, 2, records=iter(usage(1_000)), report_path=tmp_path / "report")
        assert summary["accepted"] + summary["duplicate"] == 1_000
        assert "it may give other records another time" in said()


class TestStore:
    def test_airflows_store_is_never_called_from_the_tasks_own_thread(self, lago, source, tmp_path):
        state = State()
        deliver(state, files=source, report_path=tmp_path / "report", max_rejected=100)
        assert state.threads
        assert threading.main_thread() not in state.threads

    def test_a_store_that_fails_costs_the_checkpoint_and_nothing_else(self, lago, source, tmp_path, said):
        state = State()
        state.error = RuntimeError("API server is down")
        summary = deliver(state, files=source, report_path=tmp_path / "report", max_rejected=100)
        assert counts(summary) == (10_000, 9_900, 0, 100, 0)
        assert "API server is down" in said()

    def test_a_checkpoint_holds_neither_records_nor_the_key(self, lago, source, tmp_path):
        state = State()
        lago.answer = fails_after(40, lago.store.take)
        with pytest.raises(LagoDeliveryError):
            deliver(state, files=source, report_path=tmp_path / "report")
        text = json.dumps(state.saved)
        assert len(text) / len(state.saved) < 2_000
        assert "t1" not in text
        assert "2023" not in text
        assert source not in text

    def test_the_last_one_is_of_the_very_end_of_a_try(self, lago, source, tmp_path):
        state = State()
        lago.answer = fails_after(40, lago.store.take)
        with pytest.raises(LagoDeliveryError):
            deliver(state, files=source, report_path=tmp_path / "report")
        last = state.saved[-1]["counts"]
        assert last["accepted"] == len(lago.store.held)

    def test_without_a_store_and_a_folder_a_retry_starts_over_and_is_right(self, lago, source):
        lago.answer = fails_after(40, lago.store.take)
        with pytest.raises(LagoDeliveryError):
            deliver(None, files=source)
        lago.answer = lago.store.take
        with pytest.raises(LagoRejectedError, match="100 of 10,000"):
            deliver(None, 2, files=source)
        assert set(lago.store.held.values()) == {1}
        assert len(lago.store.held) == 9_900


def test_rejects_by_lago_are_reported_once_over_all_tries(lago, tmp_path):
    def picky(request):
        bad = {str(n): INVALID for n, event in enumerate(ids(request)) if event.endswith("7")}
        return refused(bad) if bad else echo(request)

    state, arguments = State(), {"records": usage(3_000), "report_path": tmp_path / "report", "max_rejected": "10%"}
    lago.answer = fails_after(21, picky)
    with pytest.raises(LagoDeliveryError):
        deliver(state, **arguments)
    lago.answer = picky
    summary = deliver(state, 2, **arguments)
    assert counts(summary) == (3_000, 2_700, 0, 300, 0)
    assert summary["reasons"] == {"timestamp: invalid_format": 300}
    positions = [line["position"] for line in lines(tmp_path / "report" / "rejected.jsonl")]
    assert sorted(positions) == list(range(8, 3_001, 10))
    assert RetryPolicy().attempts == 3


def test_settings_whose_fingerprint_fails_cost_the_checkpoint_and_nothing_else(lago, said):
    class Odd:
        def __str__(self):
            raise RuntimeError("not now")

    def transform(record, odd=Odd()):  # noqa: B008
        return record

    state = State()
    summary = deliver(state, records=usage(10), transform=transform)
    assert counts(summary) == (10, 10, 0, 0, 0)
    assert state.saved == []
    assert "not now" in said()


def test_a_receipt_tells_what_is_only_known_to_be_in_lago(lago, tmp_path):
    """A killed try may have sent it; so may somebody else before."""
    lago.store.held.update(f"t{n}" for n in range(100, 1_000))
    state, arguments = State(), {"records": usage(1_000), "report_path": tmp_path / "report", "receipts": True}
    lago.answer = fails_after(1, lago.store.take)
    with pytest.raises(LagoDeliveryError):
        deliver(state, **arguments)
    lago.answer = lago.store.take
    deliver(state, 2, **arguments)
    receipts = {line["position"]: line for line in lines(tmp_path / "report" / "receipts.jsonl")}
    assert len(receipts) == 1_000
    found = [line for line in receipts.values() if line["reason"] == "in Lago already; the try before may have sent it"]
    assert found
    assert {line["outcome"] for line in found} == {"accepted"}
    assert all(line["reason"] for line in receipts.values() if line["position"] > 100)
