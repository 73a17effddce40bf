"""Deliveries of customers and subscriptions, for tests of every kind."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_provider_lago.api.customers import Clearing
from airflow_provider_lago.delivery.calls.customers import CustomerPlan
from airflow_provider_lago.delivery.calls.subscriptions import SubscriptionPlan
from airflow_provider_lago.delivery.calls.terminations import TerminationPlan
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.delivery.shaping import Shaping
from airflow_provider_lago.sources.values import ValueSource
from support.deliveries import QUICK, connection


class Run:
    """What a delivery left behind; each record's receipt by its position."""

    def __init__(self, result: Any, folder: Path) -> None:
        self.tally = result.tally
        self.halt = result.halt
        self.kinds = {kind: count for kind, count in result.tally.kinds.items() if count}
        self.reasons = dict(result.tally.reasons)
        self.rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_bytes().splitlines()]
        lines = [json.loads(line) for line in (folder / "receipts.jsonl").read_bytes().splitlines()]
        self.receipts = {line["position"]: line for line in lines}
        assert len(lines) == len(self.receipts) == self.tally.settled
        if self.halt is None:
            assert self.tally.settled == self.tally.read

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return self.tally.read, self.tally.accepted, self.tally.rejected, self.tally.skipped

    def outcome(self, position: int = 1) -> tuple[str, str | None]:
        receipt = self.receipts[position]
        return receipt["outcome"], receipt["kind"] or receipt["reason"]


def _deliver(kind: Any, server: Any, records: Any, folder: Path, *, read_timeout: float = 5.0, **plan: Any) -> Run:
    settings = plan.pop("settings", None) or connection(
        server.url, read_timeout=read_timeout, **({"api_key": server.api_key} if hasattr(server, "api_key") else {})
    )
    shaping = Shaping(**{name: plan.pop(name) for name in ("fields", "constants", "exclude") if name in plan})
    made = kind(
        source=ValueSource(records),
        settings=settings,
        user_agent="test",
        shaping=shaping,
        **{"policy": QUICK, "concurrency": 4, **plan},
    )
    report = FolderReport(folder, {"run_id": "r"}, receipts=True)
    result = Delivery(made, report, logging.getLogger("test")).run()
    report.finish(result.summary())
    return Run(result, folder)


def upsert(server: Any, records: Any, folder: Path, *, nulls: bool = True, clear: Any = (), **plan: Any) -> Run:
    return _deliver(CustomerPlan, server, records, folder, clearing=Clearing(nulls, tuple(clear)), **plan)


def subscribe(server: Any, records: Any, folder: Path, **plan: Any) -> Run:
    return _deliver(SubscriptionPlan, server, records, folder, **plan)


def terminate(server: Any, records: Any, folder: Path, **plan: Any) -> Run:
    return _deliver(TerminationPlan, server, records, folder, **plan)


def methods(sandbox: Any) -> Counter[str]:
    """How many requests there were of each verb."""
    return Counter(request.method for request in sandbox.requests)
