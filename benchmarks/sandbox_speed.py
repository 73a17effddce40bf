"""
Events per second of the sandbox: batches of 100 over many connections, server and client sharing the cores.

    python benchmarks/sandbox_speed.py [--events 300000] [--connections 16] [--store postgres] [--db FILE]

The server runs in a process of its own. The client reads every answer and checks its status; the count of
stored events is compared at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request

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
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "airflow_provider_lago.sandbox", "--port", "0", "--store", arguments.store]
    server = subprocess.Popen(
        command + (["--db", arguments.db] if arguments.db else []), stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = re.search(r":(\d+) ", server.stdout.readline())
        assert address is not None, "the server did not start"
        port = int(address.group(1))
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
