"""The first requests of a plan, exactly as they would be sent."""

from __future__ import annotations

from itertools import islice
from typing import Any

from airflow_provider_lago.delivery.ledger import Ledger, Log
from airflow_provider_lago.delivery.plan import Plan
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.tally import Tally


def preview(plan: Plan, requests: int, log: Log) -> dict[str, Any]:
    """
    Shape, check and batch the beginning of a source, and send nothing.

    :param plan: The plan.
    :param requests: Number of requests to show.
    :param log: Where rejected records are named.
    :return: The requests (without the API key), and the counts of the records that they took to make.
    """
    tally = Tally()
    shown = [
        {
            "method": "POST",
            "url": plan.url,
            "events": len(batch.events),
            "body": plan.body(batch, range(len(batch.events))).decode(),
        }
        for batch in islice(plan.batches(Ledger(tally, NoReport(), log)), requests)
    ]
    return {"dry_run": True, "preview": shown, **tally.as_dict()}
