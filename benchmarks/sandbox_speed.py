"""
Events per second of the sandbox: batches of 100 over many connections, server and client sharing the cores.

    python benchmarks/sandbox_speed.py [--events 300000] [--connections 16] [--store postgres] [--db FILE]

With ``--customers 10000 --connections 10 --latency 0.02`` it is customers and subscriptions instead, one at a time:
each is posted, looked up by ``external_id`` and read. What the server's processor spends on a request is told too,
which is what bounds a client that waits for answers anyway.

The server runs in a process of its own. The client reads every answer and checks its status; the count of
what is stored is compared at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

KEY = "11111111-2222-4333-8444-555555555555"
PROPERTIES = '{"region":"eu-west-1","bytes":123456,"status":"200"}'


def bodies(events: int, size: int, run: str) -> list[bytes]:
    """Whole HTTP requests, made before the clock starts."""
    made = []
    for first in range(0, events, size):
        items = ",".join(
            f'{{"transaction_id":"{run}-{number:09d}","external_subscription_id":"sub_{number % 500}",'
            f'"code":"api_calls","timestamp":"{1_795_000_000 + number // 50}.{number % 1000:03d}",'
            f'"properties":{PROPERTIES}}}'
            for number in range(first, min(first + size, events))
        )
        body = f'{{"events":[{items}]}}'.encode()
        made.append(
            b"POST /api/v1/events/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Accept: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
            % (KEY.encode(), len(body), body)
        )
    return made


def plain(method: str, path: str, body: str = "") -> bytes:
    return (
        f"{method} /api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


PLAN = (
    '{"plan":{"name":"p","code":"p","interval":"monthly","amount_cents":0,"amount_currency":"USD",'
    '"pay_in_advance":false}}'
)


def one_by_one(count: int, run: str) -> dict[str, list[bytes]]:
    """Rounds of requests about single customers and subscriptions."""
    names = [f"{run}-{number}" for number in range(count)]
    customers = [
        f'{{"customer":{{"external_id":"{name}","name":"Ada","email":"ada@example.com",'
        f'"metadata":[{{"key":"tier","value":"gold"}}]}}}}'
        for name in names
    ]
    bare = [f'{{"customer":{{"external_id":"{name}","name":"Ada","email":"ada@example.com"}}}}' for name in names]
    subscriptions = [
        f'{{"subscription":{{"external_id":"{name}","external_customer_id":"{name}","plan_code":"p"}}}}'
        for name in names
    ]
    return {
        "POST new customers": [plain("POST", "/customers", body) for body in customers],
        "POST the same customers": [plain("POST", "/customers", body) for body in bare],
        "GET customers by external_id": [plain("GET", f"/customers?external_id={name}") for name in names],
        "GET customers": [plain("GET", f"/customers/{name}") for name in names],
        "POST subscriptions": [plain("POST", "/subscriptions", body) for body in subscriptions],
        "GET subscriptions by external_id": [
            plain("GET", f"/subscriptions?external_id={name}&status[]=active&status[]=pending") for name in names
        ],
        "list customers, pages of 100": [plain("GET", f"/customers?page={n + 1}") for n in range(count // 100)],
        "list subscriptions, pages of 100": [plain("GET", f"/subscriptions?page={n + 1}") for n in range(count // 100)],
    }


def processor_seconds(pid: int) -> float:
    """What a process has used so far; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_one_by_one(server: subprocess.Popen[str], port: int, count: int, connections: int) -> None:
    asyncio.run(send(port, [plain("POST", "/plans", PLAN)], 1))
    for name, requests in one_by_one(count, f"run{time.time_ns()}").items():
        start, before = time.perf_counter(), processor_seconds(server.pid)
        asyncio.run(send(port, requests, connections))
        seconds, used = time.perf_counter() - start, processor_seconds(server.pid) - before
        rate, each = len(requests) / seconds, used / len(requests) * 1000
        print(f"{name}: {rate:,.0f}/s, {each:.2f} ms of the server's processor each")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_sandbox/state") as answer:
        state = json.load(answer)
    print(f"{state['customers']:,} customers and {state['subscriptions']:,} subscriptions stored")


async def send(port: int, requests: list[bytes], connections: int) -> None:
    """Share the requests among the connections; every answer must be a 200."""
    queue = iter(requests)

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in queue:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length.group(1)) if length else 0)
        writer.close()

    await asyncio.gather(*(worker() for _ in range(connections)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--db")
    parser.add_argument("--customers", type=int, help="measure these instead of events")
    parser.add_argument("--latency", type=float, default=0.0)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "airflow_provider_lago.sandbox", "--port", "0", "--store", arguments.store]
    command += ["--latency", str(arguments.latency)]
    server = subprocess.Popen(
        command + (["--db", arguments.db] if arguments.db else []), stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = re.search(r":(\d+) ", server.stdout.readline())
        assert address is not None, "the server did not start"
        port = int(address.group(1))
        if arguments.customers:
            measure_one_by_one(server, port, arguments.customers, arguments.connections)
            return
        for number in range(arguments.rounds):
            requests = bodies(arguments.events, arguments.batch, f"run{number}-{time.time_ns()}")
            start = time.perf_counter()
            asyncio.run(send(port, requests, arguments.connections))
            seconds = time.perf_counter() - start
            print(f"{arguments.events / seconds:,.0f} events/s ({arguments.events:,} events in {seconds:.2f} s)")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_sandbox/state") as answer:
            print(f"{json.load(answer)['events']:,} events stored")
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
