"""What the benchmarks share: a usage file, the sink as a process of its own, the operator outside of a scheduler."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if "AIRFLOW_HOME" not in os.environ:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="lago-benchmark-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

KEY = "11111111-2222-4333-8444-555555555555"
SINK = Path(__file__).with_name("sink.py")


def write_usage(path: Path, count: int) -> Path:
    """Write a JSONL file of events of about 230 bytes each, the same ones every time."""
    rng = random.Random(7)
    with path.open("w") as stream:
        for n in range(count):
            event = {
                "transaction_id": f"txn-{n:012d}",
                "external_subscription_id": f"sub_{rng.randrange(10_000):06d}",
                "code": "api_calls",
                "timestamp": 1_790_000_000 + n // 50,
                "properties": {
                    "endpoint": f"/v1/things/{rng.randrange(500)}",
                    "method": rng.choice(["GET", "POST"]),
                    "bytes": rng.randrange(10_000_000),
                    "region": rng.choice(["us-east-1", "eu-west-1"]),
                    "latency_ms": rng.randrange(10_000) / 10,
                },
            }
            stream.write(json.dumps(event, separators=(",", ":")) + "\n")
    return path


@contextlib.contextmanager
def sink(delay: float) -> Iterator[str]:
    """Run the sink and give its address."""
    with subprocess.Popen([sys.executable, str(SINK), str(delay)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def connect(url: str) -> None:
    """Let ``lago_default`` be the sink."""
    os.environ["AIRFLOW_CONN_LAGO_DEFAULT"] = json.dumps({"conn_type": "lago", "host": url, "password": KEY})


def execute(**arguments: Any) -> dict[str, Any]:
    """Run the operator as a task does, from the look-up of the connection to the summary."""
    from airflow_provider_lago.operators import LagoIngestEventsOperator

    ti = SimpleNamespace(dag_id="benchmark", run_id="r", task_id="t", map_index=-1, try_number=1)
    summary: dict[str, Any] = LagoIngestEventsOperator(task_id="t", **arguments).execute({"ti": ti})  # type: ignore[typeddict-item]
    return summary
