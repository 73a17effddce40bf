"""The set of settled positions: exact whatever the order in which records are settled."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lago.delivery.progress import Progress

POSITIONS = st.integers(1, 400).flatmap(
    lambda count: st.tuples(st.just(count), st.sets(st.integers(1, count)), st.randoms(use_true_random=False))
)


def split(positions: list[int], draw: random.Random) -> list[list[int]]:
    """Return the positions in batches, and these in any order."""
    batches, rest = [], sorted(positions)
    while rest:
        size = draw.randint(1, 20)
        batches.append(rest[:size])
        rest = rest[size:]
    draw.shuffle(batches)
    return batches


@given(POSITIONS)
def test_it_holds_exactly_what_was_added_in_whatever_order(drawn):
    count, positions, draw = drawn
    progress = Progress()
    for batch in split(list(positions), draw):
        progress.add_all(batch)
    assert {position for position in range(-1, count + 2) if position in progress} == positions
    assert len(progress) == len(positions)
    assert progress.last == max(positions, default=0)
    assert progress.upto == next(n for n in range(count + 1) if n + 1 not in positions)


@given(POSITIONS)
def test_its_compact_form_survives_json_and_can_be_added_to(drawn):
    count, positions, draw = drawn
    progress = Progress()
    progress.add_all(positions)
    again = Progress(json.loads(json.dumps(progress.compact())))
    assert [position in again for position in range(count + 2)] == [
        position in progress for position in range(count + 2)
    ]
    rest = [position for position in range(1, count + 1) if position not in positions]
    draw.shuffle(rest)
    for position in rest:
        again.add(position, position)
    assert (again.upto, again.ranges) == (count, 0)


def test_records_settled_in_order_are_one_number():
    progress = Progress()
    for first in range(1, 1_000_000, 100):
        progress.add(first, first + 99)
    assert progress.compact() == [1_000_000]


def test_a_record_that_is_never_settled_costs_one_range():
    progress = Progress()
    for first in range(1, 10_000, 100):
        progress.add_all(position for position in range(first, first + 100) if position != 42)
    assert progress.compact() == [41, 1, 10_000 - 42]


def test_a_gap_that_closes_leaves_nothing_of_the_range_behind_it():
    progress = Progress()
    progress.add(3, 4)
    progress.add(6, 9)
    progress.add(1, 2)
    assert (progress.upto, progress.ranges, len(progress), progress.last) == (4, 1, 8, 9)
    assert progress.compact() == [4, 1, 4]
    progress.add(5, 5)
    assert (progress.upto, progress.ranges, len(progress), progress.last) == (9, 0, 9, 9)
    assert progress.compact() == [9]


def test_a_range_between_two_others_joins_them():
    progress = Progress([10, 5, 5, 5, 5])
    assert [position for position in range(1, 40) if position in progress] == [
        *range(1, 11), *range(16, 21), *range(26, 31)
    ]  # fmt: skip
    progress.add(21, 25)
    assert progress.compact() == [10, 5, 15]


@pytest.mark.parametrize("cut", [[10, 5], [10, 5, 5, 5]])
def test_a_compact_form_that_was_cut_is_refused(cut):
    with pytest.raises(ValueError, match="zip"):
        Progress(cut)


@given(st.permutations(range(1, 9)))
def test_positions_may_come_in_any_order_at_once_too(positions):
    progress = Progress()
    progress.add_all(positions[:5])
    assert sorted(position for position in range(1, 9) if position in progress) == sorted(positions[:5])
    progress.add_all(positions[5:])
    assert progress.compact() == [8]
