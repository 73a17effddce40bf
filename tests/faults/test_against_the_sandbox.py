"""Faults on the way to a server that behaves like Lago: each event is in it once, whatever happened."""

import logging
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.deliveries import KEY, connection
from support.deliveries import usage as usage_of_one

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.sandbox import Sandbox
from airflow_provider_lago.sources.values import ValueSource

QUICK = RetryPolicy(attempts=12, base=0.01, cap=0.05)
BATCH = "/api/v1/events/batch"


def usage(count):
    return [{**record, "external_subscription_id": f"s{n % 7}"} for n, record in enumerate(usage_of_one(count))]


def deliver(sandbox, records, **plan):
    target = connection(sandbox.url, api_key=sandbox.api_key, read_timeout=plan.pop("read_timeout", 5.0))
    made = EventPlan(
        source=ValueSource(records),
        shaping=EventShaping(),
        settings=target,
        user_agent="test",
        **{"policy": QUICK, **plan},
    )
    return Delivery(made, log=logging.getLogger("test")).run()


def held(sandbox):
    """Count what Lago would bill: rows of one identity are one event on the ClickHouse store, and single on Postgres."""
    rows = Counter(
        (event["external_subscription_id"], event["transaction_id"], event["code"], event["timestamp_us"])
        for event in sandbox.events()
    )
    if sandbox.state()["store"] == "postgres":
        assert set(rows.values()) <= {1}
    return Counter(row[:2] for row in rows)


def expected(records):
    return {(record["external_subscription_id"], record["transaction_id"]): 1 for record in records}


@pytest.fixture(params=["postgres", "clickhouse"])
def sandbox(request):
    with Sandbox(store=request.param, api_keys=[KEY]) as server:
        yield server


@pytest.mark.parametrize("batch_size", [100, 1])
def test_every_first_answer_lost_after_commit(sandbox, batch_size):
    records = usage(5_000 if batch_size > 1 else 300)
    sandbox.fault("lost_response", path="/api/v1/events", first_of_each_body=True)
    tally = deliver(sandbox, records, batch_size=batch_size).tally
    assert (tally.accepted + tally.duplicate, tally.rejected) == (len(records), 0)
    assert held(sandbox) == expected(records)


@pytest.mark.parametrize("kind", ["reset", "error_after_commit", "cut_body", "broken_json", "empty", "error"])
def test_every_third_request_hit(sandbox, kind):
    records = usage(3_000)
    sandbox.fault(kind, path=BATCH, every=3)
    tally = deliver(sandbox, records).tally
    assert (tally.accepted + tally.duplicate, tally.rejected) == (3_000, 0)
    assert held(sandbox) == expected(records)


def test_answers_slower_than_the_timeout(sandbox):
    records = usage(500)
    sandbox.fault("slow", path=BATCH, seconds=1.0, first_of_each_body=True)
    tally = deliver(sandbox, records, read_timeout=0.3).tally
    assert (tally.accepted + tally.duplicate, tally.rejected) == (500, 0)
    assert held(sandbox) == expected(records)


def test_a_poison_record_is_found_and_the_rest_delivered(sandbox):
    records = usage(1_000)
    sandbox.fault("poison", contains='"t777"', status=500)
    tally = deliver(sandbox, records).tally
    assert (tally.accepted, tally.rejected) == (999, 1)
    assert held(sandbox) == expected(record for record in records if record["transaction_id"] != "t777")


def test_two_deliveries_of_the_same_records_at_the_same_time_double_nothing(sandbox):
    import threading

    records, tallies = usage(3_000), []
    threads = [
        threading.Thread(target=lambda: tallies.append(deliver(sandbox, records, concurrency=4).tally))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tallies) == 2
    assert all(tally.rejected == 0 for tally in tallies)
    assert set(held(sandbox)) == set(expected(records))
    if sandbox.state()["store"] == "postgres":
        assert sum(tally.accepted for tally in tallies) == 3_000
        assert held(sandbox) == expected(records)


def test_a_rate_limit_slows_down_and_loses_nothing():
    records = usage(4_000)
    with Sandbox(rate_limit=10, rate_window=1) as server:
        tally = deliver(server, records, concurrency=8).tally
        assert (tally.accepted, tally.rejected) == (4_000, 0)
        assert held(server) == expected(records)


FAULTS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(
            ["lost_response", "reset", "error_after_commit", "cut_body", "broken_json", "empty", "error", "rate_limit"]
        ),
        "probability": st.sampled_from([0.05, 0.2, 0.3]),
        "seed": st.integers(0, 10_000),
    }
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(FAULTS, min_size=1, max_size=2), invalid=st.sets(st.integers(0, 999), max_size=30))
def test_any_mixture_of_faults_leaves_each_good_event_once_and_names_each_bad_one(sandbox, faults, invalid):
    sandbox.reset()
    for fault in faults:
        extra = {"reset": 0} if fault["kind"] == "rate_limit" else {}
        sandbox.fault(path=BATCH, **fault, **extra)
    records = usage(1_000)
    for n in invalid:
        records[n]["properties"] = {"n": "x\0"} if n % 2 else "none"
    result = deliver(sandbox, records, policy=RetryPolicy(attempts=40, base=0.001, cap=0.005))
    tally = result.tally
    assert result.halt is None
    assert (tally.read, tally.rejected) == (1_000, len(invalid))
    assert tally.accepted + tally.duplicate == 1_000 - len(invalid)
    assert held(sandbox) == expected(record for n, record in enumerate(records) if n not in invalid)
