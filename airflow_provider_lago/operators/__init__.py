"""Operators. Each is imported when it is asked for, so that importing one costs one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_lago.operators.customers import LagoUpsertCustomerOperator
    from airflow_provider_lago.operators.events import LagoIngestEventsOperator
    from airflow_provider_lago.operators.extract import LagoExtractOperator
    from airflow_provider_lago.operators.requests import LagoGenericRequestOperator
    from airflow_provider_lago.operators.subscriptions import (
        LagoCreateSubscriptionOperator,
        LagoTerminateSubscriptionOperator,
    )

__all__ = [
    "LagoCreateSubscriptionOperator",
    "LagoExtractOperator",
    "LagoGenericRequestOperator",
    "LagoIngestEventsOperator",
    "LagoTerminateSubscriptionOperator",
    "LagoUpsertCustomerOperator",
]

_HOMES = {
    "LagoCreateSubscriptionOperator": "airflow_provider_lago.operators.subscriptions",
    "LagoExtractOperator": "airflow_provider_lago.operators.extract",
    "LagoGenericRequestOperator": "airflow_provider_lago.operators.requests",
    "LagoIngestEventsOperator": "airflow_provider_lago.operators.events",
    "LagoTerminateSubscriptionOperator": "airflow_provider_lago.operators.subscriptions",
    "LagoUpsertCustomerOperator": "airflow_provider_lago.operators.customers",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
