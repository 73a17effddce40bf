"""``receipts.jsonl`` of event deliveries: the evidence is what the sandbox holds, a line for each record."""

import json
import logging
import uuid
from collections import Counter

import pytest
from support.deliveries import QUICK, connection, usage
from support.scripted import ScriptedServer, echo

from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.values import ValueSource

FIELDS = ["position", "origin", "line", "id", "outcome", "kind", "lago_id", "request_id", "reason", "code"]


@pytest.fixture
def deliver(lago_sandbox, tmp_path):
    """Deliver with receipts, check what holds of all receipts, and give them in the order of the records."""

    def run(source, *, url=lago_sandbox.url, shaping=None, **plan):
        made = EventPlan(
            source=ValueSource(source) if isinstance(source, list) else source,
            shaping=shaping or EventShaping(),
            settings=connection(url, api_key=lago_sandbox.api_key),
            user_agent="test",
            policy=QUICK,
            **plan,
        )
        report = FolderReport(tmp_path, {"run_id": "r"}, receipts=True)
        result = Delivery(made, report, logging.getLogger("test")).run()
        report.finish({**result.summary(), "report": report.paths()})
        summary = json.loads((tmp_path / "summary.json").read_bytes())
        lines = [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_bytes().splitlines()]
        assert all(list(line) == FIELDS for line in lines)
        assert sorted(line["position"] for line in lines) == list(range(1, summary["read"] + 1))
        counts = Counter(line["outcome"] for line in lines)
        for outcome in ("accepted", "duplicate", "rejected", "skipped"):
            assert counts[outcome] == summary[outcome]
        assert summary["report"]["receipts"] == str(tmp_path / "receipts.jsonl")
        return sorted(lines, key=lambda line: line["position"])

    return run


def held(sandbox):
    return {event["transaction_id"]: event["lago_id"] for event in sandbox.events()}


def is_uuid(text):
    return str(uuid.UUID(text)) == text


def every_outcome():
    """One record of each kind, and what its receipt must say: id, outcome, reason, code."""
    known, good, twin, refused = usage(4)
    return [
        (known, "t0", "duplicate", "in Lago already", None),
        (good, "t1", "accepted", None, None),
        (twin, "t2", "accepted", None, None),
        (twin, "t2", "duplicate", "said twice by the source", None),
        ({**twin, "properties": {"n": "other"}}, "t2", "rejected", "transaction_id: conflict", None),
        ({**refused, "code": "doubled", "properties": {}}, "t3", "rejected", "expression_evaluation_failed", "validation_errors"),
        ({**good, "transaction_id": "t5", "timestamp": "never"}, "t5", "rejected", "timestamp: not a time", None),
        ({"code": "c"}, None, "rejected", "transaction_id: missing", None),
        ("no record", None, "rejected", "not an object", None),
        ({**good, "leave": "out"}, None, "skipped", "left out by transform", None),
    ]  # fmt: skip


def test_every_outcome_has_its_line_with_the_reason_and_lagos_own_ids(lago_sandbox, deliver):
    lago_sandbox.add_metric("doubled", "sum_agg", field_name="twice", expression="event.properties.n * 2")
    lago_sandbox.post("/events", {"event": usage(1)[0]})
    wanted = every_outcome()
    shaping = EventShaping(transform=lambda record: None if "leave" in record else record)
    lines = deliver([record for record, *_ in wanted], shaping=shaping)
    for line, (_, identifier, outcome, reason, code) in zip(lines, wanted, strict=True):
        assert (line["id"], line["outcome"], line["code"]) == (identifier, outcome, code), line
        assert (line["reason"] or "").startswith(reason or ""), line
        assert (line["reason"] is None) == (reason is None)
        assert line["kind"] is None
        assert (line["origin"], line["line"]) == ("records", line["position"])
    stored = held(lago_sandbox)
    assert {line["id"]: line["lago_id"] for line in lines if line["outcome"] == "accepted"} == {
        identifier: stored[identifier] for identifier in ("t1", "t2")
    }
    assert {line["lago_id"] for line in lines if line["outcome"] != "accepted"} == {None}


def test_the_request_that_settled_a_record_is_named_and_no_other(lago_sandbox, deliver):
    lago_sandbox.post("/events", {"event": usage(1)[0]})
    lines = deliver([*usage(3), {"code": "c"}])
    known, first, second, invalid = [line["request_id"] for line in lines]
    assert is_uuid(known)
    assert is_uuid(first)
    assert first == second != known  # the good ones went out again without the one that Lago has
    assert invalid is None


@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_lagos_ids_are_those_that_it_holds_whatever_the_requests_were(lago_sandbox, deliver, batch_size, concurrency):
    for event in usage(250)[::7]:
        lago_sandbox.post("/events", {"event": event})
    before = set(held(lago_sandbox))
    lines = deliver(usage(250), batch_size=batch_size, concurrency=concurrency)
    stored = held(lago_sandbox)
    accepted = {line["id"]: line["lago_id"] for line in lines if line["outcome"] == "accepted"}
    assert accepted == {identifier: stored[identifier] for identifier in stored if identifier not in before}
    assert {line["id"] for line in lines if line["outcome"] == "duplicate"} == before
    assert all(is_uuid(line["request_id"]) for line in lines)
    requests = {line["request_id"] for line in lines}
    assert len(requests) == (250 if batch_size == 1 else 6)


def test_events_whose_first_answer_was_lost_are_accepted_without_an_id_that_nobody_knows(lago_sandbox, deliver):
    lago_sandbox.fault("lost_response", path="/events", times=1)
    lines = deliver(usage(5))
    assert lago_sandbox.count() == 5
    assert {(line["outcome"], line["lago_id"]) for line in lines} == {("accepted", None)}
    assert len({line["request_id"] for line in lines}) == 1


def test_an_answer_without_ids_and_headers_leaves_their_places_empty(deliver):
    with ScriptedServer(echo) as server:
        lines = deliver(usage(3), url=server.url)
    assert {(line["outcome"], line["lago_id"], line["request_id"]) for line in lines} == {("accepted", None, None)}


def test_receipts_name_file_and_line(deliver, tmp_path):
    for name, first in (("a", 0), ("b", 10)):
        rows = [json.dumps(event) for event in usage(2, first)]
        (tmp_path / f"{name}.jsonl").write_text(f"{rows[0]}\n\nbroken\n{rows[1]}\n")
    lines = deliver(FileSource(str(tmp_path / "[ab].jsonl")))
    places = [(line["origin"].rsplit("/", 1)[-1], line["line"], line["id"], line["outcome"]) for line in lines]
    assert places == [
        ("a.jsonl", 1, "t0", "accepted"),
        ("a.jsonl", 3, None, "rejected"),
        ("a.jsonl", 4, "t1", "accepted"),
        ("b.jsonl", 1, "t10", "accepted"),
        ("b.jsonl", 3, None, "rejected"),
        ("b.jsonl", 4, "t11", "accepted"),
    ]


def test_receipts_of_a_generator_are_whole_although_two_threads_write_them(lago_sandbox, deliver):
    def rows():
        for n, event in enumerate(usage(5_000)):
            yield {**event, "timestamp": "never"} if n % 3 else event

    lines = deliver(ValueSource(rows()), concurrency=8)
    stored = held(lago_sandbox)
    assert [line["lago_id"] for line in lines] == [stored.get(line["id"]) for line in lines]
    assert len(stored) == 1_667


def test_earlier_receipts_are_kept_with_their_summary(deliver, tmp_path):
    deliver(usage(2))
    deliver(usage(3))
    outcomes = [
        [json.loads(line)["outcome"] for line in (tmp_path / name).read_bytes().splitlines()]
        for name in ("receipts.1.jsonl", "receipts.jsonl")
    ]
    assert outcomes == [["accepted"] * 2, ["duplicate"] * 2 + ["accepted"]]
