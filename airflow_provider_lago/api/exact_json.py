"""JSON that keeps every digit: numbers with a fraction are decimals, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec

_BASES: tuple[type[Any], ...] = (str, int, float, Decimal, dict, list)


def _encode_other(value: Any) -> Any:
    """Return the plain form of a subclass of a plain type, such as pendulum's and numpy's, which msgspec refuses."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    plain = next((kind for kind in _BASES if isinstance(value, kind)), None)
    if plain is not None:
        return plain(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"values of type {type(value).__name__} have no JSON form")


#: Decodes a text: money must never pass through a binary float.
decode = msgspec.json.Decoder(float_hook=Decimal).decode

#: Encodes a value, decimals digit by digit. NaN must be refused before: msgspec would write it as null.
encode = msgspec.json.Encoder(decimal_format="number", enc_hook=_encode_other).encode

#: Encodes plain values so that the same content gives the same bytes, whatever the order of the keys or fields.
canonical = msgspec.json.Encoder(order="sorted", decimal_format="number").encode
