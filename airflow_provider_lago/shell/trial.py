"""An operator made ready for a trial: loaded, rendered, changed as the command line says."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import pendulum
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_lago.delivery.plan import Plan
from airflow_provider_lago.operators.base import LagoDeliveryOperator
from airflow_provider_lago.shell.dags import choose, load, operator_of
from airflow_provider_lago.shell.errors import ShellError
from airflow_provider_lago.shell.records import source_arguments
from airflow_provider_lago.shell.rendering import context_of, render
from airflow_provider_lago.shell.screen import Notes, Screen
from airflow_provider_lago.shell.settings import read_settings

_NO_SOURCE: Mapping[str, Any] = {"records": None, "files": None, "sql": None}

#: A trial prints what a run keeps in files, and must not touch those of a run.
_NOT_IN_A_TRIAL: Mapping[str, Any] = {
    "report_path": None,
    "receipts": False,
    "responses_path": None,
    "response_webhook_conn_id": None,
    "response_webhook_path": None,
    "max_rejected": 0,
    "preview": False,
}


@dataclass(frozen=True, slots=True)
class Trial:
    """
    What a command is about.

    :param operator: The operator, ready.
    :param plan: What it would deliver.
    :param context: What its templates were rendered with.
    """

    operator: LagoDeliveryOperator
    plan: Plan[Any]
    context: dict[str, Any]

    @property
    def name(self) -> str:
        """What is tried, for a person."""
        kind, task = type(self.operator).__name__, self.operator.task_id
        return f"{kind}, task {task!r} of DAG {self.operator.dag.dag_id!r}"


def prepare(arguments: Namespace, screen: Screen, stdin: TextIO) -> Trial:
    """
    Return what a command is about.

    :param arguments: The command line.
    :param screen: Where warnings go; from now on it hides the API key.
    :param stdin: Where ``--records -`` reads.
    :raises ShellError: if it cannot be had.
    """
    replaced = dict(_NO_SOURCE) if arguments.records is not None else {}
    operator = _operator(arguments, replaced)
    notes = Notes(screen)
    _log_to(operator, notes)
    _replace(operator, {**_NOT_IN_A_TRIAL, **replaced, "limit": arguments.limit})
    if arguments.conn_id is not None:
        operator.lago_conn_id = arguments.conn_id
    context = context_of(operator, dict(arguments.params), arguments.logical_date or pendulum.now("UTC"))
    render(operator, context)
    if arguments.records is not None:
        _replace(operator, source_arguments(arguments.records, stdin))
    operator.edits = dict(arguments.edits)
    _log_to(operator.hook, notes)
    screen.secret = _key(operator)
    return Trial(operator, operator.plan(), context)


def _operator(arguments: Namespace, replaced: Mapping[str, Any]) -> LagoDeliveryOperator:
    if arguments.settings is not None:
        return read_settings(arguments.settings)
    path = arguments.dag_file
    return operator_of(choose(load(path), path, arguments.dag_id, arguments.task_id).task, replaced)


def _replace(operator: LagoDeliveryOperator, values: Mapping[str, Any]) -> None:
    """Set arguments, as far as the operator has them."""
    for name, value in values.items():
        if hasattr(operator, name):
            setattr(operator, name, value)


def _log_to(logging: Any, notes: Notes) -> None:
    """Give an operator or a hook another log; which of these names Airflow keeps it under depends on its version."""
    logging._log = logging._cached_logger = notes


def _key(operator: LagoDeliveryOperator) -> str:
    conn_id = operator.lago_conn_id
    try:
        return operator.hook.settings.api_key
    except AirflowNotFoundException:
        raise ShellError(
            f"There is no connection {conn_id!r}: set AIRFLOW_CONN_{conn_id.upper()}, add it with 'airflow connections "
            "add', or name another one with --conn-id"
        ) from None
