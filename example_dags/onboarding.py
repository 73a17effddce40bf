"""
Bring new customers into Lago: the customer, its subscription, and its usage.

What: a first task stands in for the export of your CRM and returns signed contracts, another one the usage so far.
Three operators make customers, subscriptions and events of them, each after the one before. Running it again changes
nothing in Lago: customers that are as they are to be are left alone, subscriptions that exist are kept, events are
known by their ids.

Why: usage that is sent before its subscription exists is not billed, and Lago says nothing about it. A subscription for
a customer that does not exist makes Lago create an empty one. So the order matters, and each step looks before it
writes.

Prerequisites: an Airflow connection ``lago_default``; in Lago, the plans ``starter`` and ``business`` with a metric
``gigabytes`` that sums up the property ``gigabytes``.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_lago.operators import (
    LagoCreateSubscriptionOperator,
    LagoIngestEventsOperator,
    LagoUpsertCustomerOperator,
)


@task
def contracts() -> list[dict[str, Any]]:
    """Stand in for the CRM: the same contracts each time, and one company that pays for two sites."""
    return [
        {"account": "acme", "company": "Acme Ltd", "mail": "billing@acme.example", "tier": "gold"}
        | {"contract": "acme-berlin", "plan": "business", "starts": "2026-11-01"},
        {"account": "acme", "company": "Acme Ltd", "mail": "billing@acme.example", "tier": "gold"}
        | {"contract": "acme-paris", "plan": "starter", "starts": "2026-11-01"},
        {"account": "globex", "company": "Globex SA", "mail": "ap@globex.example", "tier": "silver"}
        | {"contract": "globex-lyon", "plan": "starter", "starts": "2026-11-03"},
    ]


@task
def usage() -> list[dict[str, Any]]:
    """Stand in for the meter: what each site moved in each hour."""
    return [
        {"site": site, "hour": f"2026-11-04T{hour:02}:00:00Z", "gigabytes": hour + 1}
        for site in ("acme-berlin", "acme-paris", "globex-lyon")
        for hour in range(24)
    ]


@dag(schedule=None, catchup=False, tags=["lago", "example"], doc_md=__doc__)
def onboarding() -> None:
    signed = contracts()
    customers = LagoUpsertCustomerOperator(
        task_id="customers",
        records=signed,
        fields={
            "external_id": "account",
            "name": "company",
            "email": "mail",
            "metadata.tier": "tier",
        },
        constants={"currency": "EUR", "billing_configuration.document_locale": "en"},
        skip_unchanged=True,
    )
    subscriptions = LagoCreateSubscriptionOperator(
        task_id="subscriptions",
        records=signed,
        fields={
            "external_id": "contract",
            "external_customer_id": "account",
            "plan_code": "plan",
            "subscription_at": "starts",
        },
    )
    deliver = LagoIngestEventsOperator(
        task_id="events",
        records=usage(),
        fields={"external_subscription_id": "site", "timestamp": "hour"},
        constants={"code": "gigabytes"},
        properties=["gigabytes"],
        transaction_id=["site", "hour"],
    )
    customers >> subscriptions >> deliver


onboarding()
