"""Rows -> checked events: shape, check, and settle at once what will not be sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy

import msgspec

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.events import InvalidEvent, check_event, check_ready_line
from airflow_provider_lago.delivery.batching import Event
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.shaping import Shaper, Shaping
from airflow_provider_lago.sources.rows import Row, Unreadable


def prepare(rows: Iterable[Row], shaping: Shaping, ledger: Ledger) -> Iterator[Event]:
    """
    Yield an event for each row that can be sent; the ledger gets the outcome of every other one.

    :param rows: The source.
    :param shaping: How records become events.
    :param ledger: Where outcomes are written down.
    :raises ValueError: if the shaping is wrong, before the first row is read.
    """
    shaper = Shaper(shaping)
    return _events(rows, shaper, shaping, ledger)


def _events(rows: Iterable[Row], shaper: Shaper, shaping: Shaping, ledger: Ledger) -> Iterator[Event]:
    tally = ledger.tally
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
            if record is data and shaping.transform is not None:
                record = deepcopy(data)  # the transform may change it, and the report keeps it as it was read
            event = shaper.shape(record)
            if event is None:
                tally.skipped += 1
                continue
            checked = check_event(event, shaping.timestamp_unit, shaping.zone)
        except InvalidEvent as error:
            ledger.invalid(row, error)
        except Exception as error:  # noqa: BLE001 - one odd record must never end a delivery, nor every retry of it
            ledger.invalid(row, InvalidEvent("cannot be shaped", f"{type(error).__name__}: {error}"[:200]))
        else:
            yield Event(row, checked)


def decode(data: object) -> object:
    """
    Return the record of a row.

    :raises InvalidEvent: if it is a text that is not JSON.
    """
    if type(data) is not bytes:
        return data
    try:
        return exact_json.decode(data)
    except UnicodeDecodeError as error:
        raise InvalidEvent("not UTF-8", f"byte {error.start + 1} of the line: {error.reason}") from None
    except RecursionError:
        raise InvalidEvent("not JSON", "nested too deep") from None
    except ArithmeticError:
        raise InvalidEvent("not JSON", "a number is too long to be one") from None
    except msgspec.DecodeError as error:
        raise InvalidEvent("not JSON", str(error)) from None
