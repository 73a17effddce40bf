"""A delivery's memory does not depend on the length of its source."""

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"
LIMIT = 48


def test_a_million_events_need_no_more_memory_than_a_hundred_thousand():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(BENCHMARK), "100_000", "1_000_000"],
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = [float(line.split("events:")[1].split()[0]) for line in done.stdout.splitlines() if "MiB" in line]
    assert len(peaks) == 2
    assert max(peaks) <= LIMIT
    assert peaks[1] - peaks[0] <= 10
