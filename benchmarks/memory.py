"""
Peak memory of a delivery above what the process held before ``execute``: ``python benchmarks/memory.py [EVENTS ...]``.

Each figure comes from a process of its own (``VmHWM``, so the import of the HTTP client within ``execute`` counts).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from workload import connect, execute, sink, write_usage

COUNTS = [100_000, 1_000_000]


def memory(name: str) -> int:
    """Return a memory figure of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def measure(path: str, url: str) -> None:
    """Deliver once and print the peak above the start, in bytes."""
    connect(url)
    import airflow_provider_lago.hooks.lago
    import airflow_provider_lago.operators.events  # noqa: F401

    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, so that imports before do not hide the growth
    before = memory("VmRSS")
    summary = execute(files=path, concurrency=64)
    assert summary["read"] == summary["accepted"], summary
    print(f"RESULT {memory('VmHWM') - before} {summary['read']}")


def main() -> None:
    counts = [int(count.replace("_", "")) for count in sys.argv[1:]] or COUNTS
    with tempfile.TemporaryDirectory() as folder, sink(0) as url:
        for count in counts:
            path = write_usage(Path(folder) / f"{count}.jsonl", count)
            done = subprocess.run(
                [sys.executable, __file__, "--measure", str(path), url], capture_output=True, text=True, check=True
            )
            peak = int(next(line for line in done.stdout.splitlines() if line.startswith("RESULT")).split()[1])
            print(f"{count:>10,} events: {peak / 2**20:5.1f} MiB above the process before execute", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        main()
