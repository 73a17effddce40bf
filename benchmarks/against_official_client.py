"""
Events per second beside Lago's official Python client, at a server's latency, in one run.

``python benchmarks/against_official_client.py [--latency 0.05] [--concurrency 64] [--events 200000]``

The official client sends batches of 100 from the same file in a loop, which is what its documentation shows. Both sides
may use all cores. The official client's share of the file is smaller, because it takes so much longer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

from workload import KEY, connect, execute, sink, write_usage

OFFICIAL_SHARE = 50


def official(url: str, path: Path, count: int) -> float:
    """Deliver with lago-python-client and return events per second."""
    from lago_python_client.client import Client
    from lago_python_client.models import BatchEvent, Event

    client = Client(api_key=KEY, api_url=url)
    started = time.perf_counter()
    with path.open() as stream:
        for start in range(0, count, 100):
            size = min(100, count - start)
            client.events.batch_create(BatchEvent(events=[Event(**json.loads(line)) for line in islice(stream, size)]))
    return count / (time.perf_counter() - started)


def ours(path: Path, count: int, concurrency: int) -> float:
    """Deliver with the operator, all checks on, and return events per second."""
    started = time.perf_counter()
    summary = execute(files=str(path), concurrency=concurrency)
    assert summary["accepted"] == count, summary
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before the server answers")
    parser.add_argument("--concurrency", type=int, default=64, help="requests in flight")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {"lago-python-client": [], "airflow-provider-lago": []}
    with tempfile.TemporaryDirectory() as folder, sink(arguments.latency) as url:
        connect(url)
        path = write_usage(Path(folder) / "usage.jsonl", arguments.events)
        # Both import their libraries before the first measured round, as a long-running task has.
        official(url, path, 100)
        ours(write_usage(Path(folder) / "first.jsonl", 100), 100, 1)
        for _ in range(arguments.rounds):
            rates["lago-python-client"].append(official(url, path, arguments.events // OFFICIAL_SHARE))
            rates["airflow-provider-lago"].append(ours(path, arguments.events, arguments.concurrency))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"\n{arguments.latency * 1000:g} ms latency, {arguments.concurrency} in flight, median of {arguments.rounds}")
    for name, median in medians.items():
        print(f"  {name:24} {median:>10,.0f} events/s  ({', '.join(f'{rate:,.0f}' for rate in rates[name])})")
    ratio = medians["airflow-provider-lago"] / medians["lago-python-client"]
    print(f"  ratio {ratio:.0f}; the limit of {arguments.concurrency} requests in flight is "
          f"{arguments.concurrency * 100 / arguments.latency:,.0f} events/s")  # fmt: skip


if __name__ == "__main__":
    main()
