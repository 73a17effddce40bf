"""From Python values to what goes out: JSON bodies, query strings, headers. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_lago.api import exact_json

if TYPE_CHECKING:
    from collections.abc import Iterator

_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "cookie",
        "expect",
        "host",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: Some servers take these for another verb than the one that was checked here.
_VERB_HEADERS = frozenset({"x-http-method", "x-http-method-override", "x-method-override"})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?! )[\x20-\x7e\xa0-\xff]*(?<! )")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


class WireError(ValueError):
    """A value that cannot be sent; the message says where it stands, never what else the body holds."""


def encode_json(value: Any) -> bytes:
    """
    Return a JSON body. A Decimal becomes a number with all its digits, a datetime or date its ISO 8601 text.

    :param value: Dicts, lists and plain values.
    :raises WireError: It holds NaN or an infinity (which JSON does not know), text that is not Unicode, or a
        type that has no JSON form; the message names the place.
    """
    try:
        _refuse_unsendable(value, "")
        return exact_json.encode(value)
    except WireError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, TypeError) else type(error).__name__
    raise WireError(f"the body cannot be written as JSON: {problem}")


def encode_query(params: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """
    Return query pairs as Lago reads them.

    A list goes out as ``key[]=a&key[]=b``, because Lago ignores a plain ``key=a`` where it expects a list and
    would answer with everything. None is left out, booleans are ``true``/``false``, dates are ISO 8601.

    :param params: Query values by name.
    :raises WireError: A value is a dict or another type that has no query form.
    """
    return [pair for name, value in (params or {}).items() for pair in _pairs(name, value)]


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """
    Return the caller's headers if they are harmless.

    :param headers: Header values by name.
    :raises WireError: A header is one that the hook sets itself, or one that holds a line break.
    """
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise WireError(f"header {name!r} and its value must be text")
        if not _HEADER_NAME.fullmatch(name):
            raise WireError("a header's name must be letters, digits and dashes")
        if not _HEADER_VALUE.fullmatch(value):
            raise WireError(f"header {name!r} holds a line break or a character that a header cannot hold")
        if name.lower() in _OWN_HEADERS:
            raise WireError(f"header {name!r} is set by the hook from the connection and cannot be given")
        if name.lower() in _VERB_HEADERS:
            raise WireError(f"header {name!r} would make the call another one: give the verb as method")
        if name.lower() == "content-type" and value.partition(";")[0].strip().lower() != "application/json":
            raise WireError(f"header {name!r} must be application/json: Lago reads no other body")
    return dict(headers or {})


def read_headers(headers: Mapping[str, str] | str | None) -> dict[str, str]:
    """
    Return headers that are given as a dict, or as text such as ``h1:v1,h2:v2``.

    :param headers: Header values by name; a value with a comma needs the dict.
    :raises WireError: as :func:`check_headers`, or if a part of the text has no colon.
    """
    if isinstance(headers, str):
        pairs = [part.partition(":") for part in headers.split(",") if part.strip()]
        broken = next((name for name, colon, _ in pairs if not colon), None)
        if broken is not None:
            # Not shown whole: it may be the rest of a value that is a secret.
            raise WireError(
                "headers: a part has no colon; write 'name:value,name:value', or a dict for values with commas"
            )
        headers = {name.strip(): value.strip() for name, _, value in pairs}
    if headers is not None and not isinstance(headers, Mapping):
        raise WireError(f"headers must be a dict or text, not a {type(headers).__name__}")
    return check_headers(headers)


def check_method(method: str) -> str:
    """
    Return an HTTP verb in upper case.

    :param method: HTTP verb.
    :raises WireError: Lago has no such verb.
    """
    verb = method.upper() if isinstance(method, str) else ""
    if verb not in _METHODS:
        raise WireError(f"the method must be one of {', '.join(sorted(_METHODS))}")
    return verb


def _refuse_unsendable(value: Any, where: str) -> None:
    # msgspec would write NaN as null, which Lago stores as "no value".
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_unsendable(item, f"{where}.{name}" if where else str(name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_unsendable(item, f"{where}[{index}]")
    elif (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, Decimal) and not value.is_finite()
    ):
        raise WireError(f"{where or 'the body'} is NaN or infinite, which JSON cannot hold")


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, (list, tuple, set, frozenset)):
        listed = name if name.endswith("[]") else f"{name}[]"
        for item in sorted(value) if isinstance(value, (set, frozenset)) else value:
            if item is not None:
                yield listed, _query_text(name, item)
        return
    yield name, _query_text(name, value)


def _query_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (str, int, float, Decimal)):
        try:
            text = str(value)
            text.encode()
        except ValueError:  # half a surrogate pair; a whole number of thousands of digits
            raise WireError(f"query value {name!r} cannot be written as text") from None
        return text
    raise WireError(
        f"query value {name!r} must be text, a number, a date or a list of them, not {type(value).__name__}"
    )
