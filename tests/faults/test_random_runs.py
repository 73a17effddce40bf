"""Random deliveries under random faults, kills and restarts: the short form of ``make chaos``."""

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[1] / "chaos" / "run.py"
RUNS = 200


def test_each_of_many_random_runs_leaves_every_event_once_and_every_reject_in_its_file():
    # More jobs than cores: most of a run of few events is waiting for timeouts and pauses.
    command = [sys.executable, str(RUN), "--runs", str(RUNS), "--events", "300", "--seed", "1", "--jobs", "4"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stderr[-5_000:]
    assert f"| runs | {RUNS} |" in done.stdout
    for kind in ("lost", "doubled", "miscounted"):
        assert f"| {kind} | 0 |" in done.stdout
    assert "| interruption: kill | 0 |" not in done.stdout
    assert "| tries that went on from a checkpoint | 0 |" not in done.stdout
