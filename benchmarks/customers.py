"""
Requests per second of customers delivered to a sandbox in a process of its own, and whether bounds are kept.

    python benchmarks/customers.py [--customers 10000] [--concurrency 10] [--latency 0.02] [--bound 200]

First without a bound: with 10 in flight and 20 ms for each answer, 500 requests a second are possible; 85 % of that
must be reached. What plain sockets reach that ask for one customer after the other says how much of the rest is the
server's. Then with ``requests_per_second``: no second at the server may see more. Exits with 1 if either is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import subprocess
import sys
import time
import urllib.request

import msgspec

from airflow_provider_lago.api.connection import ConnectionSettings
from airflow_provider_lago.delivery.calls.customers import CustomerPlan
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.sources.values import ValueSource

KEY = "11111111-2222-4333-8444-555555555555"
REACHED = 0.85


def customers(count: int, run: str) -> list[dict[str, object]]:
    return [
        {
            "external_id": f"{run}-{number:06d}",
            "name": f"Customer {number}",
            "email": f"billing@customer{number}.example.com",
            "country": "US",
            "currency": "USD",
            "address_line1": f"{number} Main Street",
            "city": "Springfield",
            "metadata": {"tier": "gold", "region": "us-east"},
        }
        for number in range(count)
    ]


def deliver(url: str, records: list[dict[str, object]], concurrency: int, bound: float | None) -> tuple[float, float]:
    """Return the requests a second, and the client's own CPU seconds; every customer must be created."""
    settings = ConnectionSettings(
        conn_id="lago_default",
        api_url=f"{url}/api/v1",
        api_key=KEY,
        ingest_url=None,
        connect_timeout=10.0,
        read_timeout=60.0,
        verify=True,
        proxy=None,
        requests_per_second=None,
    )
    plan = CustomerPlan(
        source=ValueSource(records),
        settings=settings,
        user_agent="benchmark",
        concurrency=concurrency,
        requests_per_second=bound,
    )
    cpu, start = time.process_time(), time.perf_counter()
    result = Delivery(plan, log=logging.getLogger("benchmark")).run()
    seconds = time.perf_counter() - start
    if result.halt is not None or result.tally.kinds["created"] != len(records):
        raise SystemExit(f"not all were created: {result.tally} {result.halt}")
    return result.tally.requests / seconds, time.process_time() - cpu


async def plainly(port: int, count: int, connections: int) -> float:
    """Return the requests a second of plain sockets that read an unknown customer each time."""
    queue = iter(range(count))

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in queue:
            head = (
                f"GET /api/v1/customers/none{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\r\n"
            )
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer)
            await reader.readexactly(int(length.group(1)) if length else 0)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return count / (time.perf_counter() - start)


def arrivals(url: str) -> list[float]:
    """When the last requests arrived at the server."""
    with urllib.request.urlopen(f"{url}/_sandbox/requests") as answer:
        return sorted(seen["at"] for seen in msgspec.json.decode(answer.read())["requests"])


def busiest_second(times: list[float]) -> int:
    first = most = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--bound", type=float, default=200)
    parser.add_argument("--bounded-customers", type=int, default=1_000)
    arguments = parser.parse_args()
    latency = str(arguments.latency)
    command = [sys.executable, "-m", "airflow_provider_lago.sandbox", "--port", "0", "--latency", latency]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = re.search(r"(http://\S+)", server.stdout.readline())
        assert address is not None, "the server did not start"
        url = address.group(1)
        deliver(url, customers(200, "warm"), arguments.concurrency, None)
        plain = asyncio.run(plainly(int(url.rsplit(":", 1)[1]), 200 * arguments.concurrency, arguments.concurrency))
        possible = arguments.concurrency / arguments.latency
        rate, cpu = deliver(url, customers(arguments.customers, "free"), arguments.concurrency, None)
        fast = rate >= REACHED * possible
        each = 1e6 * cpu / (2 * arguments.customers)
        print(
            f"{arguments.customers:,} customers, {arguments.concurrency} in flight, {1000 * arguments.latency:g} ms: "
            f"{rate:,.0f} requests/s, {rate / possible:.0%} of {possible:,.0f}/s: {'ok' if fast else 'MISSED'}"
        )
        print(f"{rate / plain:.0%} of the {plain:,.0f}/s of plain sockets; {each:.0f} us of our CPU a request")
        urllib.request.urlopen(urllib.request.Request(f"{url}/_sandbox/reset", method="POST")).read()
        rate, _ = deliver(url, customers(arguments.bounded_customers, "bound"), arguments.concurrency, arguments.bound)
        most = busiest_second(arrivals(url))
        kept = most <= arguments.bound
        print(
            f"requests_per_second={arguments.bound:g}: {rate:,.0f} requests/s, at most {most} in any second at the "
            f"server: {'ok' if kept else 'MISSED'}"
        )
    finally:
        server.terminate()
        server.wait(10)
    return 0 if fast and kept else 1


if __name__ == "__main__":
    sys.exit(main())
