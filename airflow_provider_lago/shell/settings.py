"""An operator described by a JSON file, where there is no DAG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException

from airflow_provider_lago import operators
from airflow_provider_lago.api import exact_json
from airflow_provider_lago.operators.base import LagoDeliveryOperator
from airflow_provider_lago.shell.errors import UsageError

_DAG_ID = "shell"


def read_settings(path: str) -> LagoDeliveryOperator:
    """
    Return the operator that a JSON file describes: ``{"operator": "LagoIngestEventsOperator", ...arguments}``.

    :param path: The file.
    :raises UsageError: if there is none, or it describes no operator.
    """
    try:
        described = exact_json.decode(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"{path!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path!r} is not JSON: {error}") from None
    if not isinstance(described, dict):
        raise UsageError(f'{path!r} must hold an object: {{"operator": "LagoIngestEventsOperator", ...}}')
    arguments = {"task_id": "settings", **described}
    kind = _operator_named(arguments.pop("operator", None), path)
    try:
        operator: LagoDeliveryOperator = kind(dag=DAG(_DAG_ID, schedule=None), **arguments)
    except (TypeError, ValueError, AirflowException) as error:
        raise UsageError(f"{path!r}: {error}") from None
    return operator


def _operator_named(name: Any, path: str) -> type[Any]:
    kinds: dict[str, type[Any]] = {known: getattr(operators, known) for known in operators.__all__}
    deliver = {known: kind for known, kind in kinds.items() if issubclass(kind, LagoDeliveryOperator)}
    if name not in deliver:
        raise UsageError(f"{path!r}: operator must be one of {', '.join(sorted(deliver))}, not {name!r}")
    return deliver[name]
