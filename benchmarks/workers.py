"""
How much two workers deliver beside one: ``python benchmarks/workers.py [--latency 200] [--events 400000]``.

Airflow with the CeleryExecutor, Redis, PostgreSQL and two workers that take one task at a time, all on this machine.
Each delivery has 16 requests in flight, and the server answers after 200 ms: what limits it is waiting. With a server
that answers sooner it is the cores that the workers, Airflow's own processes and the server share here. One task
delivers all, then two mapped tasks half of it each; the time is that from the first task's start to the last one's end,
with everything that Airflow does about a task.

Needs cc, redis-server and PostgreSQL (Debian: apt-get install gcc libc6-dev redis-server postgresql).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bench import compiled, sink
from support.celery_cluster import celery_cluster
from support.killing import write_usage
from support.standalone import Standalone, wait_for

DAG = """
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lago.operators import LagoIngestEventsOperator
from airflow_provider_lago.sharding import plan_shards, sum_summaries

for count in (1, 2):
    with DAG(f"on_{count}", schedule=None) as dag:
        shards = task(plan_shards)("{usage}", shards=count)
        deliveries = LagoIngestEventsOperator.partial(
            task_id="deliver", concurrency=16, report_path="{reports}/{{ dag.dag_id }}/{{ run_id }}"
        ).expand_kwargs(shards)
        task(sum_summaries)(deliveries.output)
    globals()[f"on_{count}"] = dag
"""
OVER = ("success", "failed", "upstream_failed")


def seconds(airflow: Standalone, workers: int, round_: int, events: int) -> float:
    """Return the seconds from the first delivery's start to the last one's end."""
    dag, run = f"on_{workers}", f"round{round_}"
    airflow.trigger(dag, run, {})
    wait_for(run, lambda: airflow.task(dag, run, "sum_summaries")["state"] in OVER, airflow.lives)
    if airflow.task(dag, run, "sum_summaries")["state"] != "success":
        logs = sorted(airflow.folder.glob(f"logs/dag_id={dag}/run_id={run}/task_id=deliver/**/*.log"))
        raise RuntimeError("\n".join(f"{log}:\n{log.read_text()[-2_000:]}" for log in logs))
    summary = airflow.returned(dag, run, "sum_summaries")
    assert summary["accepted"] == events, summary
    assert summary["shards"] == workers, summary
    tasks = airflow.api("GET", f"dags/{dag}/dagRuns/{run}/taskInstances/deliver/listMapped")["task_instances"]
    times = [[datetime.fromisoformat(task[name]) for name in ("start_date", "end_date")] for task in tasks]
    return (max(end for _, end in times) - min(start for start, _ in times)).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--latency", type=int, default=200, help="milliseconds before the server answers")
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        usage = write_usage(folder / "usage.jsonl", options.events)
        (folder / "dags").mkdir()
        (folder / "airflow").mkdir()
        dag = DAG.replace("{usage}", str(usage)).replace("{reports}", str(folder / "reports"))
        (folder / "dags" / "workers.py").write_text(dag)
        with sink(compiled(folder), options.latency) as url:
            connection = json.dumps({"conn_type": "lago", "host": url, "password": "key"})
            with celery_cluster(
                folder / "airflow", folder / "dags", 2, AIRFLOW_CONN_LAGO_DEFAULT=connection
            ) as airflow:
                taken: dict[int, list[float]] = {1: [], 2: []}
                seconds(airflow, 2, 0, options.events)  # a worker's first task imports everything
                for round_ in range(1, options.rounds + 1):
                    for workers, found in taken.items():
                        found.append(seconds(airflow, workers, round_, options.events))
                        print(f"{workers} worker(s): {found[-1]:.1f} s", flush=True)
    one, two = (statistics.median(found) for found in taken.values())
    print("\n| workers | seconds | events/s |\n|---|---:|---:|")
    for workers, median in ((1, one), (2, two)):
        print(f"| {workers} | {median:.1f} | {options.events / median:,.0f} |")
    print(f"\nTwo workers deliver {one / two:.2f} times as fast as one.")


if __name__ == "__main__":
    main()
