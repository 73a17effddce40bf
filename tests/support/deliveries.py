"""Usage records, connections and results of deliveries, for tests of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_lago.api.connection import ConnectionSettings
from airflow_provider_lago.api.retry import RetryPolicy

KEY = "11111111-2222-4333-8444-555555555555"
QUICK = RetryPolicy(attempts=5, base=0.01, cap=0.02)


def connection(url: str, **changes: Any) -> ConnectionSettings:
    values: dict[str, Any] = {
        "conn_id": "lago_default",
        "api_url": f"{url}/api/v1",
        "api_key": KEY,
        "ingest_url": None,
        "connect_timeout": 2.0,
        "read_timeout": 2.0,
        "verify": True,
        "proxy": None,
        "requests_per_second": None,
    }
    return ConnectionSettings(**{**values, **changes})


def usage(count: int, first: int = 0, **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "transaction_id": f"t{n}",
            "external_subscription_id": "s",
            "code": "c",
            "timestamp": 1_700_000_000 + n,
            "properties": {"n": n},
            **changes,
        }
        for n in range(first, first + count)
    ]


class Run:
    """What a delivery left behind."""

    def __init__(self, result: Any, folder: Path) -> None:
        self.result = result
        self.tally = result.tally
        self.halt = result.halt
        self.folder = folder

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        tally = self.tally
        return (tally.read, tally.accepted, tally.duplicate, tally.rejected, tally.skipped)
