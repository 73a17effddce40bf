"""
Deliveries under Airflow's real task runner whose task is killed at random points, and what the retry sends again.

    python benchmarks/killed.py [--events 1000000] [--store postgres clickhouse] [--seed 1] [--kills 1 1 1 2] [--how H]

Runs ``airflow standalone`` (LocalExecutor, SQLite) and the sandbox, each as processes of their own; the default is four
deliveries to each store, the last of which is killed twice. ``--how``: ``kill`` is SIGKILL to the task's process,
``term`` SIGTERM to it, ``supervisor`` SIGKILL to the process above it, which leaves the task an orphan, and ``fail`` a
person who marks the task failed and clears it then. ``--kills 0 --compare`` shows what checkpoints cost. Exits with 1
if an event is lost or doubled, if counts are wrong, or if 5,000 or more are sent again for a kill.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.killing import DURABLE, PLAIN, Delivery, Outcome, lago, write_dags, write_usage
from support.standalone import standalone, wait_for

LIMIT = 5_000

#: An orphaned task is given up after so many seconds; five minutes by default.
TIMEOUTS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
}


def hit(delivery: Delivery, how: str, tries: int) -> None:
    """End a try."""
    processes = delivery.processes(tries)
    if how in ("kill", "term"):
        os.kill(processes["task"], signal.SIGKILL if how == "kill" else signal.SIGTERM)
    elif how == "supervisor":
        os.kill(processes["supervisor"], signal.SIGKILL)
    elif how == "fail":
        delivery.mark("failed")
        wait_for("the end of the task's process", lambda: not Path(f"/proc/{processes['task']}").exists())
        state = delivery.task()["state"]
        print(f"    marked failed: the process has ended, state {state}, kept: {sorted(delivery.kept())}", flush=True)
        delivery.clear()


def wrong(outcome: Outcome, count: int, how: str, hits: int) -> list[str]:
    """Return what is not as it should be."""
    found = []
    if outcome.state != "success":
        found.append(f"the task is {outcome.state}")
    if outcome.lost or outcome.doubled or outcome.foreign:
        found.append(f"{outcome.lost} lost, {outcome.doubled} doubled, {outcome.foreign} foreign")
    summary = outcome.summary or {}
    outcomes = tuple(summary.get(name) for name in ("read", "accepted", "duplicate", "rejected"))
    if (how in ("kill", "term") or not hits) and outcomes != (count, count, 0, 0):
        found.append(f"read, accepted, duplicate, rejected are {outcomes}")
    if hits and how in ("kill", "term") and outcome.received - count >= LIMIT * hits:
        found.append(f"{outcome.received - count:,} events were sent again")
    if outcome.kept:
        found.append(f"the state store still holds {sorted(outcome.kept)}")
    return found


def told(outcome: Outcome, count: int, seconds: float) -> str:
    """Return the figures of a delivery."""
    summary = outcome.summary or {}
    counts = ", ".join(f"{name} {summary.get(name)}" for name in ("read", "accepted", "duplicate", "rejected"))
    times = f"{seconds:.0f} s in all, {summary.get('seconds', 0):.1f} s in the task"
    saves = sorted(outcome.saves)
    save = "no saves"
    if saves:
        slow = saves[int(0.99 * len(saves))]
        save = f"{len(saves)} saves, median {1e3 * statistics.median(saves):.1f} ms, p99 {1e3 * slow:.1f} ms"
    return (
        f"{outcome.state} in try {outcome.tries}: sent again {outcome.received - count:,}, lost {outcome.lost}, "
        f"doubled {outcome.doubled}; {counts}; {times}; {save}"
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("postgres", "clickhouse"), nargs="+", default=["postgres", "clickhouse"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, nargs="+", default=[1, 1, 1, 2], help="in each delivery, one number each")
    parser.add_argument("--how", choices=("kill", "term", "fail", "supervisor"), default="kill")
    parser.add_argument("--slower", type=float, default=0, metavar="SECONDS", help="that a checkpoint takes to save")
    parser.add_argument("--compare", action="store_true", help="each delivery without checkpoints too")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder, to keep Airflow's logs in")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with all that was started
    rng, count, bad = random.Random(arguments.seed), arguments.events, False
    with contextlib.ExitStack() as stack:
        folder = Path(
            arguments.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="lago-killed-"))
        ).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        source = write_usage(folder / "usage.jsonl", count)
        servers = [stack.enter_context(lago(folder, store)) for store in arguments.store]
        connections = {f"AIRFLOW_CONN_{server.store.upper()}": server.connection for server in servers}
        home = folder / "airflow"
        home.mkdir()
        airflow = stack.enter_context(standalone(home, write_dags(folder / "dags"), 2, **connections, **TIMEOUTS))
        for server, (turn, hits), dag in itertools.product(
            servers, enumerate(arguments.kills), (DURABLE, PLAIN) if arguments.compare else (DURABLE,)
        ):
            server.reset()
            started = time.monotonic()
            run = f"{server.store}-{dag}-{turn}"
            delivery = Delivery(airflow, server, source, run, dag=dag, slower=arguments.slower)
            points = sorted(rng.randrange(count // 100, count * 99 // 100) for _ in range(hits))
            held = []
            for number, point in enumerate(points, 1):
                delivery.processes(number)
                held.append(delivery.wait_for_events(point))
                hit(delivery, arguments.how, number)
            outcome = delivery.end(hits + 1)
            where = f"{arguments.how} at {', '.join(f'{events:,}' for events in held)}" if hits else "not killed"
            print(f"{server.store}, {count:,} events, {dag}, {where}:", flush=True)
            print(f"    {told(outcome, count, time.monotonic() - started)}", flush=True)
            for problem in wrong(outcome, count, arguments.how, hits):
                bad = True
                print(f"    WRONG: {problem}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
