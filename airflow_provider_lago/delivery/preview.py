"""The first requests of a plan, exactly as they would be sent."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.api.webhook import SECRET_NAME
from airflow_provider_lago.delivery.ledger import Ledger, Log
from airflow_provider_lago.delivery.plan import Plan, Sample
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.delivery.tally import Tally


def preview(plan: Plan[Any], requests: int, log: Log) -> tuple[list[Sample], Tally]:
    """
    Shape, check and batch the beginning of a source, and send nothing.

    :param plan: The plan.
    :param requests: Number of requests to show.
    :param log: Where rejected records are named.
    :return: The requests, and the counts of the records that they took to make.
    """
    tally = Tally.of_kinds(plan.kinds)
    shown: list[Sample] = []
    for unit in plan.units(Ledger(tally, NoReport(), log, plan.id_field)):
        shown += plan.samples(unit)
        if len(shown) >= requests:
            break
    return shown[:requests], tally


def shown_header(name: str, value: str) -> str:
    """Return a header's value, unless its name says that it is a secret."""
    return "***" if SECRET_NAME.search(name) else value


def as_dict(sample: Sample) -> dict[str, Any]:
    """Return a request as XCom and the preview file hold it."""
    return {
        "method": sample.method,
        "url": sample.url,
        **({"headers": {name: shown_header(name, value) for name, value in sample.headers}} if sample.headers else {}),
        "records": sample.records,
        "body": sample.body,
    }
