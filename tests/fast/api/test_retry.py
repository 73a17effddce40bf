import math

import pytest

from airflow_provider_lago.api.retry import RetryPolicy, is_repeatable, wait_after_429


def highest():
    return 1.0


def lowest():
    return 0.0


def test_waits_double_up_to_the_cap():
    policy = RetryPolicy(base=1.0, cap=30.0)
    assert [policy.wait(tries, highest) for tries in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_wait_is_anything_from_nothing_on():
    assert RetryPolicy().wait(5, lowest) == 0.0
    assert RetryPolicy().wait(5, lambda: 0.25) == 4.0


def test_a_wait_after_thousands_of_tries_is_a_number():
    assert RetryPolicy(cap=math.inf).wait(10_000, highest) == 2.0**32


@pytest.mark.parametrize(
    ("asked", "shortest", "longest"),
    [
        (0.0, 0.0, 1.05),  # not believed at once
        (0.4, 0.4, 1.05),
        (2.0, 2.0, 2.2),
        (5.0, 5.0, 5.5),
        (10.0, 10.0, 11.0),
        (300.0, 300.0, 301.0),
    ],
)
def test_a_server_gets_the_wait_it_asks_for_and_up_to_a_tenth_more(asked, shortest, longest):
    assert wait_after_429(asked, 1, RetryPolicy(), lowest) == pytest.approx(shortest)
    assert wait_after_429(asked, 1, RetryPolicy(), highest) == pytest.approx(longest)


def test_a_server_that_asks_for_none_gets_the_usual_one():
    assert wait_after_429(None, 3, RetryPolicy(), highest) == RetryPolicy().wait(3, highest) == 4.0


def test_a_window_that_is_said_to_be_over_is_waited_for_no_longer_than_the_first_time():
    assert wait_after_429(0.0, 6, RetryPolicy(), highest) == pytest.approx(1.05)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "wallets"),
        ("HEAD", "wallets"),
        ("options", "wallets"),
        ("POST", "events"),
        ("post", "/events/batch/"),
        ("POST", "events/estimate_fees"),
        ("POST", "events/estimate_instant_fees"),
        ("POST", "events/batch_estimate_instant_fees"),
        ("POST", "billable_metrics/evaluate_expression"),
        ("POST", "credit_notes/estimate"),
        ("POST", "invoices/preview"),
    ],
)
def test_reads_and_what_lago_knows_again_may_be_sent_twice(method, path):
    assert is_repeatable(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "wallets"), ("PUT", "events"), ("DELETE", "events"), ("POST", "invoices"), ("POST", "events/batch/x")],
)
def test_nothing_else_may(method, path):
    assert not is_repeatable(method, path)
