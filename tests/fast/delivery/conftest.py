import logging

import pytest

from airflow_provider_lago.api.connection import ConnectionSettings
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.plan import Plan
from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.delivery.shaping import Shaping
from airflow_provider_lago.sources.values import ValueSource

QUICK = RetryPolicy(attempts=5, base=0.01, cap=0.02)


def connection(url, **changes):
    values = {
        "conn_id": "lago_default",
        "api_url": f"{url}/api/v1",
        "api_key": "11111111-2222-4333-8444-555555555555",
        "ingest_url": None,
        "connect_timeout": 2.0,
        "read_timeout": 2.0,
        "verify": True,
        "proxy": None,
        "requests_per_second": None,
    }
    return ConnectionSettings(**{**values, **changes})


def usage(count, first=0, **changes):
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

    def __init__(self, result, folder):
        self.result = result
        self.tally = result.tally
        self.halt = result.halt
        self.folder = folder

    @property
    def counts(self):
        tally = self.tally
        return (tally.read, tally.accepted, tally.duplicate, tally.rejected, tally.skipped)


@pytest.fixture
def deliver(tmp_path):
    """Deliver records to a server, and check what holds for every delivery."""

    def run(server, records, *, shaping=None, settings=None, **plan):
        source = ValueSource(records) if isinstance(records, (list, dict)) else records
        plan = {"policy": QUICK, "concurrency": 4, **plan}
        made = Plan(source, shaping or Shaping(), settings or connection(server.url), "test", **plan)
        report = FolderReport(tmp_path / "report", {"run_id": "r"})
        result = Delivery(made, report, logging.getLogger("test")).run()
        report.finish(result.summary())
        rejected = (tmp_path / "report" / "rejected.jsonl").read_bytes().splitlines()
        assert len(rejected) == result.tally.rejected
        assert result.halt is not None or result.tally.settled == result.tally.read
        return Run(result, tmp_path / "report")

    return run
