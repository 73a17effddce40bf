"""Whatever Lago and the way to it do: no event is lost, none has two outcomes, and the counts add up."""

import asyncio
import logging
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.deliveries import connection
from support.model import POISON, REFUSED, ModelLago

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.responses import NoResponses
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.values import ValueSource

AT_ONCE = RetryPolicy(attempts=6, base=0.0, cap=0.0)
MISFORTUNES = [
    "reset",
    "refused connection",
    "500",
    "502",
    "503",
    "429",
    "lost answer",
    "502 after commit",
    "cut",
    "no body",
    "another's 200",
    "200 for none",
    "",
]


class Receipts(NoReport):
    """Keeps every outcome that is given, by position."""

    wants_receipts = True

    def __init__(self):
        self.outcomes = {}
        self.rejects = []

    def receipts(self, lines):
        for line in lines:
            self.outcomes.setdefault(line["position"], []).append(line["outcome"])

    def rejected(self, row, **said):
        self.rejects.append(row.position)


class Sending(RuleBasedStateMachine):
    """A source that grows, and a Lago that keeps what it took over all deliveries of it."""

    def __init__(self):
        super().__init__()
        self.records = []
        self.lago = None

    @initialize(store=st.sampled_from(["postgres", "clickhouse"]), poison=st.sampled_from([400, 403, 413, 500, 502]))
    def begin(self, store, poison):
        self.lago = ModelLago(store, poison)

    def append(self, **changes):
        n = len(self.records)
        record = {
            "transaction_id": f"t{n}",
            "external_subscription_id": "s",
            "code": "c",
            "timestamp": 1_700_000_000 + n,
            "properties": {"n": n},
        }
        self.records.append({**record, **changes})

    @rule(count=st.integers(1, 12))
    def good_records(self, count):
        for _ in range(count):
            self.append()

    @rule()
    def a_record_that_lago_refuses(self):
        self.append(code=REFUSED)

    @rule()
    def a_record_that_is_invalid(self):
        self.append(timestamp=1_700_000_000_123)

    @rule(which=st.integers(0, 10_000))
    @precondition(lambda self: self.records)
    def a_twin(self, which):
        self.records.append(self.records[which % len(self.records)])

    @rule(which=st.integers(0, 10_000))
    @precondition(lambda self: self.records)
    def the_same_id_of_another_subscription(self, which):
        record = self.records[which % len(self.records)]
        self.append(transaction_id=record["transaction_id"], external_subscription_id=f"s{len(self.records)}")

    @precondition(lambda self: sum(POISON in str(record) for record in self.records) < 2 and len(self.records) > 20)
    @rule()
    def a_record_that_breaks_its_request(self):
        self.append(properties={"n": POISON})

    @rule(kinds=st.lists(st.sampled_from(MISFORTUNES), min_size=1, max_size=8))
    def misfortunes(self, kinds):
        self.lago.misfortunes.extend(kinds)

    @rule(batch_size=st.sampled_from([1, 2, 3, 7, 100]), concurrency=st.sampled_from([1, 2, 5]))
    def deliver(self, batch_size, concurrency):
        report, tally, courier = self._deliver(batch_size, concurrency)
        complete = courier.halt is None
        assert complete or not courier.halt.final, courier.halt
        assert tally.read == len(self.records) if complete else tally.read <= len(self.records)
        assert tally.settled == tally.read if complete else tally.settled <= tally.read
        outcomes = report.outcomes
        assert all(len(given) == 1 for given in outcomes.values()), "a record with two outcomes"
        assert Counter(given[0] for given in outcomes.values()) == Counter(
            {
                name: count
                for name, count in (
                    ("accepted", tally.accepted),
                    ("duplicate", tally.duplicate),
                    ("rejected", tally.rejected),
                )
                if count
            }
        )
        assert report.rejects == [] or sorted(report.rejects) == [
            position for position, given in sorted(outcomes.items()) if given == ["rejected"]
        ]
        for position, record in enumerate(self.records, 1):
            given = outcomes.get(position, [None])[0]
            if given in ("accepted", "duplicate"):
                assert self.lago.identity(record) in self.lago.rows, f"record {position} is {given}, and not in Lago"
            if given == "rejected":
                assert not self._is_good(record), f"record {position} is rejected for nothing"
        if complete:
            assert outcomes.keys() == set(range(1, len(self.records) + 1))

    def _deliver(self, batch_size, concurrency):
        plan = EventPlan(
            source=ValueSource(self.records),
            settings=connection("http://lago.test"),
            user_agent="test",
            shaping=EventShaping(),
            batch_size=batch_size,
            concurrency=concurrency,
            policy=AT_ONCE,
        )
        report, tally = Receipts(), Tally()
        log = logging.getLogger("quiet")
        log.setLevel(logging.CRITICAL)
        ledger = Ledger(tally, report, log)

        async def run():
            courier = plan.courier(self.lago, ledger, NoResponses())
            units = plan.units(ledger)

            async def work():
                while courier.halt is None and (unit := next(units, None)) is not None:
                    await courier.deliver(unit)

            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(work())
            await courier.deliver_parked()
            return courier

        return report, tally, asyncio.run(run())

    @staticmethod
    def _is_good(record):
        return record["code"] != REFUSED and record["timestamp"] < 10**12 and POISON not in str(record)

    @invariant()
    def no_batch_holds_an_id_twice(self):
        assert self.lago is None or not self.lago.unlawful

    @invariant()
    def lago_holds_good_records_only_and_each_once(self):
        if self.lago is None:
            return
        good = {self.lago.identity(record) for record in self.records if self._is_good(record)}
        assert set(self.lago.rows) <= good
        if self.lago.store == "postgres":
            assert set(self.lago.rows.values()) <= {1}

    def teardown(self):
        """When the misfortunes are over, some tries bring all that is good."""
        if self.lago is None or not self.records:
            return
        self.lago.misfortunes.clear()
        if any(POISON in str(record) for record in self.records):
            return  # alone in its request behind a server that has shown nothing yet, it cannot be told from an outage
        self.deliver(100, 5)
        good = {self.lago.identity(record) for record in self.records if self._is_good(record)}
        assert set(self.lago.rows) == good


TestSending = Sending.TestCase
TestSending.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
