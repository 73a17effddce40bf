"""One request as Rails sees it: parsed body, nested parameters, pages."""

from __future__ import annotations

import itertools
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_provider_lago.sandbox.answers import Refusal, crash, malformed_json, missing_param, provider_refusal

_NESTED = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_INTEGER = re.compile(r"\s*[+-]?\d+")
_MAX_DEPTH = 100


@dataclass(slots=True)
class Call:
    """
    A request to the API.

    :param ids: the values of the route's dynamic segments, decoded.
    :param events: set by the handlers of events, for the journal.
    :param provider: what a payment provider refuses when this request makes Lago ask it, if it does.
    :param fault: set when it did, for the journal.
    """

    method: str
    path: str
    query_string: bytes
    headers: dict[bytes, bytes]
    body: bytes
    ids: tuple[str, ...] = ()
    route: str = ""
    events: int = 0
    provider: Callable[[], str | None] = field(default=lambda: None, repr=False)
    fault: str | None = None
    _params: dict[str, Any] | None = field(default=None, repr=False)

    def header(self, name: bytes) -> str:
        """A request header as text, empty if absent."""
        return self.headers.get(name, b"").decode("latin-1")

    def ask_provider(self, kind: str, code: str | None) -> Refusal | None:
        """
        Call a payment provider in the middle of the request.

        :return: what Lago answers if the provider refuses, after all that it committed before.
        """
        self.fault = self.provider()
        return None if self.fault is None else provider_refusal(self.fault, kind, code)

    @property
    def query(self) -> dict[str, Any]:
        """The query string, with ``a[]=1`` and ``a[b]=1`` nested as Rails nests them."""
        return _nest(self.query_string)

    @property
    def is_json(self) -> bool:
        """Only this media type is parsed as JSON; text/plain and others read as an empty request."""
        return self.header(b"content-type").partition(";")[0].strip().lower() == "application/json"

    @property
    def params(self) -> dict[str, Any]:
        """The body's parameters; malformed JSON ends the request with 400."""
        if self._params is None:
            self._params = self._parse()
        return self._params

    def _parse(self) -> dict[str, Any]:
        if self.is_json:
            if not self.body.strip():
                return {}
            try:
                parsed = msgspec.json.decode(self.body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise malformed_json(self.header(b"accept")) from None
            if _depth_exceeds(parsed, _MAX_DEPTH):
                raise malformed_json(self.header(b"accept"))
            munged = _compact(parsed)
            return munged if isinstance(munged, dict) else {"_json": munged}
        if self.header(b"content-type").startswith("application/x-www-form-urlencoded"):
            return _nest(self.body)
        return {}

    def root(self, name: str) -> dict[str, Any]:
        """
        The object under a root key.

        Rails answers 400 for a blank one, and crashes on one that is there but is no object.
        """
        value = self.params.get(name)
        if value is None or value in ({}, [], "") or (isinstance(value, str) and not value.strip()):
            raise missing_param(name)
        if not isinstance(value, dict):
            raise crash()
        return value

    def page(self) -> tuple[int, int]:
        """Page and page size: nonsense pages are 1, nonsense sizes 25, and a size of 0 crashes."""
        query = self.query
        size = 100 if "per_page" not in query else _leading_int(query["per_page"], 25)
        return max(_leading_int(query.get("page", "1"), 1), 1), 25 if size < 0 else size


def _leading_int(text: object, default: int) -> int:
    match = _INTEGER.match(text) if isinstance(text, str) else None
    return int(match.group()) if match else default


def _compact(value: Any) -> Any:
    """Drop nulls from arrays, at any depth, as Rails does with every parsed JSON body."""
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_compact(item) for item in value if item is not None]
    return value


def _depth_exceeds(value: object, limit: int) -> bool:
    layer: list[object] = [value]
    for _ in range(limit + 1):
        below: list[object] = []
        for item in layer:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        layer = below
    return True


def _nest(encoded: bytes) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in urllib.parse.parse_qsl(encoded.decode("latin-1"), keep_blank_values=True):
        match = _NESTED.match(key)
        if match is None:
            continue
        keys = [match.group(1), *re.findall(r"\[([^\[\]]*)\]", match.group(2))]
        here = nested
        for name, following in itertools.pairwise(keys):
            if following == "" and len(keys) == 2:
                listed = here.setdefault(name, [])
                if isinstance(listed, list):
                    listed.append(value)
                break
            below = here.setdefault(name, {})
            if not isinstance(below, dict):
                break
            here = below
        else:
            here[keys[-1]] = value
    return nested


def texts(value: object) -> list[str]:
    """An array parameter; a scalar where an array belongs is ignored, as Lago ignores it."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
