"""``make demo``: bill 16 airlines twice through Airflow, and show that the second run adds nothing."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from local_airflow import (
    LOG,
    OUTPUT,
    PROJECT,
    end_on_signals,
    environment,
    migrate,
    run,
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
    OUTPUT.mkdir(parents=True)
    LOG.write_bytes(b"")
    with sandbox_of_2013() as sandbox:
        env = environment(sandbox)
        migrate(env)
        say(f"Sandbox on {sandbox.url}; Airflow's full log goes to {shown(LOG)}.")
        runs = []
        for title in ("First run", "Second run, of the same flights"):
            say(f"\n{title}: Airflow runs {shown(DAG)} ...")
            if run([sys.executable, PROJECT / "scripts" / "run_dag.py", DAG], env):
                return fail(f"The run failed; see {shown(LOG)}, which ends with:\n{last_lines(LOG)}")
            runs.append(Run(sandbox.count()))
            say(runs[-1].summary_text())
            if len(runs) == 1:
                say(f"\n{runs[0].table}")
    first, second = runs
    wrong = first.faults() + second.faults()
    if second.summary["accepted"] or second.summary["duplicate"] != first.summary["accepted"]:
        wrong.append("the second run should have found all events of the first in Lago, and nothing new")
    if second.events != first.events or second.table != first.table:
        wrong.append("what Lago holds changed with the second run")
    if wrong:
        return fail("; ".join(wrong))
    say("\nThe second run added nothing: the same events, miles and dollars, airline by airline.")
    say(f"Rejected flights with their reasons: {shown(OUTPUT / 'report' / 'rejected.jsonl')}")
    say(f"Done in {time.monotonic() - started:.0f} s.")
    return 0


class Run:
    """
    What one run left behind.

    :param events: Events that Lago holds after it.
    """

    def __init__(self, events: int) -> None:
        self.events = events
        self.summary: dict[str, Any] = json.loads((OUTPUT / "report" / "summary.json").read_text())
        self.table = (OUTPUT / "reconciliation.txt").read_text()

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
        pace = f"{summary['requests']:,} requests in {summary['seconds']:.1f} s, {delivered / summary['seconds']:,.0f} events/s"
        return f"  {counts}\n  rejected because: {reasons}\n  {pace}"


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
