"""
Durable delivery: a retry goes on where the try before it was killed.

Purpose: a task that delivers a million events and is killed at the last of them, by a deployment, the kernel or a
worker that is gone, should not begin with the first one again.

How: while records are delivered, a checkpoint says which of them have an outcome, with the counts so far and the length
of the report's files. It is kept in Airflow's task state store (Airflow 3.3 and newer), or else in ``checkpoint.jsonl``
in ``report_path``. A retry of the task reads it, leaves out what is settled, goes on with the counts and the files, and
its summary covers all tries. It is deleted when the delivery has come to its end.

What it does not do: it is not needed for the promise. Without it, or where it cannot be used, a retry begins with the
first record and Lago recognises what it has. It is not gone on with where the source, the shaping or the connection are
other ones than before, nor where a person cleared the task: a cleared task delivers all again. A source that may give
other records another time (a generator, the rows of a statement) begins anew. What was in flight when the task was
killed, and up to 3,500 records more, is sent again; an event of these that Lago has counts as accepted, because the try
before has sent it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_lago.delivery.checkpoint import (
    Checkpoints,
    Durability,
    FolderCheckpoints,
    NotUsable,
    fingerprint,
    read_checkpoint,
)
from airflow_provider_lago.delivery.ledger import Log
from airflow_provider_lago.storage.folders import Folder

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lago.delivery.courier import Halt
    from airflow_provider_lago.delivery.plan import Plan

T = TypeVar("T")

#: Key of the checkpoint in the task state store, which is the task's own.
_KEY = "lago_delivery"


class TaskState:
    """
    A checkpoint in Airflow's task state store.

    :param store: ``context["task_state_store"]``.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def __str__(self) -> str:
        return "the task state store"

    def load(self) -> object:
        """Return what was saved last; None where there is nothing."""
        return _apart(lambda: self._store.get(_KEY, None))

    def save(self, stored: Mapping[str, Any]) -> None:
        """Save a checkpoint in place of the one before."""
        self._store.set(_KEY, dict(stored))

    def delete(self) -> None:
        """Forget the checkpoint."""
        _apart(lambda: self._store.delete(_KEY))


def find_durability(
    plan: Plan[Any],
    run: Mapping[str, Any],
    context: Context,
    folder: Folder | None,
    log: Log,
    *,
    wanted: bool = True,
) -> Durability | None:
    """
    Return where the checkpoint of a delivery is kept, with the one that the try before left.

    :param plan: The delivery.
    :param run: Identifies the task instance, its tries not being told apart.
    :param context: Of the task.
    :param folder: Of the report.
    :param log: The task's log.
    :param wanted: Whether to keep one. If not, that of an earlier try is deleted: it knows nothing of this report.
    :return: None where nothing can be kept, or is to be.
    """
    store = context.get("task_state_store")
    checkpoints: Checkpoints
    if store is not None:
        checkpoints = TaskState(store)
    elif folder is not None:
        checkpoints = FolderCheckpoints(folder)
    else:
        return None
    mark = None
    if wanted:
        try:
            mark = fingerprint(plan, run)
            why = "it may give other records another time"
        except Exception as error:  # noqa: BLE001 - settings may be of any class of the user's
            why = f"{type(error).__name__}: {error}"
        if mark is None:
            log.info("%s cannot be told from another source (%s): a retry begins anew", plan.source, why)
    life = _life(context)
    try:
        stored = checkpoints.load()
        if mark is None:
            if stored is not None:
                _forget(checkpoints, log)
            return None
        return Durability(checkpoints, mark, life, None if stored is None else read_checkpoint(stored, mark, life))
    except NotUsable as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - whatever the place raises, a delivery is right without a checkpoint
        reason = f"{type(error).__name__}: {error}"
    return begin_anew(Durability(checkpoints, mark, life), reason, log) if mark is not None else None


def begin_anew(durability: Durability, reason: str, log: Log) -> Durability:
    """Forget the checkpoint of the try before, and return what is kept from now on."""
    place = durability.checkpoints
    log.info("The checkpoint in %s is not used: %s. The delivery begins with the first record", place, reason)
    _forget(place, log)
    return Durability(place, durability.fingerprint, durability.life)


def conclude(durability: Durability, halt: Halt | None, log: Log) -> None:
    """
    Delete the checkpoint where nothing is left to go on with, or where what is left cannot be delivered by itself.

    :param durability: What was kept.
    :param halt: Why the delivery ended before its source did.
    :param log: The task's log.
    """
    if halt is None:
        _forget(durability.checkpoints, log)
    elif halt.unproven and durability.found is not None:
        # Alone, the record that is left would end every try so. With the others it is seen that Lago works.
        begin_anew(durability, "what is left cannot show whether Lago works", log)


def _forget(place: Checkpoints, log: Log) -> None:
    """Delete the checkpoint; what it says is no longer true."""
    try:
        place.delete()
    except Exception as error:  # noqa: BLE001 - it says which delivery it is of, so that no other one goes on with it
        log.warning("The checkpoint in %s cannot be deleted (%s: %s)", place, type(error).__name__, error)


def _life(context: Context) -> int | None:
    """Return what clearing a task changes and retrying it does not: Airflow moves the end of its tries."""
    most = getattr(context.get("ti"), "max_tries", None)
    return most if isinstance(most, int) else None


def _apart(function: Callable[[], T]) -> T:
    """
    Call a function of Airflow's store in a thread, and wait for it.

    A timeout or a signal in the middle of the call would leave its answer to be read by the next call (Airflow 3.3); it
    reaches the waiting thread instead.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=call, name="lago-checkpoint", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
