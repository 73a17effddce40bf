"""
Bring a table of tax rates into Lago, and list what Lago then holds.

What: one task stands in for a query and returns a row a tax. The operator sends a ``PUT`` for each of them to an
endpoint that no other operator knows, with the row's code in the path and the mapped columns as the body. Another one
pages through all taxes and writes them to a file.

Why: Lago has far more endpoints than this provider has operators. Whatever is a request for each record, or for each
group of records, gets from this operator what events get: mapping, pace, retries where they do no harm, and a report.
Setting a rate twice does no harm, so ``idempotent=True`` lets a request be repeated whose answer was lost. Where money
moves that is refused: such a request is sent once.

Prerequisites: an Airflow connection ``lago_default``; in Lago, taxes with the codes below.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_lago.operators import LagoGenericRequestOperator

FOLDER = os.environ.get("LAGO_DEMO_FOLDER") or str(Path(tempfile.gettempdir()) / "lago-demo")


@task
def read_rates() -> list[dict[str, Any]]:
    """Stand in for a query."""
    return [
        {"country": "FR", "tax": {"code": "vat/fr", "label": "VAT France"}, "percent": 20.0},
        {"country": "DE", "tax": {"code": "vat/de", "label": "VAT Germany"}, "percent": 19.0},
        {"country": "LU", "tax": {"code": "vat/lu", "label": "VAT Luxembourg"}, "percent": 17.0},
    ]


@dag(
    schedule=None,
    catchup=False,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={"folder": Param(FOLDER, type="string", description="Where the report and the list are written.")},
)
def call_any_endpoint() -> None:
    set_rates = LagoGenericRequestOperator(
        task_id="set_rates",
        method="PUT",
        endpoint="taxes/{tax.code}",
        records=read_rates(),
        fields={"name": "tax.label", "rate": "percent"},
        root="tax",
        idempotent=True,
        report_path="{{ params.folder }}/tax-report",
    )
    list_taxes = LagoGenericRequestOperator(
        task_id="list_taxes",
        method="GET",
        endpoint="taxes",
        paginate=True,
        responses_path="{{ params.folder }}/taxes.jsonl",
    )
    set_rates >> list_taxes


call_any_endpoint()
