"""Faults on the way to a server that behaves like Lago: each customer and subscription is in it as the source says."""

import threading
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.calls import methods, subscribe, terminate, upsert
from support.deliveries import KEY

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.sandbox import Sandbox

PATIENT = RetryPolicy(attempts=40, base=0.001, cap=0.005)


@pytest.fixture(scope="module")
def server():
    with Sandbox(api_keys=[KEY], premium=True) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server):
    server.reset()
    return server


def customers(count):
    return [
        {"external_id": f"c{n}/é", "name": f"N{n}", "email": None, "metadata": {"n": n, "tier": "gold"}}
        for n in range(count)
    ]


def in_lago(sandbox):
    return {
        row["external_id"]: (row["name"], {item["key"]: item["value"] for item in row["metadata"]})
        for row in sandbox.customers()
    }


def expected(records):
    return {
        row["external_id"]: (row["name"], {key: str(value) for key, value in row["metadata"].items()})
        for row in records
    }


FAULTS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(
            ["lost_response", "reset", "error_after_commit", "cut_body", "broken_json", "empty", "error", "rate_limit"]
        ),
        "method": st.sampled_from([None, "GET", "POST"]),
        "probability": st.sampled_from([0.05, 0.2, 0.3]),
        "seed": st.integers(0, 10_000),
    }
)
INVALID = st.sampled_from(
    [{"country": "Rome"}, {"metadata": {"k": "v" * 101}}, {"currency": "XXZ"}, {"email": "nope"}, {"emial": "x"}]
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(FAULTS, min_size=1, max_size=2),
    invalid=st.dictionaries(st.integers(0, 39), INVALID, max_size=15),
    there=st.sets(st.integers(0, 39), max_size=30),
    skip_unchanged=st.booleans(),
)
def test_any_mixture_of_faults_leaves_each_good_customer_as_it_is_to_be_and_names_each_bad_one(
    server, tmp_path, faults, invalid, there, skip_unchanged
):
    server.reset()
    records = customers(40)
    for n in there:
        server.add_customer(records[n]["external_id"], name="old", metadata=[{"key": "n", "value": "old"}])
    for n, wrong in invalid.items():
        records[n] = {**records[n], **wrong}
    for fault in faults:
        server.fault(path="/customers", **fault, **({"reset": 0} if fault["kind"] == "rate_limit" else {}))
    run = upsert(server, records, tmp_path, policy=PATIENT, skip_unchanged=skip_unchanged)
    assert run.halt is None, run.halt
    assert run.counts == (40, 40 - len(invalid), len(invalid), 0)
    assert {row["position"] - 1 for row in run.rejected} == set(invalid)
    updated = len(there - set(invalid))
    assert run.kinds == {kind: n for kind, n in (("created", run.tally.accepted - updated), ("updated", updated)) if n}
    good = expected(row for n, row in enumerate(records) if n not in invalid)
    old = {records[n]["external_id"]: ("old", {"n": "old"}) for n in there & set(invalid)}
    assert in_lago(server) == {**good, **old}


SUBSCRIPTION_FAULTS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(
                ["lost_response", "error_after_commit", "cut_body", "empty", "reset", "rate_limit"]
            ),
            "probability": st.sampled_from([0.1, 0.3]),
            "seed": st.integers(0, 10_000),
        }
    ),
    min_size=1,
    max_size=2,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=SUBSCRIPTION_FAULTS, overridden=st.sets(st.integers(0, 19), max_size=10))
def test_any_mixture_of_faults_leaves_one_subscription_of_each_id_and_ends_none(server, tmp_path, faults, overridden):
    server.reset()
    for code, cents in (("basic", 1000), ("pro", 5000)):
        server.add_plan(code, amount_cents=cents)
    server.add_customer("acme")
    records = [
        {
            "external_id": f"s{n}",
            "external_customer_id": "acme",
            "plan_code": "basic",
            **({"plan_overrides": {"amount_cents": 7}} if n in overridden else {}),
        }
        for n in range(20)
    ]
    for fault in faults:
        server.fault(**fault)
    first = subscribe(server, records, tmp_path, policy=PATIENT)
    assert (first.halt, first.kinds) == (None, {"created": 20})
    again = subscribe(server, records, tmp_path, policy=PATIENT)
    assert (again.halt, again.kinds) == (None, {"unchanged": 20})
    held = Counter((row["external_id"], row["status"]) for row in server.subscriptions())
    assert held == Counter((f"s{n}", "active") for n in range(20))


def test_two_deliveries_of_the_same_customers_at_once_leave_each_once(sandbox, tmp_path):
    records, runs = customers(50), []

    def deliver(name):
        runs.append(upsert(sandbox, records, tmp_path / name, policy=PATIENT))

    threads = [threading.Thread(target=deliver, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.counts for run in runs] == [(50, 50, 0, 0)] * 2
    assert in_lago(sandbox) == expected(records)


def test_a_rerun_with_skip_unchanged_changes_nothing(sandbox, tmp_path):
    records = customers(50)
    upsert(sandbox, records, tmp_path)
    before = sandbox.dump()
    run = upsert(sandbox, records, tmp_path, skip_unchanged=True)
    assert run.counts == (50, 0, 0, 50)
    assert sandbox.dump() == before


def test_a_rate_limit_of_lago_cloud_slows_down_and_loses_nothing(tmp_path):
    with Sandbox(api_keys=[KEY], rate_limit=50, rate_window=0.5) as limited:
        run = upsert(limited, customers(100), tmp_path, concurrency=10)
        assert run.counts == (100, 100, 0, 0)
        assert methods(limited)["POST"] >= 100


def test_every_first_answer_lost_on_the_way_to_the_end_of_subscriptions(sandbox, tmp_path):
    sandbox.add_plan("basic", amount_cents=100)
    sandbox.add_customer("acme")
    for n in range(20):
        sandbox.add_subscription(f"s{n}", "acme", "basic")
    sandbox.fault("lost_response", method="DELETE", every=2)
    sandbox.fault("error_after_commit", method="DELETE", every=3)
    run = terminate(sandbox, [{"external_id": f"s{n}"} for n in range(20)], tmp_path)
    assert run.kinds == {"terminated": 20}
    assert {row["status"] for row in sandbox.subscriptions()} == {"terminated"}
