"""Rows -> checked events: shape, check, and settle at once what will not be sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy

from airflow_provider_lago.api.events import check_event, check_ready_line
from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.delivery.decoding import decode
from airflow_provider_lago.delivery.events.batching import Event
from airflow_provider_lago.delivery.events.glance import Glance, glance_of
from airflow_provider_lago.delivery.events.shaping import EventShaper, EventShaping
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.sources.rows import Row, Unreadable


def prepare(rows: Iterable[Row], shaping: EventShaping, ledger: Ledger) -> Iterator[Event]:
    """
    Yield an event for each row that can be sent; the ledger gets the outcome of every other one.

    :param rows: The source.
    :param shaping: How records become events.
    :param ledger: Where outcomes are written down.
    :raises ValueError: if the shaping is wrong, before the first row is read.
    """
    shaper = EventShaper(shaping)
    return _events(rows, shaper, glance_of(shaper), ledger)


def _events(rows: Iterable[Row], shaper: EventShaper, glance: Glance, ledger: Ledger) -> Iterator[Event]:
    tally, shaping = ledger.tally, shaper.shaping
    plain = shaping.is_plain and shaping.timestamp_unit == "s"
    for row in rows:
        tally.read += 1
        data = row.data
        if type(data) is bytes:
            ready = check_ready_line(data) if plain else None
            if ready is not None:
                yield Event(row, ready)
                continue
        elif isinstance(data, Unreadable):
            ledger.unreadable(row, data)
            continue
        try:
            record = decode(data)
            if shaping.transform is not None:
                # It may change the record, and the report keeps it as it was read.
                record = shaper.transformed(deepcopy(data) if record is data else record)
                if record is None:
                    ledger.skip(row)
                    continue
            checked = glance(record)
            if checked is None:
                checked = check_event(shaper.event(record), shaping.timestamp_unit, shaping.zone)
        except InvalidRecord as error:
            ledger.invalid(row, error)
        except Exception as error:  # noqa: BLE001 - one odd record must never end a delivery, nor every retry of it
            ledger.invalid(row, InvalidRecord("cannot be shaped", f"{type(error).__name__}: {error}"[:200]))
        else:
            yield Event(row, checked)
