"""``@task.lago_ingest_events``: deliver the records that a function returns or yields."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_lago.operators.events import LagoIngestEventsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

#: Arguments of the operator whose place the function takes.
_SOURCES = ("records", "files", "sql")


class LagoIngestEventsDecoratedOperator(DecoratedOperator, LagoIngestEventsOperator):
    """
    Deliver the records that a function returns or yields.

    The function, and the body of a generator, run in the task's own thread: they may use hooks, Variables and XComs.

    :param python_callable: The function.
    :param op_args: Its arguments by position. (templated)
    :param op_kwargs: Its arguments by name. (templated)
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in LagoIngestEventsOperator.template_fields if name not in _SOURCES),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **{
            name: renderer
            for name, renderer in LagoIngestEventsOperator.template_fields_renderers.items()
            if name not in _SOURCES
        },
    }
    custom_operator_name = "@task.lago_ingest_events"

    def execute(self, context: Context) -> Any:
        """Call the function, and deliver what it gives."""
        for argument in _SOURCES:
            if getattr(self, argument) is not None:
                raise self._input_error(
                    f"{argument} cannot be given to @task.lago_ingest_events: the records are what the function "
                    "returns or yields; use LagoIngestEventsOperator for others"
                )
        self.records = records = self._call(context)
        try:
            summary = super().execute(context)
        except BaseException:
            try:
                _close(records)
            except Exception as error:  # noqa: BLE001 - must not hide what ended the delivery
                self.log.warning("The function failed when it was closed: %s: %s", type(error).__name__, error)
            raise
        finally:
            self.records = None
        _close(records)
        return summary

    def _call(self, context: Context) -> Any:
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        given = self.python_callable(*self.op_args, **arguments)
        if given is None or isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            _close(given)
            raise self._input_error(
                f"the function must return or yield records, which are dicts, and it returned "
                f"{'None' if given is None else f'a {type(given).__name__}'}; for no records return an empty list"
            )
        return given


def _close(given: Any) -> None:
    """Let the ``finally`` blocks of a generator run now, in the task's own thread, wherever it was left."""
    if isinstance(given, (Generator, Coroutine)):
        given.close()


def lago_ingest_events_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make of a function a task that delivers the records that it returns or yields.

    A generator is delivered while it runs, and is never held in memory.

    :param python_callable: The function.
    :param kwargs: Arguments of :class:`~airflow_provider_lago.operators.events.LagoIngestEventsOperator`, without
        ``records`` and ``files``.
    """
    # Airflow would take a function that returns one record, a dict, for one that returns several outputs.
    kwargs.setdefault("multiple_outputs", False)
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=LagoIngestEventsDecoratedOperator, **kwargs
    )
