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
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

#: Seconds that the loop is given to close its connections. Airflow 3 kills a task 5 s after it asked it to end.
_GRACE = 3.0


class Stopped(RuntimeError):
    """The coroutine was stopped from outside before its end."""


class _Interrupted(BaseException):
    """Ends what the waiting thread is busy with; no Exception, so that the user's code does not take it for its own."""


class LoopThread(Generic[T]):
    """
    Runs one coroutine. Use it once.

    :param main: Makes the coroutine; called in the thread.
    """

    def __init__(self, main: Callable[[], Awaitable[T]]) -> None:
        self._main = main
        #: What the waiting thread is asked to do; None when all is over. Its put takes no lock that a signal handler
        #: could find taken by the thread it interrupts.
        self._wanted: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = False
        self._caller = 0
        self._calling = False
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
        self._caller = threading.get_ident()
        try:
            self._thread.start()
            self._wait(tick, every)
        except _Interrupted:
            self._thread.join(_GRACE)
            raise Stopped("ended from outside") from None
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

    def _wait(self, tick: Callable[[], None], every: float) -> None:
        """Do what the coroutine asks for until it is over."""
        due = time.monotonic() + every
        while True:
            try:
                wanted = self._wanted.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                tick()
                due = time.monotonic() + every
                continue
            if wanted is None:
                return
            wanted()

    async def in_caller(self, function: Callable[[], U]) -> U:
        """
        Call a function in the thread that waits in :meth:`run`, and return what it returns.

        For the user's code, which may ask Airflow for connections: on Airflow 2.11 only the main thread can.

        :param function: Must not raise. :meth:`stop` in that thread breaks it off.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[U] = loop.create_future()

        def hand_over(value: U) -> None:
            if not future.done():
                future.set_result(value)

        def call() -> None:
            self._calling = True
            try:
                if self._stopping:
                    raise _Interrupted
                value = function()
            finally:
                self._calling = False
            with contextlib.suppress(RuntimeError):  # the loop is closed: the coroutine was stopped meanwhile
                loop.call_soon_threadsafe(hand_over, value)

        self._wanted.put(call)
        return await future

    def stop(self) -> None:
        """
        Ask the coroutine to end; also safe in a signal handler, and when it has not begun or is over.

        It takes no lock: the thread that the signal interrupts may hold it. Where it interrupts the user's code it
        raises, because that may wait for long, and Airflow 3 does nothing but call this before it kills the process.
        """
        self._stopping = True
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._task.cancel)
        if self._calling and threading.get_ident() == self._caller:
            self._calling = False
            raise _Interrupted

    def _run(self) -> None:
        try:
            asyncio.run(self._supervise())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._wanted.put(None)

    async def _supervise(self) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._stopping:
            raise asyncio.CancelledError
        self._value = await self._main()
