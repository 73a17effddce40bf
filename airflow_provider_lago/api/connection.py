"""What an Airflow connection of type ``lago`` means: its fields in, checked settings out. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_lago.api.addresses import AddressError, base_url

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Address of Lago Cloud by region.
REGIONS: Mapping[str, str] = {"us": "https://api.getlago.com", "eu": "https://api.eu.getlago.com"}

#: Every key that the connection's extra may hold.
EXTRA_KEYS = (
    "region",
    "timeout",
    "verify_tls",
    "ca_bundle",
    "proxy",
    "requests_per_second",
    "ingest_host",
    "allow_plain_http",
)

DEFAULT_TIMEOUT = 30.0
LONGEST_CONNECT_TIMEOUT = 10.0
LONGEST_TIMEOUT = 3600.0

#: What Airflow shows instead of a stored password; a connection saved from such a view holds nothing else.
_MASK = re.compile(r"\*{3,}")
_KEY_LIKE_EXTRA = re.compile(r"api.?key|token|secret|passw|bearer|authorization|^key$", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class ConnectionSettingsError(ValueError):
    """
    A connection that cannot be used.

    :param conn_id: The connection's id.
    :param problem: Which field, what is wrong with it, and the fix. Never a secret's value.
    """

    def __init__(self, conn_id: str, problem: str) -> None:
        super().__init__(conn_id, problem)
        self.conn_id = conn_id
        self.problem = problem

    def __str__(self) -> str:
        return f"Connection {self.conn_id!r}: {self.problem}"


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """
    A checked connection to one Lago organization.

    :param conn_id: Id of the Airflow connection, for messages.
    :param api_url: Root of the API: origin, optional path and ``/api/v1``, without a slash at the end.
    :param api_key: The API key.
    :param ingest_url: Root of the ingest service in the same form, or None. Lago's ingest service takes
        single events (``POST events``) only; batches go to ``api_url``.
    :param connect_timeout: Longest wait for a TCP connection, in seconds.
    :param read_timeout: Longest silence of the server while an answer is awaited, in seconds.
    :param verify: Which certificates are trusted: True for the system's usual ones, False for any, or the
        path of a CA bundle (a file, or a folder of hashed certificates).
    :param proxy: URL of the HTTP proxy, perhaps with credentials; None for no explicit one.
    :param requests_per_second: Upper bound of the pace; None for none.
    """

    conn_id: str
    api_url: str
    api_key: str = field(repr=False)
    ingest_url: str | None
    connect_timeout: float
    read_timeout: float
    verify: bool | str
    proxy: str | None = field(repr=False)
    requests_per_second: float | None


def parse_connection(
    *,
    conn_id: str,
    host: str | None,
    schema: str | None,
    port: int | str | None,
    login: str | None,
    password: str | None,
    extra: Mapping[str, Any],
) -> ConnectionSettings:
    """
    Check the fields of an Airflow connection and return what they mean.

    ``None`` and ``""`` are "not set" everywhere, because Airflow's form writes ``null`` for every field left
    empty. Values may be text, because connections written as a URI hold nothing else.

    :param conn_id: Id of the connection.
    :param host: Address of a self-hosted Lago, with or without scheme, port, path and ``/api/v1``; empty for
        Lago Cloud.
    :param schema: ``http`` or ``https``; or ``api/v1``, which is where a hand-written connection URI puts its
        path.
    :param port: TCP port, if it is not part of the host.
    :param login: Must be empty: Lago has no user names.
    :param password: The API key. Spaces and line breaks around it (the usual copy-and-paste accident) are
        dropped.
    :param extra: The decoded extra; only the keys of :data:`EXTRA_KEYS` are allowed.
    :raises ConnectionSettingsError: Anything is missing, unknown, malformed or contradictory.
    """
    try:
        return _parse(conn_id, host=host, schema=schema, port=port, login=login, password=password, extra=extra)
    except (_ProblemError, AddressError) as error:
        problem = str(error)
    raise ConnectionSettingsError(conn_id, problem)


class _ProblemError(ValueError):
    """What is wrong, without the connection's id."""


def _parse(
    conn_id: str,
    *,
    host: str | None,
    schema: str | None,
    port: int | str | None,
    login: str | None,
    password: str | None,
    extra: Mapping[str, Any],
) -> ConnectionSettings:
    given = _given(extra)
    if (login or "").strip():
        raise _ProblemError("login must be empty, as Lago has no user names; the API key belongs in the password field")
    api_key = _api_key(password)
    plain_http = _flag(given, "allow_plain_http", default=False)
    host = (host or "").strip()
    _refuse_key_as_host(host, api_key, "host")
    timeout = _number(given, "timeout", LONGEST_TIMEOUT, "seconds") or DEFAULT_TIMEOUT
    return ConnectionSettings(
        conn_id=conn_id,
        api_url=_api_url(host, schema, port, given, plain_http),
        api_key=api_key,
        ingest_url=_ingest_url(given, api_key, plain_http),
        connect_timeout=min(LONGEST_CONNECT_TIMEOUT, timeout),
        read_timeout=timeout,
        verify=_verify(given),
        proxy=_proxy(given),
        requests_per_second=_number(given, "requests_per_second", 1_000_000.0, "requests"),
    )


def _given(extra: Mapping[str, Any]) -> dict[str, Any]:
    for key in extra:
        if key in EXTRA_KEYS:
            continue
        if _KEY_LIKE_EXTRA.search(key):
            raise _ProblemError(
                f"extra {key!r} is not allowed: the API key belongs in the password field, and only there"
            )
        close = get_close_matches(key.lower(), EXTRA_KEYS, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise _ProblemError(f"extra {key!r} is not known (allowed: {', '.join(EXTRA_KEYS)}){hint}")
    stripped = {key: value.strip() if isinstance(value, str) else value for key, value in extra.items()}
    return {key: value for key, value in stripped.items() if value is not None and value != ""}


def _api_key(password: str | None) -> str:
    key = (password or "").strip()
    if not key:
        raise _ProblemError("password is empty: put Lago's API key there (Lago: Developers, API keys)")
    if _MASK.fullmatch(key):
        raise _ProblemError(
            "password is the mask '***' that Airflow shows instead of a secret, not an API key: type the key again"
        )
    if key.lower().startswith("bearer "):
        raise _ProblemError("password must be the API key alone, without the word 'Bearer'")
    if not all("!" <= character <= "~" for character in key):
        raise _ProblemError(
            "password holds a space, a line break or a character that no API key has: copy Lago's API key again"
        )
    return key


def _api_url(host: str, schema: str | None, port: int | str | None, given: Mapping[str, Any], plain_http: bool) -> str:
    region = given.get("region")
    if region is not None:
        region = region.lower() if isinstance(region, str) else region
        if region not in REGIONS:
            raise _ProblemError(
                f"extra 'region' must be one of {', '.join(REGIONS)}; leave it empty for a self-hosted Lago"
            )
    scheme, path = _scheme_and_path(schema)
    if host:
        url = base_url(host, what="host", scheme=scheme, port=_port(port), path=path, allow_plain_http=plain_http)
        if region is not None and url != base_url(REGIONS[region], what="host"):
            raise _ProblemError(
                f"extra 'region' {region!r} is {REGIONS[region]}, but host is {url}: clear the one that is "
                "wrong "
                "(a self-hosted Lago has a host and no region)"
            )
        return url
    if scheme == "http" or _port(port) not in {None, 443}:
        raise _ProblemError(
            "host is empty, which means Lago Cloud: only https on port 443; fill in host for another server"
        )
    return base_url(REGIONS[region or "us"], what="host")


def _ingest_url(given: Mapping[str, Any], api_key: str, plain_http: bool) -> str | None:
    ingest = given.get("ingest_host")
    if ingest is None:
        return None
    if not isinstance(ingest, str):
        raise _ProblemError("extra 'ingest_host' must be text, such as https://ingest.getlago.com")
    _refuse_key_as_host(ingest, api_key, "extra 'ingest_host'")
    return base_url(ingest, what="extra 'ingest_host'", allow_plain_http=plain_http)


def _refuse_key_as_host(host: str, api_key: str, what: str) -> None:
    # An address is shown in messages, so a key that slipped into its field must stop here.
    if api_key in host or _UUID.search(host):
        raise _ProblemError(
            f"{what} holds what looks like an API key; the key belongs in the password field, and only there"
        )


def _scheme_and_path(schema: str | None) -> tuple[str | None, str]:
    text = (schema or "").strip().strip("/")
    if text.lower() in {"http", "https"}:
        return text.lower(), ""
    if not text or text.endswith("api/v1"):
        return None, text
    raise _ProblemError("schema must be http, https or empty")


def _port(port: int | str | None) -> int | None:
    # 0 is what Airflow's form sends for a port left empty.
    if port is None or port in {"", 0, "0"}:
        return None
    try:
        number = int(port)
    except ValueError:
        number = 0
    if not 0 < number < 65536:
        raise _ProblemError("port must be a number from 1 to 65535")
    return number


def _number(given: Mapping[str, Any], key: str, highest: float, unit: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= highest:
        raise _ProblemError(f"extra {key!r} must be a number of {unit} above 0, at most {highest:g}")
    return number


def _flag(given: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = given.get(key)
    if value is None:
        return default
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _ProblemError(f"extra {key!r} must be true or false")


def _verify(given: Mapping[str, Any]) -> bool | str:
    verify = _flag(given, "verify_tls", default=True)
    bundle = given.get("ca_bundle")
    if bundle is None:
        return verify
    if not isinstance(bundle, str):
        raise _ProblemError("extra 'ca_bundle' must be the path of a file of trusted certificates")
    if not verify:
        raise _ProblemError("extras 'ca_bundle' and 'verify_tls': false contradict each other: remove one of them")
    return bundle


def _proxy(given: Mapping[str, Any]) -> str | None:
    # A proxy's URL may hold credentials, so no message shows any part of it.
    proxy = given.get("proxy")
    if proxy is None:
        return None
    fix = "extra 'proxy' must be a URL such as http://proxy.example.com:3128 (scheme http or https)"
    if not isinstance(proxy, str) or not all("!" <= character <= "~" for character in proxy):
        raise _ProblemError(fix)
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise _ProblemError(fix)
    return proxy.rstrip("/")
