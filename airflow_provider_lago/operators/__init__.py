"""Operators. Each is imported when it is asked for, so that importing one costs one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_lago.operators.events import LagoIngestEventsOperator

__all__ = ["LagoIngestEventsOperator"]

_HOMES = {"LagoIngestEventsOperator": "airflow_provider_lago.operators.events"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
