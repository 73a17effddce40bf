"""A dump of everything stored: equal, byte for byte, exactly when nothing changed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from airflow_provider_lago.sandbox.lifecycle import run_due
from airflow_provider_lago.sandbox.store import Store
from airflow_provider_lago.sandbox.world import World

_encoder = msgspec.json.Encoder(order="sorted")


def lines(store: Store) -> Iterator[bytes]:
    """
    One JSON object a line: documents by kind, key and age, then events in the order of their arrival.

    Deleted documents are there too, and so is how often each was rewritten: a change and its reversal show.
    """
    for kept in store.kept():
        yield _encoder.encode(
            {
                "kind": kept.kind,
                "key": kept.key,
                "deleted": kept.deleted,
                "revision": kept.revision,
                "body": msgspec.json.decode(kept.body),
            }
        )
    for row in store.events():
        event = {**row._asdict(), "properties": msgspec.json.decode(row.properties)}
        yield _encoder.encode({"kind": "event", "body": event})


def dump(world: World) -> bytes:
    """All lines of one moment."""
    run_due(world)
    with world.store.transaction():
        return b"".join(line + b"\n" for line in lines(world.store))
