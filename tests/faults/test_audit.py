"""``on_duplicate="verify"`` over a bad wire: what says something else is found, and nothing but that."""

import json
import logging
import random

import pytest
from support.deliveries import KEY, connection

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.sandbox import Sandbox
from airflow_provider_lago.sources.values import ValueSource

QUICK = RetryPolicy(attempts=15, base=0.001, cap=0.005)
FAULTS = ("error", "lost_response", "error_after_commit", "cut_body", "broken_json", "reset")


def deliver(sandbox, records, folder, **plan):
    """Deliver as Airflow would, with another try after one that ends early; return the last one and its lines."""
    for n in range(5):
        made = EventPlan(
            source=ValueSource(records),
            shaping=EventShaping(),
            settings=connection(sandbox.url, api_key=sandbox.api_key, read_timeout=5.0),
            user_agent="test",
            policy=QUICK,
            audit=True,
            **plan,
        )
        report = FolderReport(folder / str(n), {"run_id": "r"}, receipts=True, conflicts=True)
        result = Delivery(made, report, logging.getLogger("test")).run()
        report.finish(result.summary())
        if result.halt is None:
            break
    assert result.halt is None
    names = ("conflicts", "rejected", "receipts")
    return result.tally, {
        name: [json.loads(line) for line in (folder / str(n) / f"{name}.jsonl").read_bytes().splitlines()]
        for name in names
    }


def event(n, shared):
    # Ids that several subscriptions share are looked up in a list, those of one alone by their path.
    return {
        "transaction_id": f"t{n // 2 if shared else n}",
        "external_subscription_id": f"s{n % 2}",
        "code": "c",
        "timestamp": 1_700_000_000 + n % 50,
        "properties": {"n": n},
    }


@pytest.mark.parametrize("batch_size", [100, 7, 1])
@pytest.mark.parametrize("shared", [False, True], ids=["own ids", "shared ids"])
def test_each_conflict_is_found_and_nothing_else(tmp_path, batch_size, shared):
    draw = random.Random(batch_size + shared)
    count = 60 if batch_size == 1 else 300
    first = [event(n, shared) for n in range(count)]
    records = [{**record, "properties": dict(record["properties"])} for record in first]
    changed = set(draw.sample(range(count), 40)) | set(range(2 * batch_size))  # among them whole requests
    for n in changed:
        records[n]["properties"]["n"] += 1000
    records += [event(n, shared) for n in range(count, count + 40)]  # new ones
    with Sandbox(api_keys=[KEY]) as sandbox:
        deliver(sandbox, first, tmp_path / "first", batch_size=batch_size)
        before = {
            (row["external_subscription_id"], row["transaction_id"]): row["properties"] for row in sandbox.events()
        }
        sandbox.fault("lost_response", method="POST", contains='"n":1000}', times=1)
        for seed, kind in enumerate(FAULTS):
            for method in ("GET", "POST"):
                sandbox.fault(kind, method=method, probability=0.03, seed=draw.randrange(1000) + seed)
        sandbox.fault("rate_limit", every=41, reset=0)
        tally, lines = deliver(sandbox, records, tmp_path / "again", batch_size=batch_size)
        after = {
            (row["external_subscription_id"], row["transaction_id"]): row["properties"] for row in sandbox.events()
        }
    positions = {n + 1 for n in changed}
    assert {line["position"] for line in lines["conflicts"]} == positions
    assert {line["position"] for line in lines["rejected"]} == positions
    assert len(lines["conflicts"]) == len(lines["rejected"]) == tally.rejected == len(positions)
    assert all(
        line["source"]["properties"]["n"] - 1000 == line["lago"]["properties"]["n"] for line in lines["conflicts"]
    )
    assert tally.settled == tally.read == len(records)
    outcomes = {line["position"]: line["outcome"] for line in lines["receipts"]}
    assert {position for position, outcome in outcomes.items() if outcome == "rejected"} == positions
    assert len(after) == len(records)
    assert {key: after[key] for key in before} == before
