"""``make demo``: bill 16 airlines twice through Airflow, and show that the second run adds nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local_airflow import (
    LOG,
    OUTPUT,
    PROJECT,
    end_on_signals,
    environment,
    migrate,
    running,
    sandbox_of_2013,
    say,
    shown,
)

DAG = PROJECT / "example_dags" / "bill_airlines.py"


def main() -> int:
    """Run the demo; the exit status is 0 only if everything came out as it should."""
    end_on_signals()
    started = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    folders = [OUTPUT / "first", OUTPUT / "second"]
    for folder in folders:
        folder.mkdir(parents=True)
    # The second run delivers the same file, so that the only thing that can differ is what Lago holds.
    (folders[1] / "flights.csv").symlink_to(folders[0] / "flights.csv")
    LOG.write_bytes(b"")
    runs = []
    with sandbox_of_2013() as sandbox:
        env = environment(sandbox)
        migrate(env)
        say(f"Sandbox on {sandbox.url}; Airflow's full log goes to {shown(LOG)}.")
        say(f"Airflow runs {shown(DAG)}, and then runs it again ...")
        for folder, state in zip(folders, dag_runs(env, folders), strict=False):
            if state != "success":
                break
            runs.append(Run(folder, sandbox.count()))
            say(f"\n{folder.name.capitalize()} run\n{runs[-1].summary_text()}")
            if len(runs) == 1:
                say(f"\n{runs[0].table}")
    if len(runs) < len(folders):
        return fail(f"a run did not succeed; see {shown(LOG)}, which ends with:\n{last_lines(LOG)}")
    if wrong := faults(*runs):
        return fail("; ".join(wrong))
    say("  nothing was added: the same events, miles and dollars, airline by airline\n")
    say(f"The rejected flights, each with its reason: {shown(folders[0] / 'report' / 'rejected.jsonl')}")
    say(f"Done in {time.monotonic() - started:.0f} s.")
    return 0


def dag_runs(env: Mapping[str, str], folders: Sequence[Path]) -> Iterator[str]:
    """Run the Dag once for each folder, in one process, and yield how each run ended."""
    hearing, telling = os.pipe()
    command = [sys.executable, str(PROJECT / "scripts" / "run_dag.py"), str(DAG)]
    confs = [json.dumps({"folder": str(folder)}) for folder in folders]
    with (
        os.fdopen(hearing) as lines,
        running([*command, *confs], {**env, "TELL_FD": str(telling)}, pass_fds=[telling]) as process,
    ):
        os.close(telling)
        for line in lines:
            yield line.strip()
        process.wait()


class Run:
    """
    What one run left behind.

    :param folder: Where it wrote.
    :param events: Events that Lago holds after it.
    """

    def __init__(self, folder: Path, events: int) -> None:
        self.events = events
        self.summary: dict[str, Any] = json.loads((folder / "report" / "summary.json").read_text())
        self.table = (folder / "reconciliation.txt").read_text()

    def faults(self) -> list[str]:
        """Check that every record has one outcome, and that Lago holds what was delivered."""
        summary = self.summary
        outcomes = sum(summary[name] for name in ("accepted", "duplicate", "rejected", "skipped"))
        faults = []
        if summary["read"] != outcomes:
            faults.append(f"{summary['read']} records were read, and {outcomes} have an outcome")
        if summary["accepted"] + summary["duplicate"] != self.events:
            faults.append(f"Lago holds {self.events} events")
        return faults

    def summary_text(self) -> str:
        """Return the delivery's counts for a person."""
        summary = self.summary
        delivered = summary["accepted"] + summary["duplicate"]
        counts = "  ".join(f"{name} {summary[name]:,}" for name in ("read", "accepted", "duplicate", "rejected"))
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in summary["reasons"].items())
        pace = f"{summary['requests']:,} requests, {delivered / summary['seconds']:,.0f} events/s"
        return f"  {counts}\n  rejected because: {reasons}\n  {pace}"


def faults(first: Run, second: Run) -> list[str]:
    """Check what both runs left behind."""
    wrong = first.faults() + second.faults()
    if second.summary["accepted"] or second.summary["duplicate"] != first.summary["accepted"]:
        wrong.append("the second run should have found all events of the first in Lago, and nothing new")
    if second.events != first.events or second.table != first.table:
        wrong.append("what Lago holds changed with the second run")
    return wrong


def last_lines(path: Path) -> str:
    """Return the end of a file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:])


def fail(why: str) -> int:
    """Say what went wrong."""
    say(f"\nFAILED: {why}")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\nStopped.")
        sys.exit(130)
