import logging

import pytest
from support.deliveries import QUICK, Run, connection

from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.sources.values import ValueSource


@pytest.fixture
def deliver(tmp_path):
    """Deliver records to a server, and check what holds for every delivery."""

    def run(server, records, *, shaping=None, settings=None, responses=None, **plan):
        source = ValueSource(records) if isinstance(records, (list, dict)) else records
        plan = {"policy": QUICK, "concurrency": 4, **plan}
        made = EventPlan(
            source=source,
            shaping=shaping or EventShaping(),
            settings=settings or connection(server.url),
            user_agent="test",
            **plan,
        )
        report = FolderReport(tmp_path / "report", {"run_id": "r"})
        result = Delivery(made, report, logging.getLogger("test"), responses).run()
        report.finish(result.summary())
        rejected = (tmp_path / "report" / "rejected.jsonl").read_bytes().splitlines()
        assert len(rejected) == result.tally.rejected
        assert result.halt is not None or result.tally.settled == result.tally.read
        return Run(result, tmp_path / "report")

    return run
