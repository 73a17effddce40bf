"""Several deliveries and a server's limit, in a time that jumps: what is promised about 429s holds in each of them."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shared_budget import Server, Task, deliver_all, run

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.pace import Pace

#: Whole seconds, cut off or rounded up: where windows last a second, both must do.
SERVERS = st.one_of(
    st.fixed_dictionaries({"window": st.just(1.0), "rounding": st.sampled_from([math.ceil, math.floor])}),
    st.fixed_dictionaries({"window": st.sampled_from([0.5, 1.0, 2.5, 10.0, 60.0]), "rounding": st.just(math.ceil)}),
)


@settings(max_examples=60, deadline=None)
@given(
    server=SERVERS,
    limit=st.integers(1, 200),
    latency=st.sampled_from([0.001, 0.05, 0.3, 1.5]),
    way=st.sampled_from([0.1, 0.5, 0.9]),
    tasks=st.integers(1, 10),
    concurrency=st.integers(1, 30),
    seed=st.integers(0, 1_000),
)
def test_no_429_but_of_requests_that_were_sent_before_the_first_of_the_window_was_known(
    server, limit, latency, way, tasks, concurrency, seed
):
    lago = Server(limit, latency=(latency / 2, latency), way=way, seed=seed, **server)
    ten = [Task(lago, 1 + 3 * limit // tasks, concurrency, begins=n * 0.1) for n in range(tasks)]
    deliver_all(ten)
    assert sum(task.careless.total() for task in ten) == 0
    assert all(most <= concurrency for task in ten for most in task.refused.values())


@settings(max_examples=20, deadline=None)
@given(
    limit=st.integers(10, 120),
    window=st.sampled_from([1.0, 10.0, 60.0]),
    rounding=st.sampled_from([math.ceil, math.floor]),
    seed=st.integers(0, 1_000),
)
def test_one_that_is_alone_uses_the_budget_and_spares_the_rest(limit, window, rounding, seed):
    lago = Server(limit, window, (0.01, 0.05), rounding, seed=seed)
    task = Task(lago, 5 * limit, concurrency=32)
    deliver_all([task])
    whole = [lago.used[number] for number in sorted(lago.used)[1:-1]]
    # A second that was cut off the reset may cost a request that looks for the next window too early.
    assert max(task.refused.values(), default=0) <= (0 if rounding is math.ceil else 1)
    assert sum(whole) >= 0.8 * limit * len(whole)


@pytest.mark.parametrize("latency", [0.02, 0.2])
def test_ten_that_share_a_budget_use_it_and_hardly_meet_a_429(latency):
    lago = Server(100, latency=(latency / 2, latency))
    ten = [Task(lago, 100, begins=n * 0.03) for n in range(10)]
    deliver_all(ten)
    whole = [lago.used[number] for number in sorted(lago.used)[1:-1]]
    assert sum(whole) >= 0.7 * 100 * len(whole)
    assert sum(task.refused.total() for task in ten) < 0.05 * 1_000


def test_a_budget_that_is_far_too_small_for_all_is_waited_for_until_all_are_done():
    lago = Server(3)
    ten = [Task(lago, 5) for _ in range(10)]
    deliver_all(ten)
    assert all(max(task.refused.values(), default=0) <= 1 for task in ten)


def test_a_server_that_says_nothing_but_429_is_given_room():
    lago = Server(20, headers=False)
    task = Task(lago, 200, concurrency=16)
    deliver_all([task])
    assert task.refused.total() < 100


def test_without_a_limit_only_the_first_request_goes_alone():
    lago = Server(None, latency=(0.05, 0.05))
    task = Task(lago, 650, concurrency=64)
    deliver_all([task])
    assert lago.most_at_once == 64
    assert task.seconds == pytest.approx(0.05 * (1 + math.ceil(649 / 64)))
    assert task.starts[1] == pytest.approx(task.starts[0] + 0.05)


@pytest.mark.parametrize("limit", [None, 50])
def test_no_second_sees_more_than_asked_for_whatever_the_budget_says(limit):
    task = Task(Server(limit), 200, concurrency=20, per_second=25)
    deliver_all([task])
    assert all(late - early >= 1 for early, late in zip(task.starts, task.starts[25:], strict=False))
    assert task.seconds < 9


def test_turns_are_taken_in_the_order_of_asking():
    order = []

    async def main():
        pace = Pace(10, RetryPolicy(), asyncio.get_running_loop().time)

        async def ask(number):
            await pace.turn()
            order.append(number)
            pace.note(asyncio.get_running_loop().time(), Answer(200))

        await asyncio.gather(*(ask(number) for number in range(30)))

    run(main())
    assert order == sorted(order)


def test_the_end_of_the_delivery_ends_all_waiting():
    async def main():
        loop = asyncio.get_running_loop()
        pace = Pace(None, RetryPolicy(), loop.time)
        begun = loop.time()
        await pace.turn()
        pace.note(begun, Answer(429, {"retry-after": "200"}))
        waiting = [asyncio.create_task(pace.turn()) for _ in range(5)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in waiting)
        pace.end()
        await asyncio.gather(*waiting)
        return loop.time() - begun

    assert run(main()) == pytest.approx(1)


def test_a_hold_lets_nothing_start_before_it_is_over():
    async def story():
        now = [100.0]
        pace = Pace(None, RetryPolicy(), clock=lambda: now[0])
        pace.hold(60.0)
        now[0] = 159.0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pace.turn(), 0.02)
        now[0] = 160.0
        await asyncio.wait_for(pace.turn(), 1.0)

    asyncio.run(story())


def test_the_end_of_a_delivery_lets_everybody_go():
    async def story():
        pace = Pace(None, RetryPolicy())
        pace.hold(60.0)
        waiting = [asyncio.ensure_future(pace.turn()) for _ in range(3)]
        await asyncio.sleep(0)
        pace.end()
        await asyncio.wait_for(asyncio.gather(*waiting), 1.0)

    asyncio.run(story())


def test_a_process_that_was_held_up_does_not_make_up_for_it_within_a_second():
    starts = []

    async def main():
        loop = asyncio.get_running_loop()
        held_up = [0.0]

        def clock():
            return loop.time() + held_up[0]

        pace = Pace(10, RetryPolicy(), clock)

        async def ask():
            await pace.turn()
            starts.append(clock())
            pace.note(clock(), Answer(200))

        asking = [asyncio.create_task(ask()) for _ in range(40)]
        await asyncio.sleep(0.05)
        held_up[0] = 1.0
        await asyncio.gather(*asking)

    run(main())
    assert all(late - early >= 1 for early, late in zip(starts, starts[10:], strict=False))
    assert starts[-1] - starts[0] < 5
