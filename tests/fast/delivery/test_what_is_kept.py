"""What a delivery keeps for a retry, and when."""

import logging
import threading

import pytest
from support.deliveries import QUICK, connection, usage
from support.scripted import Reply, ScriptedServer, echo
from support.stores import memory_folder

from airflow_provider_lago.delivery.checkpoint import Durability
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.keeper import REMOTE, Rhythm
from airflow_provider_lago.delivery.loop_thread import Stopped
from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.sources.values import ValueSource


class Kept:
    """Keeps what is saved for a retry."""

    def __init__(self):
        self.saved = []

    def save(self, stored):
        self.saved.append(stored)


def durable(server, records, report=None, **plan):
    kept = Kept()
    made = EventPlan(
        source=ValueSource(records),
        shaping=EventShaping(),
        settings=connection(server.url),
        user_agent="test",
        policy=QUICK,
        concurrency=1,
        **plan,
    )
    delivery = Delivery(made, report, logging.getLogger("test"), durability=Durability(kept, "mark", 1))
    return delivery, kept


def test_what_is_done_needs_no_checkpoint_of_its_end():
    with ScriptedServer(echo) as server:
        delivery, kept = durable(server, usage(300))
        assert delivery.run().halt is None
    assert all(stored["settled"] != [300] for stored in kept.saved)
    assert kept.saved[0]["sent_to"] >= 100, "nothing is sent before it is known how far it may have been"


def test_the_last_checkpoint_of_a_delivery_that_ended_early_is_of_its_end():
    answers = iter([None, None])
    with ScriptedServer(lambda request: echo(request) if next(answers, 1) is None else Reply(401, b"{}")) as server:
        delivery, kept = durable(server, usage(500))
        assert delivery.run().halt is not None
    assert kept.saved[-1]["settled"] == [200]
    assert kept.saved[-1]["counts"]["accepted"] == 200
    assert kept.saved[-1]["fingerprint"] == "mark"


def test_one_that_is_stopped_from_outside_saves_its_end_too():
    with ScriptedServer(lambda request: echo(request) if len(server.requests) < 3 else Reply(200, delay=30)) as server:
        delivery, kept = durable(server, usage(500))
        threading.Timer(1.0, delivery.stop).start()
        with pytest.raises(Stopped):
            delivery.run()
    assert kept.saved[-1]["settled"] == [200]
    assert delivery.interrupted("killed").halt.final is False


def test_without_durability_nothing_is_kept():
    with ScriptedServer(echo) as server:
        delivery, _ = durable(server, usage(3))
        alone = Delivery(delivery.plan, None, logging.getLogger("test"))
        assert alone._keeper is None
        assert delivery._keeper._rhythm == Rhythm()


def test_evidence_in_an_object_store_is_kept_without_durability_too():
    folder, _ = memory_folder()
    report = FolderReport(folder, {"run_id": "r"}, receipts=True)
    with ScriptedServer(echo) as server:
        delivery, _ = durable(server, usage(300))
        alone = Delivery(delivery.plan, report, logging.getLogger("test"))
        assert alone._keeper._rhythm == REMOTE
        alone.run()
    report.finish({})
    assert len(folder.read("receipts.jsonl").splitlines()) == 300


def test_the_line_of_progress_tells_the_rate_of_this_try(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("airflow_provider_lago.delivery.delivery._PROGRESS_EVERY", 0.2)
    with ScriptedServer(lambda request: Reply(echo(request).status, echo(request).body, delay=0.1)) as server:
        delivery, _ = durable(server, usage(500))
        delivery.run()
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Read ")]
    rates = [int(line.rsplit(" ", 2)[1].removesuffix("/s").replace(",", "")) for line in lines]
    assert lines
    assert all(100 <= rate <= 5_000 for rate in rates), rates
