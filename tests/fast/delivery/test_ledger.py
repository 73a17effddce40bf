"""What the ledger writes down of each outcome."""

import logging

import pytest

from airflow_provider_lago.api.events import check_event
from airflow_provider_lago.delivery.events.auditing import Conflict
from airflow_provider_lago.delivery.events.batching import Batch, Event
from airflow_provider_lago.delivery.ledger import Answered, Entry, Ledger
from airflow_provider_lago.delivery.outcomes import Outcome, Refusal, Settled
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import Row


class Kept(NoReport):
    wants_receipts = True

    def __init__(self):
        self.rejects, self.lines, self.conflicts = [], [], []

    def rejected(self, row, *, reason, detail, code, payload):
        self.rejects.append((row.position, reason, detail, code, payload))

    def receipts(self, lines):
        self.lines += lines

    def conflict(self, line):
        self.conflicts.append(line)


def event(position):
    record = {"transaction_id": f"t{position}", "external_subscription_id": "s", "code": "c"}
    return Event(Row(position, "f", position, record), check_event({**record, "timestamp": 1_790_000_000}))


@pytest.fixture
def scene():
    class Scene:
        def __init__(self):
            self.report = Kept()
            self.ledger = Ledger(Tally.of_kinds(["created"]), self.report, logging.getLogger("test"))
            self.batch = Batch()
            for position in (1, 2, 3, 4, 6, 7):
                self.batch.add(event(position))
            self.batch.twins[1] = [Row(5, "f", 5, {})]

    return Scene()


def test_what_lago_refuses_is_rejected_with_its_words_and_where_they_come_from(scene):
    scene.ledger.refuse(scene.batch, 1, Refusal("code: too long", "validation_errors"), Answered("req-1"))
    payload = scene.batch.events[1].checked.payload
    said = ("code: too long", "refused by Lago, or on the way to it", "validation_errors", payload)
    assert scene.report.rejects == [(2, *said), (5, *said)]
    assert [(line["position"], line["outcome"], line["code"], line["request_id"]) for line in scene.report.lines] == [
        (2, "rejected", "validation_errors", "req-1"),
        (5, "rejected", "validation_errors", "req-1"),
    ]
    assert scene.ledger.progress.compact() == [0, 1, 1, 2, 1]


def test_what_lago_holds_otherwise_is_rejected_with_both_sides(scene):
    scene.ledger.contradict(scene.batch, 0, Conflict("Lago holds another code", ["code"], b'{"code":"x"}'))
    ((position, reason, detail, code, _),) = scene.report.rejects
    assert (position, reason, detail, code) == (
        1, "transaction_id: conflict", "Lago holds another code", "value_already_exist",
    )  # fmt: skip
    (both,) = scene.report.conflicts
    assert (both["position"], both["origin"], both["line"], both["id"], both["differs"]) == (1, "f", 1, "t1", ["code"])
    assert bytes(both["lago"]) == b'{"code":"x"}'
    assert bytes(both["source"]) == scene.batch.events[0].checked.payload
    assert scene.report.lines[0]["code"] == "value_already_exist"


@pytest.mark.parametrize(
    ("indexes", "settled"),
    [
        (range(6), [7]),
        ([0], [1]),
        ([2, 3], [0, 2, 2]),
        ([0, 2, 3], [1, 1, 2]),
        ([4, 5], [0, 5, 2]),
        ([0, 1], [2, 2, 1]),
    ],
)
def test_the_positions_of_what_is_accepted_are_settled_and_no_others(scene, indexes, settled):
    scene.ledger.accept(scene.batch, indexes)
    assert scene.ledger.progress.compact() == settled


def test_without_twins_a_row_of_positions_is_settled_at_once(scene):
    scene.batch.twins.clear()
    scene.ledger.accept(scene.batch, range(4))
    scene.ledger.duplicate(scene.batch, [4, 5])
    assert scene.ledger.progress.compact() == [4, 1, 2]
    assert (scene.ledger.tally.accepted, scene.ledger.tally.duplicate) == (4, 2)


def test_receipts_have_lagos_ids_in_their_order_and_none_where_there_are_fewer(scene):
    scene.ledger.accept(scene.batch, [0, 2, 3], Answered("req-1", ["a", None]), reason="why")
    assert [(line["id"], line["lago_id"], line["request_id"], line["reason"]) for line in scene.report.lines] == [
        ("t1", "a", "req-1", "why"),
        ("t3", None, "req-1", "why"),
        ("t4", None, "req-1", "why"),
    ]
    assert list(scene.report.lines[0]) == [
        "position", "origin", "line", "id", "outcome", "kind", "lago_id", "request_id", "reason", "code",
    ]  # fmt: skip


def test_a_receipt_tells_the_facts_of_an_outcome(scene):
    settled = Settled(Outcome.ACCEPTED, "created", lago_id="l", facts={"status": "active"})
    scene.ledger.settle([Entry(Row(1, "f", 1, {}), "x", None)], settled)
    (line,) = scene.report.lines
    assert (line["kind"], line["lago_id"], line["status"], line["reason"]) == ("created", "l", "active", None)


def test_the_log_tells_the_first_ten_notes_about_records_that_are_fine(scene, caplog):
    for position in range(1, 13):
        entry = Entry(Row(position, "f", position, {}), f"id-{position}" if position > 1 else None, None)
        scene.ledger.settle([entry], Settled(Outcome.ACCEPTED, "created", detail="with less"))
    assert [record.getMessage() for record in caplog.records] == [
        "f line 1 created: with less",
        *(f"f line {n} (transaction_id 'id-{n}') created: with less" for n in range(2, 11)),
        "Further notes of this kind are not in the log",
    ]
