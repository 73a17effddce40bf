"""Templates without a run: the context of a manual run that nobody started."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import XComArg

from airflow_provider_lago.operators.base import LagoDeliveryOperator
from airflow_provider_lago.shell.errors import ShellError, UsageError

_SOURCES = frozenset({"records", "files", "sql"})


class NoRun:
    """
    Stands for the task instance, of which there is none.

    :param facts: What is known of it.
    """

    map_index = -1
    try_number = 1

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)

    def xcom_pull(self, *_: Any, **__: Any) -> Any:
        """Say that it cannot be had."""
        raise UsageError("it asks for another task's output (xcom_pull), which cannot be had without a run")


def context_of(operator: LagoDeliveryOperator, params: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """
    Return the context in which templates are rendered.

    :param operator: The operator.
    :param params: Values of the DAG's params that the user gave.
    :param moment: Logical date of the run that does not take place.
    :raises UsageError: if a param is wrong or missing.
    """
    dag: Any = operator.dag
    ts, run_id = moment.isoformat(), f"manual__{moment.isoformat()}"
    task_instance = NoRun(dag_id=dag.dag_id, task_id=operator.task_id, run_id=run_id, task=operator)
    given = _params(operator, params)
    interval = {"logical_date": moment, "data_interval_start": moment, "data_interval_end": moment}
    return {
        **_accessors(),
        **interval,
        "dag": dag,
        "task": operator,
        "ti": task_instance,
        "task_instance": task_instance,
        "dag_run": SimpleNamespace(dag_id=dag.dag_id, run_id=run_id, run_type="manual", conf=dict(params), **interval),
        "params": given,
        "run_id": run_id,
        "ds": f"{moment:%Y-%m-%d}",
        "ds_nodash": f"{moment:%Y%m%d}",
        "ts": ts,
        "ts_nodash": f"{moment:%Y%m%dT%H%M%S}",
        "ts_nodash_with_tz": ts.replace("-", "").replace(":", ""),
    }


def render(operator: LagoDeliveryOperator, context: Mapping[str, Any]) -> None:
    """
    Render the templates of an operator, in place.

    :param operator: The operator.
    :param context: The context.
    :raises UsageError: if an argument is another task's output.
    :raises ShellError: if a template fails.
    """
    for name in operator.template_fields:
        makers = sorted({task.task_id for task, _ in XComArg.iter_xcom_references(getattr(operator, name, None))})
        if makers:
            advice = (
                "give the records with --records FILE" if name in _SOURCES else "describe the delivery with --settings"
            )
            raise UsageError(
                f"{name} of task {operator.task_id!r} is the output of task {', '.join(map(repr, makers))}, which "
                f"cannot be had without a run: {advice}"
            )
    try:
        operator.render_template_fields(context)  # type: ignore[arg-type]
    except UsageError as error:
        raise UsageError(f"A template of task {operator.task_id!r} cannot be rendered: {error}") from None
    except Exception as error:  # noqa: BLE001 - the user's templates, filters and macros
        raise ShellError(
            f"A template of task {operator.task_id!r} cannot be rendered: {type(error).__name__}: {error}"
        ) from None


def _params(operator: LagoDeliveryOperator, given: Mapping[str, Any]) -> dict[str, Any]:
    params: Any = copy.deepcopy(operator.params)
    unknown = [name for name in given if name not in params]
    if unknown:
        known = ", ".join(params) or "none"
        raise UsageError(f"The DAG has no param {unknown[0]!r}; its params: {known}")
    try:
        for name, value in given.items():
            params[name] = value
        return dict(params.validate())
    except Exception as error:  # noqa: BLE001 - Airflow has several kinds of them
        raise UsageError(f"A param is wrong, set it with --param name=value: {error}") from None


def _accessors() -> dict[str, Any]:
    """Return what templates find Airflow's variables, connections and macros under."""
    try:
        home: Any = importlib.import_module("airflow.sdk.execution_time.context")
        macros = home.MacrosAccessor()
    except ImportError:  # Airflow 2
        home = importlib.import_module("airflow.utils.context")
        macros = importlib.import_module("airflow.macros")
    return {
        "macros": macros,
        "conn": home.ConnectionAccessor(),
        "var": {
            "value": home.VariableAccessor(deserialize_json=False),
            "json": home.VariableAccessor(deserialize_json=True),
        },
    }
