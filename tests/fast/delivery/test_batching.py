import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lago.api.events import check_event
from airflow_provider_lago.delivery.events.batching import Event, _say_the_same, batches
from airflow_provider_lago.sources.rows import Row


def event(transaction_id, subscription="s", n=0, position=1):
    record = {
        "transaction_id": transaction_id,
        "external_subscription_id": subscription,
        "code": "c",
        "timestamp": 1_700_000_000,
        "properties": {"n": n},
    }
    return Event(Row(position, "records", position, record), check_event(record))


def group(events, max_count=100, max_bytes=1_000_000):
    conflicts = []
    made = list(
        batches(events, max_count=max_count, max_bytes=max_bytes, on_conflict=lambda *pair: conflicts.append(pair))
    )
    return made, conflicts


def ids(batch):
    return [one.checked.transaction_id for one in batch.events]


def body_size(batch):
    return len(b'{"events":[' + b",".join(one.checked.payload for one in batch.events) + b"]}")


def test_batches_are_full_and_in_order():
    made, _ = group([event(f"t{n}") for n in range(250)])
    assert [len(batch.events) for batch in made] == [100, 100, 50]
    assert ids(made[0])[:2] == ["t0", "t1"]


def test_a_body_never_grows_beyond_its_bytes_and_uses_them():
    made, _ = group([event(f"t{n:03}", n=n + 100) for n in range(100)], max_bytes=1_000)
    assert all(body_size(batch) <= 1_000 for batch in made)
    assert all(body_size(batch) > 800 for batch in made[:-1])


def test_an_event_that_is_larger_than_a_body_goes_alone():
    made, _ = group([event("a"), event("b" * 2_000), event("c")], max_bytes=1_000)
    assert sorted(map(ids, made)) == [["a", "c"], ["b" * 2_000]] or [ids(b) for b in made] == [
        ["a"],
        ["b" * 2_000],
        ["c"],
    ]


def test_an_identical_twin_is_not_sent_but_remembered():
    made, conflicts = group([event("a", position=1), event("b", position=2), event("a", position=3)])
    assert ids(made[0]) == ["a", "b"]
    assert [row.position for row in made[0].twins[0]] == [3]
    assert not conflicts


def test_a_twin_may_be_written_differently():
    first = event("a")
    spaced = json.dumps(json.loads(first.checked.payload), indent=1).encode()
    made, conflicts = group([first, Event(first.row, type(first.checked)("a", "s", spaced))])
    assert len(made[0].twins[0]) == 1
    assert not conflicts


def test_other_content_under_the_same_id_is_a_conflict():
    made, conflicts = group([event("a", n=1, position=1), event("a", n=2, position=2)])
    assert ids(made[0]) == ["a"]
    assert [(late.row.position, early.row.position) for late, early in conflicts] == [(2, 1)]


def test_the_same_id_of_another_subscription_goes_into_another_batch():
    made, conflicts = group([event("a", "s1"), event("a", "s2"), event("b", "s1")])
    assert [ids(batch) for batch in made] == [["a", "b"], ["a"]]
    assert not conflicts


def test_subscriptions_that_share_all_their_ids_still_fill_their_batches():
    mixed = [event(f"t{n}", f"s{s}") for n in range(200) for s in range(4)]
    made, _ = group(mixed)
    assert [len(batch.events) for batch in made] == [100] * 8


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 1)), max_size=60),
    st.integers(1, 7),
    st.integers(100, 900),
)
def test_whatever_comes_each_event_is_sent_once_or_a_twin_or_a_conflict(keys, max_count, max_bytes):
    events = [event(f"t{t}", f"s{s}", n, position) for position, (t, s, n) in enumerate(keys)]
    made, conflicts = group(events, max_count, max_bytes)
    placed = [one.row.position for batch in made for one in batch.events]
    placed += [row.position for batch in made for rows in batch.twins.values() for row in rows]
    placed += [late.row.position for late, _ in conflicts]
    assert sorted(placed) == list(range(len(events)))
    for batch in made:
        assert 1 <= len(batch.events) <= max_count
        assert len(set(ids(batch))) == len(batch.events)
        assert body_size(batch) <= max_bytes or len(batch.events) == 1
        for index, rows in batch.twins.items():
            for row in rows:
                assert json.loads(batch.events[index].checked.payload) == row.data


def test_batches_are_made_one_at_a_time():
    taken = []

    def endless():
        for n in range(10_000):
            taken.append(n)
            yield event(f"t{n}")

    made = batches(endless(), max_count=10, max_bytes=1_000_000, on_conflict=lambda *pair: pytest.fail("conflict"))
    next(made)
    assert len(taken) == 10


def test_a_batch_with_too_many_twins_goes_out_and_the_next_ones_are_filled(monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.delivery.events.batching._MOST_TWINS", 3)
    made, conflicts = group([event("a"), event("b"), *[event("a")] * 4, event("c"), event("a")])
    assert [(ids(batch), batch.twin_count) for batch in made] == [(["a", "b"], 3), (["a", "c"], 1)]
    assert conflicts == []


def test_of_batches_that_are_filled_together_the_oldest_goes_first():
    events = [event("t", subscription=f"s{n}") for n in range(10)]
    made, _ = group([*events, event("u")])
    assert [batch.events[0].checked.external_subscription_id for batch in made] == [f"s{n}" for n in range(10)]
    assert ids(made[2]) == ["t", "u"]


@pytest.mark.parametrize("odd", [b'{"n":', b'{"n":1e99999999999999999999}', b"[" * 5_000 + b"]" * 5_000])
def test_payloads_that_cannot_be_compared_are_not_the_same(odd):
    assert not _say_the_same(odd, b'{"n":1}')
    assert not _say_the_same(b'{"n":1}', odd)
    assert not _say_the_same(b'{"n":1}', b'{"n":true}')
    assert _say_the_same(b'{"a":1,"n":1}', b'{"n":1, "a":1}')
