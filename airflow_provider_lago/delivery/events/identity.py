"""
How an event gets its ``transaction_id`` when the record has none.

The id decides whether Lago takes an event as new, so it depends on the record alone: the same record has the same id in
every retry, rerun and backfill. A random one bills a repeated delivery twice and must be asked for by its name.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, tzinfo
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.api.timestamps import InvalidTime, to_epoch_seconds
from airflow_provider_lago.delivery.paths import MISSING, getter

#: (record, event without its id) -> transaction_id
Identify = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]

HASH = "hash"
RANDOM = "random"

_MISSING_ID = (
    "give the record one, or say how to derive it: transaction_id=['column', ...] for columns that identify a record, "
    "or transaction_id='hash' for its whole content"
)

#: Types whose values have one form only, as nearly all have.
_ONE_FORM = frozenset({str, int, bool})
_CANONICAL = _ONE_FORM | {type(None)}

#: A fraction that ends in one of these cannot be written shorter.
_LAST_DIGITS = frozenset("123456789")
_LONGEST_FRACTION = 100

#: The usual context rounds to 28 digits: what differs behind them would have one id, and be dropped as a duplicate.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)

#: Whole numbers and exponents beyond these are not written out digit by digit.
_LONGEST_INT = 1_000
_LONGEST_EXPONENT = 100


def identity(
    strategy: str | Sequence[str] | Callable[[Mapping[str, Any]], str] | None, unit: str = "s", zone: tzinfo = UTC
) -> Identify:
    """
    Return the function that derives ids.

    :param strategy: None (the record must have one), a list of columns or dotted paths that identify a record,
        ``hash`` (of the event's content), ``random``, or a callable record -> id.
    :param unit: Unit of epoch numbers in ``timestamp``, for the hash.
    :param zone: Time zone of timestamps that name none, for the hash.
    :raises ValueError: if it is none of these.
    """
    if strategy is None:
        return _refuse
    if callable(strategy):
        return _called(strategy)
    if strategy == HASH:
        return _hashed(unit, zone)
    if strategy == RANDOM:
        return lambda record, event: str(uuid.uuid4())
    if not _are_columns(strategy):
        raise ValueError(
            f"transaction_id must be 'hash', 'random', a list of column names or a callable, not {strategy!r}"
            + (f"; did you mean [{strategy!r}]?" if isinstance(strategy, str) else "")
        )
    return _joined(list(strategy))


def _are_columns(strategy: Any) -> bool:
    if isinstance(strategy, str) or not isinstance(strategy, Sequence) or not strategy:
        return False
    return all(isinstance(path, str) and path for path in strategy)


def _refuse(record: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    raise InvalidRecord("transaction_id: missing", _MISSING_ID)


def _called(derive: Callable[[Mapping[str, Any]], str]) -> Identify:
    def call(record: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
        try:
            return derive(record)
        except Exception as error:
            raise InvalidRecord("transaction_id: callable failed", f"{type(error).__name__}: {error}") from error

    return call


def _joined(paths: list[str]) -> Identify:
    readers = [(path, getter(path)) for path in paths]

    def join(record: Mapping[str, Any], event: Mapping[str, Any]) -> str:
        parts = []
        for path, read in readers:
            value = read(record)
            plain = type(value) is str and value and ":" not in value and "%" not in value
            parts.append(value if plain else _part(path, value))
        return ":".join(parts)

    return join


def _part(path: str, value: Any) -> str:
    if value is MISSING or value is None or value == "":
        raise InvalidRecord("transaction_id: column missing", f"the record has no {path!r}, which its id is made of")
    if isinstance(value, (float, Decimal)):
        text = str(_canonical_number(value)) if math.isfinite(value) else ""
    elif isinstance(value, (str, uuid.UUID)) or (isinstance(value, int) and value.bit_length() < _LONGEST_INT):
        text = str(value)
    elif isinstance(value, date):  # datetimes too
        # As JSON has it: the record may come again from rejected.jsonl, and must have the same id then.
        text = exact_json.encode(value).decode()[1:-1]
    else:
        text = ""
    if not text:
        # Other objects have no text that stays the same from run to run; NaN is pandas' "missing".
        raise InvalidRecord("transaction_id: column not plain", f"{path!r} is {_kind(value)}, which identifies nothing")
    # Escaped, so that ("a:b", "c") and ("a", "b:c") do not become one id, and one of them lost.
    return text.replace("%", "%25").replace(":", "%3A")


def _kind(value: Any) -> str:
    return "not a number" if isinstance(value, (float, Decimal)) else f"a {type(value).__name__}"


def _hashed(unit: str, zone: tzinfo) -> Identify:
    def identify(record: Mapping[str, Any], event: Mapping[str, Any]) -> str:
        try:
            content = {
                name: value if type(value) in _CANONICAL else _canonical_value(value)
                for name, value in event.items()
                if value is not None
            }
            try:  # noqa: SIM105 - a context manager for each event is not free
                content["timestamp"] = to_epoch_seconds(event.get("timestamp"), unit, zone)
            except InvalidTime:
                pass  # what is no time fails the check
            return digest(exact_json.canonical(content))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRecord("transaction_id: cannot be hashed", str(error)[:200]) from None

    return identify


def digest(content: bytes) -> str:
    """Return the id of an event, of what it says in canonical form."""
    return hashlib.sha256(content).hexdigest()[:40]


def have_one_form(values: Iterable[Any]) -> bool:
    """Tell at a glance that none of some flat values could be written in another way, nor be no JSON."""
    for value in values:
        kind = type(value)
        if kind in _ONE_FORM:
            continue
        if kind is not Decimal:
            return False
        text = str(value)
        if text[-1] not in _LAST_DIGITS or "." not in text or "E" in text or len(text) > _LONGEST_FRACTION:
            return False
    return True


def in_one_form(values: Iterable[Any]) -> list[Any]:
    """Return values so that those that are the same have the same form."""
    return [value if type(value) in _CANONICAL else _canonical_value(value) for value in values]


def _canonical_value(value: Any) -> Any:
    """Return a value so that 7.10 of a file and 7.1 of a Python float are the same."""
    if type(value) is Decimal and value.is_finite() and value.adjusted() < _LONGEST_EXPONENT:
        return _canonical_number(value)  # math.isfinite makes a float of it first, which takes longer than all else
    if isinstance(value, (float, Decimal)) and math.isfinite(value):
        return _canonical_number(value)
    if type(value) is dict or isinstance(value, Mapping):
        return {
            name if type(name) is str else str(name): item if type(item) in _CANONICAL else _canonical_value(item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return in_one_form(value)
    return value


def _canonical_number(value: float | Decimal) -> int | Decimal:
    number = (Decimal(repr(float(value))) if isinstance(value, float) else value).normalize(_EXACT)
    return int(number) if number == number.to_integral_value() and number.adjusted() < _LONGEST_EXPONENT else number
