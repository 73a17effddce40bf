"""The task of a DAG file that delivers to Lago."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import MappedOperator, XComArg, conf

from airflow_provider_lago.operators.base import LagoDeliveryOperator
from airflow_provider_lago.shell.errors import ShellError, UsageError
from airflow_provider_lago.shell.wording import table


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    A task that delivers to Lago.

    :param dag_id: Its DAG.
    :param task_id: Its id.
    :param task: The operator, or the mapped one.
    """

    dag_id: str
    task_id: str
    task: Any

    @property
    def kind(self) -> str:
        """The name of the operator's class."""
        return str(_class_of(self.task).__name__)


def load(path: str) -> list[Candidate]:
    """
    Load a DAG file as Airflow does, without its database, and return the tasks that deliver to Lago.

    :param path: The file.
    :raises ShellError: if it cannot be loaded.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"There is no file {path!r}")
    for folder in (conf.get("core", "dags_folder"), str(file.resolve().parent)):
        if folder not in sys.path:
            sys.path.append(folder)  # a DAG file may import its neighbours
    bag = _new_bag()
    bag.process_file(str(file.resolve()), only_if_updated=False, safe_mode=False)
    if bag.import_errors:
        raise ShellError(f"{path} cannot be loaded: {_last_words(next(iter(bag.import_errors.values())))}")
    return [
        Candidate(dag.dag_id, task.task_id, task)
        for dag in bag.dags.values()
        for task in dag.tasks
        if issubclass(_class_of(task), LagoDeliveryOperator)
    ]


def choose(candidates: Sequence[Candidate], path: str, dag_id: str | None, task_id: str | None) -> Candidate:
    """
    Return the one task that is meant.

    :param candidates: All tasks of the file that deliver to Lago.
    :param path: The file, for messages.
    :param dag_id: The DAG, if the user named one.
    :param task_id: The task, if the user named one.
    :raises UsageError: if it is none or several; with a list of all that may be meant.
    """
    if not candidates:
        raise UsageError(f"{path} has no task that delivers to Lago")
    meant = [c for c in candidates if dag_id in {None, c.dag_id} and task_id in {None, c.task_id}]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        named = " ".join(f"{name} {value!r}" for name, value in (("DAG", dag_id), ("task", task_id)) if value)
        raise UsageError(f"{path} has no {named} that delivers to Lago, but these:\n{_listed(candidates)}")
    several_dags = len({c.dag_id for c in meant}) > 1
    hint = "--dag-id ID" if several_dags else "the task's id behind the file"
    raise UsageError(f"{path} has {len(meant)} tasks that deliver to Lago, say which by {hint}:\n{_listed(meant)}")


def operator_of(task: Any, given: Collection[str]) -> LagoDeliveryOperator:
    """
    Return the operator of a task; of a mapped one the operator of its first element.

    :param task: The task.
    :param given: Arguments that will be replaced, so that they need not be there.
    :raises UsageError: if what it is mapped over is another task's output.
    """
    if isinstance(task, LagoDeliveryOperator):
        return task
    mapped = task._get_specified_expand_input().value
    if isinstance(mapped, Sequence) and mapped and not isinstance(mapped[0], XComArg):
        mapped = {name: [value] for name, value in mapped[0].items()}
    if not isinstance(mapped, Mapping):
        raise UsageError(
            f"Task {task.task_id!r} is mapped over what is known in a run only: describe the delivery with --settings"
        )
    first = {name: None if name in given else _first(task, name, values) for name, values in mapped.items()}
    operator: LagoDeliveryOperator = task.unmap(first)
    return operator


def _first(task: Any, name: str, values: Any) -> Any:
    if isinstance(values, (Sequence, Mapping)) and values and not isinstance(values, str):
        return next(iter(values.items() if isinstance(values, Mapping) else values))
    raise UsageError(
        f"Task {task.task_id!r} is mapped over {name}, which another task returns or which is empty; it cannot be had "
        "without a run: give the records with --records FILE, or describe the delivery with --settings"
    )


def _class_of(task: Any) -> type[Any]:
    found = task.operator_class if isinstance(task, MappedOperator) else type(task)
    return found if isinstance(found, type) else object


def _listed(candidates: Sequence[Candidate]) -> str:
    return table([(c.dag_id, c.task_id, c.kind) for c in candidates])


def _new_bag() -> Any:
    """Return an empty bag of DAGs; its class moved within Airflow 3."""
    try:
        module = importlib.import_module("airflow.dag_processing.dagbag")
    except ImportError:
        module = importlib.import_module("airflow.models.dagbag")
    return module.DagBag(os.devnull, collect_dags=False)


def _last_words(trouble: str) -> str:
    """Return the last line of a traceback, and the line of the file that it is about."""
    lines = [line.strip() for line in trouble.strip().splitlines() if line.strip()]
    places = [found[1] for line in lines if (found := re.match(r"File \".*\", line (\d+)", line))]
    place = f" (line {places[-1]})" if places else ""
    return f"{lines[-1] if lines else 'for a reason that Airflow does not tell'}{place}"
