"""Events -> batches: by count, by bytes, and never the same ``transaction_id`` twice in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.events import Checked
from airflow_provider_lago.sources.rows import Row

#: Batches that are filled at the same time, where records of several subscriptions share their ids.
_OPEN = 8

#: Rows that a batch remembers beside its events: a source that says the same again and again must not fill the memory.
_MOST_TWINS = 10_000

#: Bytes of a request around the events, and between two of them.
_ENVELOPE = len(b'{"events":[]}')
_COMMA = 1


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event on its road, with the row that it was made of."""

    row: Row
    checked: Checked


@dataclass(slots=True, eq=False)
class Batch:
    """
    The events of one request.

    :param events: In the order of the request.
    :param twins: Index of an event -> rows that say exactly the same; they share its outcome and are not sent.
    :param size: Bytes of the request's body.
    :param indexes: ``transaction_id`` -> index of the event.
    :param twin_count: Number of all twins.
    """

    events: list[Event] = field(default_factory=list)
    twins: dict[int, list[Row]] = field(default_factory=dict)
    size: int = _ENVELOPE
    indexes: dict[str, int] = field(default_factory=dict)
    twin_count: int = 0

    def add(self, event: Event) -> None:
        """Append an event."""
        checked = event.checked
        self.indexes[checked.transaction_id] = len(self.events)
        self.events.append(event)
        self.size += len(checked.payload) + _COMMA

    def count_twins(self, indexes: Sequence[int]) -> int:
        """Return how many twins these events have."""
        return sum(len(self.twins.get(index, ())) for index in indexes) if self.twins else 0


def batches(
    events: Iterable[Event], *, max_count: int, max_bytes: int, on_conflict: Callable[[Event, Event], None]
) -> Iterator[Batch]:
    """
    Group events into batches.

    Lago refuses a batch that holds one ``transaction_id`` twice, whatever the subscriptions. Within the batches
    that are being filled, an event that says the same again becomes a twin; one of another subscription goes to the
    next batch; one that says something else under the same id and subscription is a conflict, because Lago would
    keep the first and answer "duplicate" to the second: its content would be lost in silence.

    :param events: The events, in order.
    :param max_count: Most events of a batch.
    :param max_bytes: Most bytes of a request's body; a single larger event goes alone.
    :param on_conflict: Called with the later and the earlier event of a conflict.
    """
    filling: list[Batch] = []
    for event in events:
        checked = event.checked
        target = filling[0] if filling else None
        if target is not None and (len(filling) > 1 or checked.transaction_id in target.indexes):
            namesakes = [batch for batch in filling if checked.transaction_id in batch.indexes]
            if _settle_namesake(event, namesakes, on_conflict):
                full = next((batch for batch in namesakes if batch.twin_count >= _MOST_TWINS), None)
                if full is not None:
                    filling.remove(full)
                    yield full
                continue
            target = next((batch for batch in filling if batch not in namesakes), None)
            if target is None and len(filling) == _OPEN:
                yield filling.pop(0)
        if target is not None and target.size + len(checked.payload) > max_bytes:
            filling.remove(target)
            yield target
            target = None
        if target is None:
            target = Batch()
            filling.append(target)
        target.add(event)
        if len(target.events) >= max_count:
            filling.remove(target)
            yield target
    yield from filling


def _settle_namesake(event: Event, namesakes: list[Batch], on_conflict: Callable[[Event, Event], None]) -> bool:
    """Settle an event whose id is taken by one of the same subscription; False where there is none."""
    for batch in namesakes:
        index = batch.indexes[event.checked.transaction_id]
        earlier = batch.events[index]
        if earlier.checked.external_subscription_id == event.checked.external_subscription_id:
            if _say_the_same(earlier.checked.payload, event.checked.payload):
                batch.twins.setdefault(index, []).append(event.row)
                batch.twin_count += 1
            else:
                on_conflict(event, earlier)
            return True
    return False


def _say_the_same(payload: bytes, other: bytes) -> bool:
    if payload == other:
        return True
    try:
        # Encoded again to be compared, because True == 1 in Python and not in JSON.
        return exact_json.canonical(exact_json.decode(payload)) == exact_json.canonical(exact_json.decode(other))
    except (msgspec.DecodeError, ArithmeticError, RecursionError):
        return False
