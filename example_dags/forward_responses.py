"""
Keep Lago's answers, and forward them to a webhook.

What: customers and events are delivered. Each answer of Lago goes, with the positions and ids of the records that it
is about, to a webhook, and those to events to a file too. A function makes of the answers to customers what the webhook
is to get.

Why: other systems want to know what Lago stored: its own ids, for instance. The webhook is a guest: where it is slow,
fails or refuses, the delivery goes on as if it were not there, and what it did not take is in ``unforwarded.jsonl`` in
the folder of the report.

Prerequisites: an Airflow connection ``lago_default``, and one of type ``http``, ``billing_webhook``, with the address
of the webhook. Lago takes events of subscriptions that it does not know without a word, and bills nothing for them.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag

from airflow_provider_lago.operators import LagoGenericRequestOperator, LagoIngestEventsOperator

FOLDER = os.environ.get("LAGO_DEMO_FOLDER") or str(Path(tempfile.gettempdir()) / "lago-demo")

CUSTOMERS = [{"external_id": "acme", "name": "Acme"}, {"external_id": "globex", "name": "Globex"}]
SEATS = [
    {
        "transaction_id": f"{account}:2026-11-02",
        "external_subscription_id": f"{account}-2026",
        "code": "seats",
        "timestamp": "2026-11-02T00:00:00Z",
        "properties": {"seats": seats},
    }
    for account, seats in (("acme", 12), ("globex", 7))
]


def both_ids(response: Any) -> dict[str, str]:
    """Make of an answer what the webhook is to get."""
    customer = response.json()["customer"]
    return {"ours": customer["external_id"], "lago": customer["lago_id"]}


@dag(
    schedule=None,
    catchup=False,
    tags=["lago", "example"],
    doc_md=__doc__,
    params={"folder": Param(FOLDER, type="string", description="Where answers and reports are written.")},
)
def forward_responses() -> None:
    customers = LagoGenericRequestOperator(
        task_id="customers",
        endpoint="customers",
        records=CUSTOMERS,
        root="customer",
        response_filter=both_ids,
        response_webhook_conn_id="billing_webhook",
        response_webhook_path="lago/customers",
        report_path="{{ params.folder }}/customers-report",
    )
    seats = LagoIngestEventsOperator(
        task_id="seats",
        records=SEATS,
        responses_path="{{ params.folder }}/answers.jsonl",
        response_webhook_conn_id="billing_webhook",
        response_webhook_path="lago/usage",
        report_path="{{ params.folder }}/seats-report",
    )
    customers >> seats


forward_responses()
