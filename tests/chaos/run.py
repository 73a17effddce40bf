"""
Random deliveries under random faults, each driven to its end and checked.

``python tests/chaos/run.py --runs 2000 --events 10000 --seed 1 --jobs 2``; a run that fails prints the command that
repeats it, and its folder is kept. Needs Linux.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from chaos import checks, records  # noqa: E402
from chaos.checks import Problem  # noqa: E402
from chaos.scenario import Scenario, scenario  # noqa: E402
from chaos.server import Server  # noqa: E402
from chaos.tries import Disk, Ended, call, preparation, run_try  # noqa: E402

#: Tries after which a delivery has no end: far more than there are interruptions in a run.
_MOST_TRIES = 60


@dataclass
class Outcome:
    """What came of a run."""

    seed: int
    about: str
    records: int = 0
    requests: int = 0
    seconds: float = 0.0
    tries: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    folder: str = ""


_shared: Server | None = None


def run_one(seed: int, events: int, keep: bool = False) -> Outcome:
    """Run one seed."""
    logging.getLogger("chaos").setLevel(logging.CRITICAL)
    made = scenario(seed, events)
    outcome = Outcome(seed, str(made))
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    started = time.monotonic()
    gc.collect()
    try:
        _run(made, folder, outcome)
    except Exception:  # noqa: BLE001 - told with the run that it is of
        outcome.problems.append(Problem("broken", traceback.format_exc()))
    outcome.seconds = time.monotonic() - started
    if outcome.problems or keep:
        outcome.folder = str(folder)
        (folder / "problems.txt").write_text("\n".join(map(str, (*outcome.problems, outcome.tries))))
    else:
        shutil.rmtree(folder)
    return outcome


def _run(made: Scenario, folder: Path, outcome: Outcome) -> None:
    made_of = records.make(made.seed, made.events, made.shape, made.shares, folder)
    outcome.records = len(made_of.fates)
    report = folder / "report"
    with ExitStack() as stack:
        elsewhere = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        made.elsewhere = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        server = _server(made, folder, stack)
        disk = stack.enter_context(Disk(report)) if made.disks else None
        server.call("prepare", *preparation(made))
        if made.earlier:
            server.call("hold_faults", True)
            first = run_try(made, made_of, 0, report, server, None)
            if first.how != "complete":
                raise RuntimeError(f"the earlier delivery did not end well: {first}")
            server.call("hold_faults", False)
        tries = _until_complete(made, made_of, report, server, disk, outcome)
        held = call(made, server, "held")
        outcome.faults += server.counts + Counter(call(made, server, "counts"))
        outcome.faults["disk full"] += sum(ended.how == "disk full" for ended in tries)
        if tries[-1].how == "complete":
            outcome.problems += checks.check(made, made_of, held, tries, report)
        elsewhere.setblocking(False)
        try:
            elsewhere.accept()
        except BlockingIOError:
            pass
        else:
            outcome.problems.append(Problem("broken", "a redirect was followed to another server"))
        if disk is not None and disk.is_real and outcome.problems:
            shutil.copytree(report, folder / "report-of-disk")


def _server(made: Scenario, folder: Path, stack: ExitStack) -> Server:
    global _shared  # noqa: PLW0603 - one for all runs of this process that do not restart it
    if made.on_disk:
        server = Server(folder / "lago.db")
        stack.callback(server.end)
        return server
    if _shared is None:
        _shared = Server()
    _shared.counts.clear()
    _shared.requests = 0
    return _shared


def _until_complete(
    made: Scenario, made_of: records.Records, report: Path, server: Server, disk: Disk | None, outcome: Outcome
) -> list[Ended]:
    """Try as Airflow does, until every record has an outcome; after a final error somebody mends its cause."""
    tries: list[Ended] = []
    while not tries or tries[-1].how != "complete":
        number = len(tries) + 1
        limit = made.disks.get(number)
        if disk is not None and disk.is_real:
            disk.resize(limit)
        ended = run_try(made, made_of, number, report, server, limit)
        tries.append(ended)
        outcome.tries.append(f"{ended.how}: {ended.why}" if ended.why else ended.how)
        outcome.requests += ended.counts.get("requests", 0)
        outcome.faults["killed"] += ended.how == "killed"
        outcome.faults["resumed"] += ended.resumed
        if ended.how in ("hung", "broken"):
            outcome.problems.append(Problem(ended.how, ended.why))
            break
        if number >= _MOST_TRIES:
            outcome.problems.append(Problem("hung", f"not complete after {number} tries: {ended.why}"))
            break
        if ended.how == "final":
            call(made, server, "restore")
    return tries


class _Totals:
    def __init__(self) -> None:
        self.runs = self.records = self.requests = self.tries = 0
        self.faults: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.failed: list[Outcome] = []
        self.slowest: list[tuple[float, int]] = []

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.records += outcome.records
        self.requests += outcome.requests
        self.tries += len(outcome.tries)
        self.faults += outcome.faults
        self.problems.update(problem.kind for problem in outcome.problems)
        if outcome.problems:
            self.failed.append(outcome)
        self.slowest = sorted([*self.slowest, (outcome.seconds, outcome.seed)], reverse=True)[:3]

    def table(self, seconds: float) -> str:
        interruptions = ("kill", "stop", "interrupt", "killed", "revoke", "restart", "crash", "disk full", "resumed")
        rows = [
            ("runs", self.runs),
            ("records", self.records),
            ("requests that a try told of", self.requests),
            ("tries", self.tries),
            *((f"fault: {name}", n) for name, n in sorted(self.faults.items()) if name not in interruptions),
            *(
                (f"interruption: {name}", self.faults[name])
                for name in interruptions
                if name not in ("killed", "resumed")
            ),
            ("tries that ended by a kill", self.faults["killed"]),
            ("tries that went on from a checkpoint", self.faults["resumed"]),
            *((kind, self.problems[kind]) for kind in ("lost", "doubled", "miscounted", "evidence", "hung", "broken")),
            ("seconds", round(seconds)),
        ]
        slow = ", ".join(f"seed {seed}: {seconds:.1f} s" for seconds, seed in self.slowest)
        return "\n".join(
            ["| what | number |", "|---|---:|", *(f"| {name} | {n:,} |" for name, n in rows), f"\nSlowest: {slow}"]
        )


def _repeat(outcome: Outcome, arguments: argparse.Namespace) -> str:
    return f"python tests/chaos/run.py --seed {outcome.seed} --events {arguments.events} --only"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--events", type=int, default=1_000, help="records of a run")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others count on")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="store_true", help="this one seed, and keep its folder")
    arguments = parser.parse_args()
    if arguments.only:
        outcome = run_one(arguments.seed, arguments.events, keep=True)
        print(outcome.about, *outcome.tries, *outcome.problems, dict(outcome.faults), outcome.folder, sep="\n")
        return bool(outcome.problems)
    print(f"{arguments.runs:,} runs of {arguments.events:,} events, seeds from {arguments.seed}", flush=True)
    started, totals = time.monotonic(), _Totals()
    last = started
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    jobs = [(seed, arguments.events) for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for outcome in pool.imap_unordered(_run_job, jobs):
            totals.add(outcome)
            if outcome.problems:
                print(f"FAILED {outcome.about}\n  {_repeat(outcome, arguments)}\n  {outcome.folder}")
                print(*(f"  {problem.kind}: {problem.text}" for problem in outcome.problems), sep="\n", flush=True)
            if time.monotonic() - last > 30:
                last = time.monotonic()
                print(f"{totals.runs:,} runs after {last - started:.0f} s, {len(totals.failed)} failed", flush=True)
    print(totals.table(time.monotonic() - started))
    return bool(totals.failed)


def _run_job(job: tuple[int, int]) -> Outcome:
    return run_one(*job)


if __name__ == "__main__":
    sys.exit(main())
