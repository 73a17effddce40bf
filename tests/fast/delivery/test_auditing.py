"""What the audit writes down, between which nothing may come."""

import asyncio
import json
import logging
from urllib.parse import parse_qsl

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.events import check_event
from airflow_provider_lago.delivery.events.auditing import Auditor, Conflict
from airflow_provider_lago.delivery.events.batching import Batch, Event
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import Row

RECORD = {"transaction_id": "t", "external_subscription_id": "s", "code": "c", "timestamp": 1_700_000_000}
HELD = {**RECORD, "timestamp": "2023-11-14T22:13:20.000Z", "properties": {}, "precise_total_amount_cents": None}


class Lines(NoReport):
    """Counts the lines of each file."""

    conflicts = rejects = 0

    def conflict(self, line):
        self.conflicts += 1

    def rejected(self, row, **_):
        self.rejects += 1


class Watched:
    """A lock that shows what a checkpoint could see: the state whenever it is free."""

    def __init__(self, look):
        self.look = look
        self.seen = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.seen.append(self.look())


def test_no_checkpoint_sees_a_conflict_whose_record_is_not_rejected_yet():
    record = {"transaction_id": "t", "external_subscription_id": "s", "code": "c", "timestamp": 1_700_000_000}
    batch = Batch()
    batch.add(Event(Row(1, "records", 1, record), check_event(record)))
    batch.twins[0] = [Row(2, "records", 2, record)]
    lines, tally = Lines(), Tally()
    ledger = Ledger(tally, lines, logging.getLogger("test"))
    ledger._lock = Watched(lambda: (lines.conflicts, lines.rejects, tally.rejected, ledger.progress.upto))
    ledger.contradict(batch, 0, Conflict("Lago holds another code", ["code"], b"{}"))
    assert ledger._lock.seen == [(1, 2, 2, 2)]


def audited(held, listed=(), record=None):
    """Look for a conflict with what Lago shows and lists; return it, and what was asked for."""
    asked = []

    async def send(call):
        asked.append(call.target)
        if call.target.startswith("events/"):
            return Answer(200, {}, json.dumps({"event": held}).encode()) if held else Answer(404, {}, b"{}")
        name = call.target.partition("?")[0]
        return Answer(200, {}, json.dumps({name: listed if name == "events" else []}).encode())

    record = record or RECORD
    found = asyncio.run(Auditor(send).conflict(Event(Row(1, "records", 1, record), check_event(record))))
    return found, asked


def test_an_event_that_is_not_shown_by_its_id_is_looked_for_in_the_second_and_subscription_that_it_is_of():
    other = {**HELD, "external_subscription_id": "another"}
    found, asked = audited(other, [other, HELD])
    assert found is None
    (shown, listed) = asked
    assert shown == "events/t"
    assert dict(parse_qsl(listed.partition("?")[2])) == {
        "external_subscription_id": "s",
        "timestamp_from": "2023-11-14T22:13:20Z",
        "timestamp_to": "2023-11-14T22:13:21Z",
        "per_page": "100",
        "page": "1",
    }


def test_one_that_lago_shows_nowhere_differs_in_nothing_that_can_be_named():
    found, _ = audited(None)
    assert found.differs == []
    assert found.held is None
    assert "shows none at this time" in found.detail


def test_both_sides_are_told_where_they_differ():
    found, asked = audited({**HELD, "code": "x", "properties": {"n": 2}}, record={**RECORD, "properties": {"n": 1}})
    assert found.differs == ["code", "properties.n"]
    assert json.loads(found.held)["code"] == "x"
    assert asked[-1].startswith("billable_metrics?")
