"""What the audit writes down, between which nothing may come."""

import logging

from airflow_provider_lago.api.events import check_event
from airflow_provider_lago.delivery.events.auditing import Conflict
from airflow_provider_lago.delivery.events.batching import Batch, Event
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import Row


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
