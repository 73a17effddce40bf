"""Ten mapped tasks and one organization's limit: all finish, each event is in Lago once, and 429s are rare."""

import itertools
import logging
import threading
import time
from collections import Counter, defaultdict

import pytest
from support.calls import upsert
from support.deliveries import connection, usage

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.transport import Transport
from airflow_provider_lago.sandbox import Sandbox
from airflow_provider_lago.sandbox.access import RateLimit
from airflow_provider_lago.sources.values import ValueSource

TASKS = 10
KEYS = [f"11111111-2222-4333-8444-{n:012d}" for n in range(TASKS)]


class NumberedWindows(RateLimit):
    """Tells with each answer in which window its request counted."""

    number = 0

    def take(self):
        began = self._start
        refused, headers = super().take()
        self.number += self._start != began
        return refused, {**headers, "x-window": str(self.number)}


@pytest.fixture
def wire(monkeypatch):
    """What each task sent: when, and what was answered."""
    seen = defaultdict(list)
    exchange = Transport._exchange

    async def note(self, *request):
        started = time.monotonic()
        answer = await exchange(self, *request)
        assert isinstance(answer, Answer)
        seen[self._settings.api_key].append((started, time.monotonic(), answer))
        return answer

    monkeypatch.setattr(Transport, "_exchange", note)
    return seen


def run_all(work):
    results = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: work(n)})) for n in range(TASKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == TASKS
    return [results[n] for n in range(TASKS)]


def check_429s(wire, concurrency):
    """After a task knew of a window's first 429, no request that it sent met another one in that window."""
    assert len(wire) == TASKS
    for requests in wire.values():
        first = requests[0]
        assert all(started >= first[1] for started, _, _ in requests[1:]), "the first request goes alone"
        refused = [
            (answer.headers["x-window"], started, ended) for started, ended, answer in requests if answer.status == 429
        ]
        known = {}
        for window, _, ended in refused:
            known[window] = min(ended, known.get(window, ended))
        assert not [window for window, started, _ in refused if started > known[window]]
        assert max(Counter(window for window, _, _ in refused).values(), default=0) <= concurrency


@pytest.mark.parametrize("store", ["postgres", "clickhouse"])
@pytest.mark.parametrize("limit", [40, 4], ids=["enough for all", "too small for all"])
def test_ten_tasks_that_share_a_limit_all_finish_and_double_nothing(wire, store, limit):
    per_task = 1_000 if limit > TASKS else 200

    def deliver(n):
        made = EventPlan(
            source=ValueSource(usage(per_task, first=n * per_task)),
            shaping=EventShaping(),
            settings=connection(server.url, api_key=KEYS[n], read_timeout=20.0),
            user_agent="test",
        )
        return Delivery(made, log=logging.getLogger("test")).run()

    with Sandbox(store=store, api_keys=KEYS, latency=0.02) as server:
        server.app.limit = NumberedWindows(limit, 1.0)
        results = run_all(deliver)
        ids = Counter(event["transaction_id"] for event in server.events())
    assert [result.halt for result in results] == [None] * TASKS
    assert [result.tally.accepted for result in results] == [per_task] * TASKS
    assert ids == Counter({f"t{n}": 1 for n in range(TASKS * per_task)})
    check_429s(wire, concurrency=8)
    if limit > TASKS:
        requests = [answer.status for _, _, answer in itertools.chain(*wire.values())]
        assert requests.count(429) <= 0.2 * len(requests)


def test_ten_tasks_that_bring_customers_share_a_limit_too(wire, tmp_path):
    def deliver(n):
        records = [{"external_id": f"c{n}-{m}", "name": "N"} for m in range(10)]
        return upsert(
            server, records, tmp_path / str(n), settings=connection(server.url, api_key=KEYS[n]), policy=RetryPolicy()
        )

    with Sandbox(api_keys=KEYS, latency=0.01) as server:
        server.app.limit = NumberedWindows(50, 1.0)
        runs = run_all(deliver)
        assert len(server.customers()) == 10 * TASKS
    assert all(run.counts == (10, 10, 0, 0) for run in runs)
    check_429s(wire, concurrency=4)
