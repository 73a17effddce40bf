"""One call to Lago before it is sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from airflow_provider_lago.api.paths import clean, refuse_dotted_ids
from airflow_provider_lago.api.retry import is_repeatable
from airflow_provider_lago.api.wire import WireError, check_headers, check_method, encode_json, encode_query

READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Call:
    """
    One call to Lago, checked and encoded.

    :param method: HTTP verb.
    :param path: Path below ``/api/v1``, percent-encoded.
    :param query: Query pairs.
    :param body: JSON body or None.
    :param headers: Headers besides the session's.
    :param repeatable: Whether it may be sent again when Lago may have executed it already.
    :param expects: Root of the object or list that a success must hold; None where an empty body is fine.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    expects: str | None = None

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method in READS

    @property
    def target(self) -> str:
        """Path and query, as they stand in the URL."""
        return f"{self.path}?{urlencode(self.query, quote_via=quote)}" if self.query else self.path


def build_call(
    method: str,
    endpoint: str,
    *,
    params: Mapping[str, Any] | None = None,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    idempotent: bool | None = None,
    expects: str | None = None,
) -> Call:
    """
    Check and encode a call.

    :param method: HTTP verb.
    :param endpoint: Path below ``/api/v1``.
    :param params: Query values; see :func:`~airflow_provider_lago.api.wire.encode_query`.
    :param json: Body.
    :param headers: Additional headers.
    :param idempotent: Whether it does no harm when it is executed twice; None decides by verb and endpoint.
    :param expects: Root of what a success must hold.
    :raises PathError: The endpoint leads elsewhere.
    :raises WireError: Another argument cannot be sent.
    """
    verb, path = check_method(method), clean(endpoint)
    refuse_dotted_ids(verb, path)
    if json is not None and verb in READS:
        raise WireError(f"{verb} takes no body: pass query values as params")
    return Call(
        method=verb,
        path=path,
        query=tuple(encode_query(params)),
        body=None if json is None else encode_json(json),
        headers=check_headers(headers),
        repeatable=is_repeatable(verb, path) if idempotent is None else idempotent,
        expects=expects,
    )
