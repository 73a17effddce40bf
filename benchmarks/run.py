"""
One measured delivery in a process of its own: ``python benchmarks/run.py '{"client": "provider", ...}'``.

Prints a line ``RESULT {...}``: events, requests, seconds, CPU seconds of this process and all its threads, and the peak
of its memory above what it held before.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from workload import BATCH, FLAT, MAPPED, PROPERTIES

KEY = "11111111-2222-4333-8444-555555555555"
ENDPOINT = "api/v1/events/batch"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

#: Returns the number of requests.
Deliver = Callable[[str, int], int]


def provider(url: str, in_flight: int, source: str) -> Deliver:
    """The operator as a task runs it, from the look-up of the connection to the summary."""
    os.environ["AIRFLOW_CONN_LAGO_DEFAULT"] = json.dumps({"conn_type": "lago", "host": url, "password": KEY})
    from airflow_provider_lago.operators.events import LagoIngestEventsOperator

    options: dict[str, Any] = {"csv": FLAT, "parquet": FLAT, "mapped": MAPPED}.get(source, {})
    if source == "mapped":
        options = {**options, "receipts": True}

    def deliver(path: str, count: int) -> int:
        context = {"ti": SimpleNamespace(dag_id="benchmark", run_id="r", task_id="t", map_index=-1, try_number=1)}
        with tempfile.TemporaryDirectory() as folder:
            summary = LagoIngestEventsOperator(
                task_id="t",
                files=path,
                limit=count if count == BATCH else None,
                concurrency=in_flight,
                report_path=f"{folder}/report",
                **options,
            ).execute(context)  # type: ignore[arg-type]
        if not summary["read"] == summary["accepted"] == count:
            raise RuntimeError(f"not {count} events: {summary}")
        return int(summary["requests"])

    return deliver


def official(url: str, in_flight: int, source: str) -> Deliver:
    """lago-python-client's ``batch_create``, as its documentation shows it."""
    from lago_python_client.client import Client
    from lago_python_client.models import BatchEvent, Event

    client = Client(api_key=KEY, api_url=url)

    def post(events: list[dict[str, Any]]) -> None:
        client.events.batch_create(BatchEvent(events=[Event(**event) for event in events]))

    return _pooled(post, in_flight)


def hook(url: str, in_flight: int, source: str) -> Deliver:
    """A loop over Airflow's HttpHook; its keep-alive probes, which cost a system call or three, are off."""
    os.environ["AIRFLOW_CONN_HTTP_DEFAULT"] = json.dumps({"conn_type": "http", "host": url})
    from airflow.providers.http.hooks.http import HttpHook

    http = HttpHook(method="POST", http_conn_id="http_default", tcp_keep_alive=False)

    def post(events: list[dict[str, Any]]) -> None:
        http.run(ENDPOINT, json={"events": events}, headers=HEADERS)

    return _pooled(post, in_flight)


def threads(url: str, in_flight: int, source: str) -> Deliver:
    """requests with a session for all threads, whose pool has a connection for each."""
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.headers.update(HEADERS)
    session.mount("http://", HTTPAdapter(pool_maxsize=in_flight))

    def post(events: list[dict[str, Any]]) -> None:
        session.post(f"{url}/{ENDPOINT}", json={"events": events}).raise_for_status()

    return _pooled(post, in_flight)


def bare(url: str, in_flight: int, source: str) -> Deliver:
    """aiohttp with the lines as they come, nothing checked: what the HTTP library leaves to be had."""
    return _over_aiohttp(url, in_flight, bytes.strip, lambda answer: None)


def libraries(url: str, in_flight: int, source: str) -> Deliver:
    """
    The least that is done for each event, by the same libraries, written for these very records.

    Each line is decoded. Mapped: an event is put together, hashed and encoded, and its id in Lago noted; properties go
    through as the bytes that they are. Nothing is checked, counted, settled or kept for a retry.
    """
    import msgspec

    if source == "mapped":
        return _over_aiohttp(url, in_flight, _mapping(), _receipts())
    event = msgspec.defstruct("Event", [("transaction_id", str), ("timestamp", int)], gc=False)
    decode = msgspec.json.Decoder(event).decode

    def decoded(line: bytes) -> bytes:
        decode(line)
        return line.strip()

    return _over_aiohttp(url, in_flight, decoded, lambda answer: None)


def _mapping() -> Callable[[bytes], bytes]:
    """Return what makes an event of a line, as ``MAPPED`` says it."""
    import hashlib
    from operator import attrgetter

    import msgspec

    fields = ["external_subscription_id", "code", "timestamp", "properties"]
    account = msgspec.defstruct("Account", [("id", str)], gc=False)
    columns = [("account", account), ("metric", str), ("at", int), *((name, msgspec.Raw) for name in PROPERTIES)]
    decode = msgspec.json.Decoder(msgspec.defstruct("Record", columns, gc=False)).decode
    hold = msgspec.defstruct("Properties", PROPERTIES, gc=False)
    content = msgspec.defstruct("Content", fields, gc=False)
    event = msgspec.defstruct("Event", ["transaction_id", *fields], gc=False)
    pick, encode, sha256 = attrgetter(*PROPERTIES), msgspec.json.Encoder().encode, hashlib.sha256
    canonical = msgspec.json.Encoder(order="sorted").encode

    def mapped(line: bytes) -> bytes:
        record: Any = decode(line)
        values = record.account.id, record.metric, record.at, hold(*pick(record))
        return encode(event(sha256(canonical(content(*values))).hexdigest()[:40], *values))

    return mapped


def _receipts() -> Callable[[bytes], None]:
    """Return what writes the ids of an answer to a file."""
    import msgspec

    stored = msgspec.defstruct("Stored", [("lago_id", str)], gc=False)
    answers = msgspec.defstruct("Answer", [("events", list[stored])], gc=False)  # type: ignore[valid-type]
    decode, encode_lines = msgspec.json.Decoder(answers).decode, msgspec.json.Encoder().encode_lines
    receipts = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the process

    def note(answer: bytes) -> None:
        found: Any = decode(answer)
        receipts.write(encode_lines(found.events))

    return note


def _over_aiohttp(url: str, in_flight: int, shape: Callable[[bytes], bytes], note: Callable[[bytes], None]) -> Deliver:
    """
    Return what posts a file's lines with aiohttp.

    :param shape: line -> event, without the end of the line.
    :param note: Is given each answer.
    """
    import asyncio

    import aiohttp

    async def send(path: str, count: int) -> int:
        requests = 0
        with open(path, "rb") as stream:
            events = map(shape, islice(stream, count))
            async with aiohttp.ClientSession(
                headers=HEADERS,
                connector=aiohttp.TCPConnector(limit=in_flight),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session:

                async def work() -> None:
                    nonlocal requests
                    while batch := b",".join(islice(events, BATCH)):
                        requests += 1
                        async with session.post(f"{url}/{ENDPOINT}", data=b'{"events":[' + batch + b"]}") as answer:
                            answer.raise_for_status()
                            note(await answer.read())

                await asyncio.gather(*(work() for _ in range(in_flight)))
        return requests

    return lambda path, count: asyncio.run(send(path, count))


CLIENTS: dict[str, Callable[[str, int, str], Deliver]] = {
    "provider": provider,
    "lago-python-client": official,
    "HttpHook": hook,
    "requests": threads,
    "aiohttp": bare,
    "libraries": libraries,
}


def _pooled(post: Callable[[list[dict[str, Any]]], None], in_flight: int) -> Deliver:
    """Read batches from the file, and post them in a loop, or by a pool of threads."""

    def deliver(path: str, count: int) -> int:
        requests = 0
        with open(path, encoding="utf-8") as stream:
            lines = islice(stream, count)

            def batches() -> Iterator[list[dict[str, Any]]]:
                nonlocal requests
                while batch := [json.loads(line) for line in islice(lines, BATCH)]:
                    requests += 1
                    yield batch

            if in_flight == 1:
                for batch in batches():
                    post(batch)
                return requests
            with ThreadPoolExecutor(in_flight) as pool:
                # Not all at once: the file would be in memory.
                waiting = []
                for batch in batches():
                    waiting.append(pool.submit(post, batch))
                    if len(waiting) >= 2 * in_flight:
                        waiting.pop(0).result()
                for future in waiting:
                    future.result()
        return requests

    return deliver


def memory(name: str) -> int:
    """Return a memory figure of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    run = json.loads(sys.argv[1])
    home = os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="lago-benchmark-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    deliver = CLIENTS[run["client"]](run["url"], run["in_flight"], run["source"])
    if run["warm"]:
        deliver(run["path"], BATCH)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM: what came before must not hide the growth
    held, used, started = memory("VmRSS"), cpu(), time.perf_counter()
    requests = deliver(run["path"], run["events"])
    seconds, used = time.perf_counter() - started, cpu() - used
    peak = memory("VmHWM") - held
    result = {"events": run["events"], "requests": requests, "seconds": seconds, "cpu": used, "peak": peak}
    print(f"RESULT {json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main()
