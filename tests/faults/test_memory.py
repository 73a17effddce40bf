"""A delivery's memory does not depend on the length of its source, whatever its format."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
BENCHMARKS = PROJECT / "benchmarks"
FEW, MANY = 20_000, 200_000
MIB = 2**20

_WRITE = """
import sys
from pathlib import Path
from workload import write
print(write(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, str(PROJECT / "tests" / "support" / "sink.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def python(*arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=BENCHMARKS,
        env={"PYTHONPATH": str(PROJECT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


def peak(folder, url, source, count):
    """Return what the process needs beyond what it held before ``execute``, in MiB."""
    path = python("-c", _WRITE, str(folder), source, str(count)).strip()
    run = {"client": "provider", "url": url, "in_flight": 64, "source": source, "path": path, "events": count}
    return json.loads(python("run.py", json.dumps({**run, "warm": False})).partition("RESULT")[2])["peak"] / MIB


@pytest.mark.parametrize(
    ("source", "most", "growth"), [("jsonl", 48, 10), ("csv", 48, 10), ("gzip", 48, 10), ("parquet", 200, 60)]
)
def test_ten_times_the_events_need_no_more_memory(tmp_path, url, source, most, growth):
    few, many = (peak(tmp_path, url, source, count) for count in (FEW, MANY))
    assert many <= most
    assert many - few <= growth
