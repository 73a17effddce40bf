import math

import pytest

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.rates import Budget, Rate, is_throttled, is_throttled_by_provider, read_rate
from airflow_provider_lago.api.retry import RetryPolicy

POLICY = RetryPolicy(base=1.0, cap=30.0)
BY_PROVIDER = b'{"status":429,"error":"Too Many Provider Requests","code":"too_many_provider_requests"}'


def said(limit=50, remaining=49, reset=1, status=200):
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    return Answer(status, {name: str(value) for name, value in zip(names, (limit, remaining, reset), strict=True)})


OK = Answer(200)
TOO_MANY = Answer(429)


def budget(policy=POLICY):
    return Budget(policy, rng=lambda: 0.5)


def asked(budget, answer, at=0.0, until=None):
    """Send one request, have it answered, and return when."""
    until = at if until is None else until
    budget.start(at)
    budget.end(at, until, answer)
    return until


def start_all(budget, now, most=1_000):
    """Start as many requests as may start now."""
    for count in range(most):
        if budget.opens(now) > now:
            return count
        budget.start(now)
    return most


def end_all(budget, started, now, count, answer=OK):
    for _ in range(count):
        budget.end(started, now, answer)


class TestWhatAnAnswerSays:
    def test_all_three_headers(self):
        assert read_rate(said(50, 7, 3)) == Rate(50, 7, 3.0)

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"x-ratelimit-reset": "1"},
            {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "1"},
            {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "soon"},
            {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "nan"},
            {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1800000000"},
            {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "51", "x-ratelimit-reset": "1"},
            {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "-1", "x-ratelimit-reset": "1"},
            {"x-ratelimit-limit": "0", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"},
        ],
    )
    def test_what_makes_no_sense_is_no_budget(self, headers):
        assert read_rate(Answer(200, headers)) is None

    def test_a_payment_provider_that_throttles_lago_says_nothing_of_the_organization(self):
        by_provider = Answer(429, {}, BY_PROVIDER)
        assert (is_throttled(by_provider), is_throttled_by_provider(by_provider)) == (False, True)
        assert (is_throttled(TOO_MANY), is_throttled_by_provider(TOO_MANY)) == (True, False)
        assert (is_throttled(OK), is_throttled_by_provider(OK)) == (False, False)


class TestTheFirstRequest:
    def test_goes_alone(self):
        assert start_all(budget(), 0) == 1

    @pytest.mark.parametrize("answer", [OK, Answer(401), Answer(502), None])
    def test_lets_all_others_go_where_nothing_speaks_of_a_budget(self, answer):
        pace = budget()
        asked(pace, answer)
        assert start_all(pace, 0, most=500) == 500

    def test_lets_others_go_as_the_budget_allows(self):
        pace = budget()
        asked(pace, said(50, 49, 10))
        assert pace.opens(0) == 0
        pace.start(0)
        assert 0.1 < pace.opens(0) < 0.3  # about 47 in 10 s


class TestABudget:
    def test_is_spread_evenly_to_the_end_of_the_window(self):
        pace, now, count = budget(), 0.0, 1
        asked(pace, said(50, 49, 10))
        gaps = []
        while (opens := max(now, pace.opens(now))) < 10:
            gaps.append(opens - now)
            now = opens
            count += 1
            asked(pace, said(50, 50 - count, math.ceil(10 - now)), at=now)
        assert 44 <= count <= 48, "two are left over for others"
        assert max(gaps[1:]) < 0.4

    def test_is_shared_with_those_who_used_the_rest(self):
        pace = budget()
        asked(pace, said(100, 91, 10))  # this one was the first of this delivery, nine are of others
        count = 0
        now = 0.0
        while (opens := max(now, pace.opens(now))) < 10 and count < 50:
            now, count = opens, count + 1
            asked(pace, said(100, 91 - 10 * count, math.ceil(10 - now)), at=now)
        assert 7 <= count <= 9

    def test_covers_what_is_in_flight(self):
        pace = budget()
        asked(pace, said(10, 4, 10))
        pace._window.own = 6  # all that was used
        now, count = 0.0, 0
        while (now := max(now, pace.opens(now))) < 10:
            pace.start(now)
            count += 1
        assert count == 4

    def test_that_is_used_up_is_waited_for_and_one_request_looks_for_the_next(self):
        pace = budget()
        asked(pace, said(50, 0, 3))
        opens = pace.opens(0)
        assert 3 < opens <= 4
        pace.start(opens)
        assert pace.opens(opens) == opens + 1, "if that one hangs, another one follows"
        pace.end(opens, opens + 0.1, said(50, 49, 3))
        assert pace.opens(opens + 0.1) == opens + 0.1

    def test_that_renews_early_is_noticed(self):
        pace = budget()
        asked(pace, said(50, 3, 60))
        assert pace.opens(1) > 10
        asked(pace, said(50, 49, 60), at=1)
        pace.start(1)
        assert pace.opens(1) < 4

    def test_old_news_that_comes_late_does_not_count(self):
        pace = budget()
        asked(pace, said(50, 49, 10))
        pace.start(1)
        pace.start(2)
        pace.start(3)
        pace.end(3, 3.1, said(50, 20, 10))
        pace.end(2, 3.2, said(50, 21, 10))
        assert pace._window.left == 20
        pace.start(14)
        pace.end(14, 14.1, said(50, 40, 10))
        pace.end(1, 14.2, said(50, 0, 0))
        assert pace._window.left == 40

    def test_of_a_narrower_kind_of_endpoint_rules(self):
        pace = budget()
        asked(pace, said(500, 499, 10))
        asked(pace, said(50, 1, 10), at=1)
        asked(pace, said(500, 498, 10), at=1)
        assert pace.opens(1) > 9

    def test_that_nobody_speaks_of_any_more_is_forgotten(self):
        pace = budget()
        asked(pace, said(1, 0, 1))
        opens = pace.opens(0)
        asked(pace, OK, at=opens)
        assert start_all(pace, opens, most=100) == 100


class TestAfterA429:
    def test_nothing_starts_for_as_long_as_asked(self):
        pace = budget()
        asked(pace, OK)
        assert start_all(pace, 0, most=8) == 8
        pace.end(0, 1, said(50, 0, 5, 429))
        assert 6 <= pace.opens(1) <= 7.6
        pace.end(0, 2, said(50, 0, 4, 429))
        assert 6 <= pace.opens(2) <= 7.6

    def test_one_goes_first_and_each_good_reply_lets_two_follow(self):
        pace = budget()
        asked(pace, OK)
        start_all(pace, 0, most=64)
        end_all(pace, 0, 1, 64, TOO_MANY)
        rounds, now = [], pace.opens(1)
        for _ in range(8):
            rounds.append(start_all(pace, now))
            end_all(pace, now, now, rounds[-1])
        assert rounds[:6] == [1, 2, 4, 8, 16, 32]
        assert rounds[6:] == [32, 33], "half of what was in flight, and one more with each round"

    def test_good_replies_to_requests_sent_before_it_let_nobody_go(self):
        pace = budget()
        asked(pace, OK)
        start_all(pace, 0, most=8)
        pace.end(0, 1, TOO_MANY)
        end_all(pace, 0, 1.1, 6)  # the seventh hangs, and does not hold up the others
        assert start_all(pace, pace.opens(1.1)) == 1

    def test_others_in_flight_at_that_time_are_one_refusal_with_it(self):
        pace = budget()
        asked(pace, OK)
        start_all(pace, 0, most=64)
        end_all(pace, 0, 1, 64, TOO_MANY)
        assert pace.opens(1) - 1 == POLICY.wait(1, lambda: 0.5)

    def test_pauses_grow_while_nothing_else_comes(self):
        pace, now, pauses = budget(), 0.0, []
        for _ in range(6):
            asked(pace, TOO_MANY, at=now)
            pauses.append(pace.opens(now) - now)
            now += pauses[-1]
        assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 15])
        asked(pace, OK, at=now)
        asked(pace, TOO_MANY, at=now)
        assert pace.opens(now) - now == pytest.approx(0.5)

    def test_a_window_that_is_said_to_be_over_is_given_a_second(self):
        pace = budget()
        asked(pace, said(50, 0, 0, 429))
        assert pace.opens(0) >= 1

    @pytest.mark.parametrize(("longest", "least", "most"), [(1, 1, 1.2), (60, 2, 2.2)])
    def test_a_long_window_is_not_taken_by_its_word_to_the_second(self, longest, least, most):
        """Whether the reset is rounded up or cut off is not documented: windows of a second end in a second anyway."""
        pace = budget()
        asked(pace, said(50, 10, longest))
        asked(pace, said(50, 0, 1, 429), at=longest)
        assert least <= pace.opens(longest) - longest <= most

    def test_of_a_payment_provider_nothing_slows_down(self):
        pace = budget()
        asked(pace, Answer(429, {}, BY_PROVIDER))
        assert start_all(pace, 0, most=100) == 100


def test_a_hold_holds_all_and_a_shorter_one_does_not_shorten_it():
    pace = budget()
    asked(pace, OK)
    pace.hold(5)
    pace.hold(3)
    assert pace.opens(0) == 5
    assert start_all(pace, 5, most=10) == 10


def test_a_server_that_counts_nothing_does_not_slow_anything_down():
    pace, now = budget(), 0.0
    for _ in range(200):
        now = max(now, pace.opens(now))
        asked(pace, said(50, 50, 1), at=now, until=now + 0.001)
        now += 0.001
    assert now < 5


class TestTheEndOfAWindow:
    @pytest.mark.parametrize(("reset", "late"), [(1, 0.05), (4, 0.2), (60, 0.5), (0, 0.025)])
    def test_the_next_one_is_looked_for_a_tenth_later_at_random_and_never_more_than_a_second(self, reset, late):
        pace = budget()  # its random number is 0.5
        asked(pace, said(50, 0, reset))
        assert pace.opens(0) == pytest.approx(max(reset, 1) + late)

    def test_whose_share_is_less_than_a_request_waits_for_the_next_one(self):
        pace = budget()
        asked(pace, said(100, 50, 10))  # one of fifty was its own, and forty-five are left but for the reserve
        assert pace.opens(0) >= 10

    def test_one_that_ends_later_than_the_last_one_could_is_another(self):
        pace = budget()
        asked(pace, said(50, 40, 2))
        asked(pace, said(50, 39, 10), at=1.5, until=1.6)
        assert start_all(pace, 3.0) <= 1, "its share is spread to the eleventh second"
