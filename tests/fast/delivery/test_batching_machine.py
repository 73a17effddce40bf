"""Whatever source is read, in whatever order: each event is in one batch, or a twin, or a conflict."""

import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from airflow_provider_lago.api.events import check_event
from airflow_provider_lago.delivery.events.batching import Event, batches
from airflow_provider_lago.sources.rows import Row


def event(transaction_id, subscription, n, position, filling=""):
    record = {
        "transaction_id": transaction_id,
        "external_subscription_id": subscription,
        "code": "c",
        "timestamp": 1_700_000_000,
        "properties": {"n": n, "filling": filling},
    }
    return Event(Row(position, "records", position, record), check_event(record))


def key(one):
    return one.checked.transaction_id, one.checked.external_subscription_id


class Batching(RuleBasedStateMachine):
    """Each rule appends to the source; then all of it is batched again, from the first event."""

    said = Bundle("said")

    def __init__(self):
        super().__init__()
        self.events = []
        self.before = []

    @initialize(max_count=st.integers(1, 6), max_bytes=st.integers(150, 1_500))
    def begin(self, max_count, max_bytes):
        self.max_count = max_count
        self.max_bytes = max_bytes

    def append(self, *what, filling=""):
        one = event(*what, len(self.events) + 1, filling)
        self.events.append(one)
        return one

    @rule(target=said, subscription=st.sampled_from("st"))
    def new(self, subscription):
        return self.append(f"t{len(self.events)}", subscription, 0)

    @rule(target=said, size=st.integers(0, 2_000))
    def large(self, size):
        return self.append(f"t{len(self.events)}", "s", 0, filling="x" * size)

    @rule(earlier=said)
    def twin(self, earlier):
        position = len(self.events) + 1
        self.events.append(Event(Row(position, "records", position, earlier.row.data), earlier.checked))

    @rule(earlier=said)
    def twin_written_differently(self, earlier):
        position = len(self.events) + 1
        checked = earlier.checked
        payload = json.dumps(json.loads(checked.payload), indent=1).encode()
        row = Row(position, "records", position, earlier.row.data)
        self.events.append(Event(row, type(checked)(*key(earlier), payload)))

    @rule(target=said, earlier=said, n=st.integers(1, 3))
    def contradiction(self, earlier, n):
        return self.append(*key(earlier), n)

    @rule(target=said, earlier=said, subscription=st.sampled_from("uvwxyz123456"))
    def same_id_of_another_subscription(self, earlier, subscription):
        return self.append(key(earlier)[0], subscription, 0)

    @invariant()
    def each_event_has_one_place(self):
        if not hasattr(self, "max_count"):
            return
        conflicts = []
        made = list(
            batches(
                self.events,
                max_count=self.max_count,
                max_bytes=self.max_bytes,
                on_conflict=lambda late, early: conflicts.append((late, early)),
            )
        )
        places = [one.row.position for batch in made for one in batch.events]
        places += [row.position for batch in made for rows in batch.twins.values() for row in rows]
        places += [late.row.position for late, _ in conflicts]
        assert sorted(places) == list(range(1, len(self.events) + 1))
        for batch in made:
            self._is_lawful(batch)
        for late, early in conflicts:
            assert key(late) == key(early)
            assert early.row.position < late.row.position
            assert json.loads(late.checked.payload) != json.loads(early.checked.payload)

    def _is_lawful(self, batch):
        ids = [one.checked.transaction_id for one in batch.events]
        assert 1 <= len(ids) <= self.max_count
        assert len(set(ids)) == len(ids)
        body = b'{"events":[' + b",".join(one.checked.payload for one in batch.events) + b"]}"
        assert len(body) <= self.max_bytes or len(ids) == 1
        assert [one.row.position for one in batch.events] == sorted(one.row.position for one in batch.events)
        assert batch.count_twins(range(len(ids))) == batch.twin_count == sum(map(len, batch.twins.values()))
        for index, rows in batch.twins.items():
            for row in rows:
                twin = self.events[row.position - 1]
                assert key(twin) == key(batch.events[index])
                assert json.loads(twin.checked.payload) == json.loads(batch.events[index].checked.payload)

    @invariant()
    def what_was_handed_out_does_not_depend_on_what_follows(self):
        """Batches go out while the source is still read."""
        if not hasattr(self, "max_count"):
            return
        done = []

        def watched():
            yield from self.events
            done.append(True)

        handed = []
        made = batches(watched(), max_count=self.max_count, max_bytes=self.max_bytes, on_conflict=lambda *_: None)
        for batch in made:
            if done:
                break
            handed.append([one.row.position for one in batch.events])
        assert handed[: len(self.before)] == self.before
        self.before = handed


TestBatching = Batching.TestCase
TestBatching.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
