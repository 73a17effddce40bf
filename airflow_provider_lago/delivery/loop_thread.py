"""
An event loop in a thread of its own, while the task's thread waits for it.

Airflow ends a task by an exception raised in a signal handler, which runs in the main thread between any two byte
codes. With the loop in that thread, the exception now and then lands in a callback, where asyncio logs it and goes on:
the timeout is lost, and the task succeeds late. So the main thread does nothing but wait, where an exception goes
straight up.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

#: Seconds that the loop is given to close its connections. Airflow 3 kills a task 5 s after it asked it to end.
_GRACE = 3.0


class Stopped(RuntimeError):
    """The coroutine was stopped from outside before its end."""


class LoopThread(Generic[T]):
    """
    Runs one coroutine. Use it once.

    :param main: Makes the coroutine; called in the thread.
    """

    def __init__(self, main: Callable[[], Awaitable[T]]) -> None:
        self._main = main
        self._done = threading.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._value: T
        self._error: BaseException | None = None
        # The caller's context variables, so that log lines from the thread belong to the task.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="lago-delivery", daemon=True)

    def run(self, tick: Callable[[], None], every: float) -> T:
        """
        Run the coroutine to its end and return what it returns.

        :param tick: Called in the waiting thread from time to time.
        :param every: Seconds between two calls.
        :raises Stopped: if :meth:`stop` ended it.
        """
        try:
            self._thread.start()
            while not self._done.wait(every):
                tick()
        except BaseException:
            self.stop()
            self._thread.join(_GRACE)
            raise
        self._thread.join(_GRACE)
        if isinstance(self._error, asyncio.CancelledError):
            raise Stopped("ended from outside")
        if isinstance(self._error, BaseExceptionGroup) and len(self._error.exceptions) == 1:
            raise self._error.exceptions[0]
        if self._error is not None:
            raise self._error
        return self._value

    def stop(self) -> None:
        """
        Ask the coroutine to end; also safe in a signal handler, and when it has not begun or is over.

        It takes no lock: the thread that the signal interrupts may hold that of the event it waits for.
        """
        self._stopping = True
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._task.cancel)

    def _run(self) -> None:
        try:
            asyncio.run(self._supervise())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._done.set()

    async def _supervise(self) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._stopping:
            raise asyncio.CancelledError
        self._value = await self._main()
