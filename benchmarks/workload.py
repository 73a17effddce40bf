"""What the benchmarks deliver: the same usage in each format, seeded, about 230 bytes an event."""

from __future__ import annotations

import csv
import gzip
import json
import random
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

BATCH = 100

#: Columns of the flat formats that become properties.
PROPERTIES = ("endpoint", "method", "bytes", "region", "latency_ms")

#: What the operator is told about a format whose records are no events yet.
FLAT = {"properties": list(PROPERTIES)}
MAPPED = {
    "fields": {"external_subscription_id": "account.id", "code": "metric", "timestamp": "at"},
    "properties": list(PROPERTIES),
    "transaction_id": "hash",
}


def records(count: int) -> Iterator[dict[str, Any]]:
    """Yield flat records, the same ones every time."""
    draw = random.Random(7).random
    for number in range(count):
        yield {
            "transaction_id": f"txn-{number:012d}",
            "external_subscription_id": f"sub_{int(draw() * 10_000):06d}",
            "code": "api_calls",
            "timestamp": 1_790_000_000 + number // 50,
            "endpoint": f"/v1/things/{int(draw() * 500)}",
            "method": "GET" if draw() < 0.5 else "POST",
            "bytes": int(draw() * 10_000_000),
            "region": "us-east-1" if draw() < 0.5 else "eu-west-1",
            "latency_ms": int(draw() * 10_000) / 10,
        }


def _event(record: dict[str, Any]) -> dict[str, Any]:
    properties = {name: record[name] for name in PROPERTIES}
    return {**{name: value for name, value in record.items() if name not in properties}, "properties": properties}


def _foreign(record: dict[str, Any]) -> dict[str, Any]:
    """A record as some application writes it: no id, names of its own, and columns that nobody wants."""
    return {
        "account": {"id": record["external_subscription_id"], "plan": "pro"},
        "metric": record["code"],
        "at": record["timestamp"],
        "trace": record["transaction_id"],
        **{name: record[name] for name in PROPERTIES},
    }


def write(folder: Path, name: str, count: int) -> Path:
    """
    Write a source, or return the one that is there.

    :param folder: Where.
    :param name: One of :data:`WRITERS`.
    :param count: Number of events.
    """
    suffix, writer = WRITERS[name]
    path = folder / f"{name}-{count}{suffix}"
    if not path.exists():
        half = path.with_name(f"half-{path.name}")
        writer(half, count)
        half.rename(path)
    return path


def _write_lines(path: Path, objects: Iterator[dict[str, Any]]) -> None:
    encode = json.JSONEncoder(separators=(",", ":")).encode
    with path.open("w") as stream:
        stream.writelines(f"{encode(item)}\n" for item in objects)


def _write_jsonl(path: Path, count: int) -> None:
    _write_lines(path, map(_event, records(count)))


def _write_mapped(path: Path, count: int) -> None:
    _write_lines(path, map(_foreign, records(count)))


def _write_gzip(path: Path, count: int) -> None:
    with write(path.parent, "jsonl", count).open("rb") as source, gzip.open(path, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _write_csv(path: Path, count: int) -> None:
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(next(records(1)))
        rows.writerows(record.values() for record in records(count))


def _write_parquet(path: Path, count: int) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.RecordBatch.from_pylist(list(records(1))).schema
    source = records(count)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(source, 50_000)):
            writer.write_batch(pyarrow.RecordBatch.from_pylist(group, schema=schema))


#: Name of a source -> how its file's name ends, and what writes it.
WRITERS = {
    "jsonl": (".jsonl", _write_jsonl),
    "gzip": (".jsonl.gz", _write_gzip),
    "csv": (".csv", _write_csv),
    "parquet": (".parquet", _write_parquet),
    "mapped": (".jsonl", _write_mapped),
}


def bodies(count: int) -> Iterator[str]:
    """Yield the bodies of requests with the first events."""
    events = map(_event, records(count * BATCH))
    for _ in range(count):
        yield json.dumps({"events": list(islice(events, BATCH))}, separators=(",", ":"))
