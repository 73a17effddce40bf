"""Shards on two workers of Celery: nothing is lost or doubled, the counts add up, and there is one summary."""

import json
from collections import Counter

import pytest
from support import postgres, redis
from support.celery_cluster import WORKER, celery_cluster
from support.killing import lago, write_usage
from support.standalone import wait_for

EVENTS = 20_000
INVALID = 30
SHARDS = 4

_DAG = '''
"""Usage, divided among workers."""

import os
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lago.operators import LagoIngestEventsOperator
from airflow_provider_lago.sharding import plan_shards, sum_summaries


def tell(context):
    """Write down which worker runs this shard."""
    note = Path("{folder}") / f"shard{context['ti'].map_index}"
    note.write_text(os.environ["{worker}"])


with DAG("sharded", schedule=None):
    shards = task(plan_shards)("{folder}/usage.*", shards={shards}, requests_per_second=400)
    deliveries = LagoIngestEventsOperator.partial(
        task_id="deliver",
        report_path="{folder}/report",
        max_rejected="1%",
        receipts=True,
        on_execute_callback=tell,
    ).expand_kwargs(shards)
    task(sum_summaries)(deliveries.output)
'''

pytestmark = pytest.mark.skipif(
    bool(postgres.why_missing() or redis.why_missing()), reason=f"{postgres.why_missing()}; {redis.why_missing()}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("celery")


@pytest.fixture(scope="module")
def server(folder):
    with lago(folder, "postgres") as server:
        yield server


@pytest.fixture(scope="module")
def airflow(folder, server):
    dags, home = folder / "dags", folder / "airflow"
    dags.mkdir()
    home.mkdir()
    text = _DAG.replace("{folder}", str(folder)).replace("{worker}", WORKER).replace("{shards}", str(SHARDS))
    (dags / "sharded.py").write_text(text)
    with celery_cluster(home, dags, 1, AIRFLOW_CONN_LAGO_DEFAULT=server.connection) as running:
        yield running


def test_shards_on_two_workers_lose_and_double_nothing(airflow, server, folder):
    write_usage(folder / "usage.jsonl", EVENTS)
    with (folder / "usage.jsonl").open("a") as stream:
        stream.writelines(json.dumps({"transaction_id": f"bad{n}"}) + "\n" for n in range(INVALID))
    airflow.trigger("sharded", "once", {})
    at = ("sharded", "once", "sum_summaries")
    wait_for(
        "the summary", lambda: airflow.task(*at)["state"] in ("success", "failed", "upstream_failed"), airflow.lives
    )
    summary = airflow.returned(*at)
    assert summary["shards"] == SHARDS
    counts = {name: summary[name] for name in ("read", "accepted", "duplicate", "rejected", "skipped")}
    assert counts == {
        "read": EVENTS + INVALID,
        "accepted": EVENTS,
        "duplicate": 0,
        "rejected": INVALID,
        "skipped": 0,
    }
    assert set(server.billed().values()) == {1}
    assert len(server.billed()) == EVENTS
    receipts = Counter()
    for shard in range(SHARDS):
        lines = (folder / "report" / str(shard) / "receipts.jsonl").read_text().splitlines()
        receipts.update(json.loads(line)["outcome"] for line in lines)
    assert receipts == {"accepted": EVENTS, "rejected": INVALID}
    assert {(folder / f"shard{shard}").read_text() for shard in range(SHARDS)} == {"0", "1"}
