import asyncio
import contextvars
import signal
import threading
import time

import pytest

from airflow_provider_lago.delivery.loop_thread import LoopThread, Stopped


class Timeout(BaseException):
    """Like Airflow's AirflowTaskTimeout: raised by a signal handler, and no Exception."""


@pytest.fixture
def alarm():
    def ring(seconds, handler):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.getsignal(signal.SIGALRM)
    yield ring
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


async def forever():
    await asyncio.sleep(60)


async def busy():
    while True:
        sum(range(1000))
        await asyncio.sleep(0)


def raise_timeout(*_):
    raise Timeout


def test_it_returns_what_the_coroutine_returns_and_ticks_meanwhile():
    ticks = []

    async def main():
        await asyncio.sleep(0.2)
        return 7

    assert LoopThread(main).run(lambda: ticks.append(1), 0.05) == 7
    assert ticks


def test_an_error_is_raised_to_the_caller_also_out_of_a_task_group():
    async def fail():
        raise KeyError("x")

    async def group():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())

    for main in (fail, group):
        with pytest.raises(KeyError):
            LoopThread(main).run(lambda: None, 1)


@pytest.mark.parametrize("main", [forever, busy])
def test_an_exception_of_a_signal_handler_ends_it_at_once(alarm, main):
    for _ in range(5):
        alarm(0.1, raise_timeout)
        started = time.monotonic()
        with pytest.raises(Timeout):
            LoopThread(main).run(lambda: None, 10)
        assert time.monotonic() - started < 2
    assert not [thread for thread in threading.enumerate() if thread.name == "lago-delivery"]


@pytest.mark.parametrize("main", [forever, busy])
def test_it_can_be_stopped_from_a_signal_handler(alarm, main):
    thread = LoopThread(main)
    alarm(0.1, lambda *_: thread.stop())
    with pytest.raises(Stopped):
        thread.run(lambda: None, 10)


def test_stopping_breaks_off_the_callers_own_code_that_blocks(alarm):
    """On Airflow 3, on_kill in a signal handler is all that ends a task before it is killed."""
    seen = []

    def block():
        try:
            time.sleep(30)
        except Exception:  # noqa: BLE001
            seen.append("taken for an error of the code itself")
        finally:
            seen.append(threading.current_thread())

    async def main():
        await thread.in_caller(block)

    for _ in range(5):
        thread = LoopThread(main)
        alarm(0.1, lambda *_, now=thread: now.stop())
        started = time.monotonic()
        with pytest.raises(Stopped):
            thread.run(lambda: None, 10)
        assert time.monotonic() - started < 2
        assert seen == [threading.main_thread()]
        seen.clear()


def test_stopping_from_another_thread_or_when_the_caller_only_waits_raises_in_nobodys_face(alarm):
    async def main():
        assert await thread.in_caller(lambda: time.sleep(0.3)) is None
        await asyncio.sleep(60)

    for when in (0.1, 0.6):
        thread = LoopThread(main)
        stopper = threading.Timer(when, thread.stop)
        stopper.start()
        with pytest.raises(Stopped):
            thread.run(lambda: None, 10)
        stopper.join()


def test_nothing_of_the_callers_code_begins_after_it_was_stopped():
    begun = []

    async def main():
        thread._wanted.put(thread.stop)
        await thread.in_caller(lambda: begun.append(1))

    thread = LoopThread(main)
    with pytest.raises(Stopped):
        thread.run(lambda: None, 10)
    assert begun == []


def test_it_can_be_stopped_at_any_moment_of_many_short_calls(alarm):
    async def main():
        while True:
            await thread.in_caller(lambda: sum(range(50)))

    for n in range(100):
        thread = LoopThread(main)
        alarm(0.01 + n / 10_000, lambda *_, now=thread: now.stop())
        with pytest.raises(Stopped):
            thread.run(lambda: None, 10)
    assert not [thread for thread in threading.enumerate() if thread.name == "lago-delivery"]


def test_stopping_before_the_start_and_after_the_end_is_harmless():
    early = LoopThread(forever)
    early.stop()
    with pytest.raises(Stopped):
        early.run(lambda: None, 1)

    async def main():
        return 1

    late = LoopThread(main)
    assert late.run(lambda: None, 1) == 1
    late.stop()


def test_context_variables_of_the_caller_hold_in_the_thread():
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("task")

    async def main():
        return variable.get()

    assert LoopThread(main).run(lambda: None, 1) == "task"


def test_the_first_tick_comes_when_it_is_due():
    ticks = []
    LoopThread(lambda: asyncio.sleep(0.1)).run(lambda: ticks.append(1), every=5.0)
    assert ticks == []


def test_its_thread_is_told_from_others_by_its_name():
    async def name():
        return threading.current_thread().name

    assert LoopThread(name).run(lambda: None, every=1.0) == "lago-delivery"
