"""What an Airflow connection of type ``http`` means as a webhook: its fields in, checked settings out. Pure."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from airflow_provider_lago.api.connection import ConnectionSettingsError
from airflow_provider_lago.api.secrecy import secrets_of

#: Seconds for one POST, the answer included, where the connection's extra names no ``timeout``.
DEFAULT_TIMEOUT = 10.0

#: Longest time for one POST: a connection may be shared with calls that take minutes, but a delivery waits for these.
LONGEST_TIMEOUT = 60.0

#: Options of Airflow's HTTP connection that mean nothing for a webhook; they are no headers either.
_IGNORED = frozenset(
    {
        "allow_redirects",
        "check_response",
        "max_redirects",
        "session_conf",
        "stream",
        "tcp_keep_alive",
        "tcp_keep_alive_count",
        "tcp_keep_alive_idle",
        "tcp_keep_alive_interval",
    }
)
_READ = frozenset({"headers", "timeout", "verify", "verify_ssl", "proxy", "proxies", "trust_env"})
_UNSUPPORTED = {
    "cert": "client certificates are not supported",
    "srv_lookup": "SRV records are not looked up",
    "auth_type": "only basic authentication is: use login and password, or a header",
    "auth_kwargs": "only basic authentication is: use login and password, or a header",
}
_BASIC = re.compile(r"(.*[.:])?(http)?basic(auth)?", re.IGNORECASE)

#: Headers that belong to a single POST or to the connection itself.
_OURS = frozenset({"connection", "content-length", "host", "idempotency-key", "transfer-encoding"})
#: Headers whose values are no secrets; masking ``application/json`` would blind the whole log.
_HARMLESS = frozenset({"accept", "accept-encoding", "accept-language", "cache-control", "content-type", "user-agent"})
SECRET_NAME = re.compile(r"key|token|secret|passw|auth|sig|credential|code", re.IGNORECASE)

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_URL_TEXT = re.compile(r"[!-~]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"/*[A-Za-z][A-Za-z0-9+.-]*://")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MASK = re.compile(r"\*{3,}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """
    A checked address that takes the answers of Lago.

    :param conn_id: Id of the Airflow connection, for messages.
    :param url: Where to POST. Not shown: many webhooks have their secret in the path or the query.
    :param headers: Headers for each POST.
    :param auth: Login and password for basic authentication, or None.
    :param verify: Which certificates are trusted: True for the usual ones, False for any, or the path of a CA bundle.
    :param timeout: Seconds for one POST, the answer included.
    :param proxy: URL of the HTTP proxy, perhaps with credentials; None for none.
    :param trust_env: Whether proxy and CA bundle of the environment count where the connection names none.
    """

    conn_id: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: tuple[str, str] | None = field(default=None, repr=False)
    verify: bool | str = True
    timeout: float = DEFAULT_TIMEOUT
    proxy: str | None = field(default=None, repr=False)
    trust_env: bool = True

    @property
    def origin(self) -> str:
        """Scheme, host and port: the part of the URL that may be shown."""
        return "/".join(self.url.split("/", 3)[:3])

    def secrets(self) -> Iterator[str]:
        """Yield the texts that no log may show."""
        if self.auth is not None:
            yield self.auth[1]
        for name, value in self.headers.items():
            if name.lower() not in _HARMLESS:
                yield value
            if name.lower().endswith("authorization"):
                yield value.split(" ")[-1]  # the token alone, after "Bearer"
        yield from (value for name, value in parse_qsl(urlsplit(self.url).query) if SECRET_NAME.search(name))
        yield from secrets_of(self.proxy)


def parse_webhook(
    *,
    conn_id: str,
    host: str | None,
    schema: str | None,
    port: int | str | None,
    login: str | None,
    password: str | None,
    extra: Mapping[str, Any],
    path: str | None = None,
) -> Webhook:
    """
    Check the fields of an Airflow HTTP connection, read as Airflow's HTTP provider reads them.

    The differences are strictness (what could not work is an error that names the field) and four options of the extra
    that a webhook ignores or refuses: redirects are never followed, every answer's status is looked at, and client
    certificates, SRV records and authentication classes are not supported.

    :param conn_id: Id of the connection.
    :param host: Host with or without scheme, port, path and query.
    :param schema: ``http`` or ``https``, for a host without scheme; http if empty.
    :param port: TCP port, if it is not part of the host.
    :param login: Login for basic authentication; without one the password is not used.
    :param password: Password for basic authentication.
    :param extra: The decoded extra: ``headers`` (a map), ``timeout``, ``verify``, ``proxy`` or ``proxies``,
        ``trust_env``; any other key with a text is a header, too.
    :param path: Path (and perhaps query) that follows the host's own path.
    :raises ConnectionSettingsError: Anything is missing, malformed or contradictory.
    """
    try:
        extra = {key: value for key, value in extra.items() if value is not None and value not in ("", {}, [])}
        _refuse_unsupported(extra)
        url = _url(host, schema, port, path)
        auth = _auth(login, password)
        return Webhook(
            conn_id=conn_id,
            url=url,
            headers=_headers(extra, has_auth=auth is not None),
            auth=auth,
            verify=_verify(extra),
            timeout=_timeout(extra),
            proxy=_proxy(extra, urlsplit(url).scheme),
            trust_env=_flag(extra, "trust_env", default=True),
        )
    except _ProblemError as error:
        problem = str(error)
    raise ConnectionSettingsError(conn_id, problem)


class _ProblemError(ValueError):
    """What is wrong, without the connection's id."""


def _refuse_unsupported(extra: Mapping[str, Any]) -> None:
    for key, why in _UNSUPPORTED.items():
        value = extra.get(key)
        if value is None or str(value).lower() == "false":
            continue
        if not (key == "auth_type" and isinstance(value, str) and _BASIC.fullmatch(value)):
            raise _ProblemError(f"extra {key!r} cannot be used for a webhook: {why}")


def _url(host: str | None, schema: str | None, port: int | str | None, path: str | None) -> str:
    parts = _split_host((host or "").strip(), (schema or "").strip().lower())
    number = _port(parts, port)
    name = parts.hostname or ""
    netloc = f"[{name}]" if ":" in name else name
    if number not in {None, _DEFAULT_PORTS[parts.scheme]}:
        netloc = f"{netloc}:{number}"
    more, _, query = (path or "").strip().partition("?")
    if query and parts.query:
        raise _ProblemError("host and path both have a query: write it in one of them")
    _check_path(more, query)
    _check_path(parts.path, parts.query)
    joined = "/".join(part for part in (parts.path.strip("/"), more.lstrip("/")) if part)
    if not more and parts.path.endswith("/") and joined:
        joined += "/"
    query = query or parts.query
    return f"{parts.scheme}://{netloc}/{joined}{f'?{query}' if query else ''}"


def _split_host(host: str, schema: str) -> SplitResult:
    if not host:
        raise _ProblemError("host is empty: write the webhook's address, such as https://hooks.example.com")
    if not _URL_TEXT.fullmatch(host) or "\\" in host:
        raise _ProblemError("host holds a space, a backslash or a character outside ASCII")
    if schema not in {"", "http", "https"}:
        raise _ProblemError("schema must be http, https or empty")
    if "://" not in host.partition("?")[0]:
        host = f"{schema or 'http'}://{_bracketed(host)}"
    try:
        parts = urlsplit(host)
        _ = parts.port
    except ValueError:
        raise _ProblemError("host has a malformed port or IPv6 address") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise _ProblemError("host must begin with https:// or http://")
    if "@" in parts.netloc:
        raise _ProblemError("host must not hold a user or password before '@': they belong in login and password")
    if "#" in host:
        raise _ProblemError("host must end before any '#'")
    _check_name(parts.hostname or "")
    return parts


def _bracketed(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host


def _check_name(name: str) -> None:
    if ":" in name and "%" not in name:
        return  # urlsplit has looked at an IPv6 address
    if not all(_LABEL.fullmatch(label) for label in name.removesuffix(".").split(".")):
        raise _ProblemError("host is not a host name: write https://hooks.example.com")


def _port(parts: SplitResult, port: int | str | None) -> int | None:
    if port is None or port in {"", 0, "0"}:  # 0 is what Airflow's form sends for a port left empty
        number = parts.port
    else:
        try:
            number = int(port)
        except ValueError:
            number = 0
        if parts.port not in {None, number}:
            raise _ProblemError(f"port is {number} but host says {parts.port}: clear one of them")
    if number is not None and not 0 < number < 65536:
        raise _ProblemError("port must be a number from 1 to 65535")
    return number


def _check_path(path: str, query: str) -> None:
    """Refuse what could lead to another place than it seems; the path is not shown, as it may be the secret."""
    if _ABSOLUTE.match(path) or "#" in path + query:
        raise _ProblemError("the webhook's path must be a path below the host, without scheme and '#'")
    if not _URL_TEXT.fullmatch(path + query) or "\\" in path or _BAD_ESCAPE.search(path + query):
        raise _ProblemError(
            "the webhook's path holds a space, a backslash, a '%' that is no escape or a character outside ASCII: "
            "percent-encode it"
        )
    if any(unquote(step) in {".", ".."} for step in path.split("/")):
        raise _ProblemError("the webhook's path must not hold '.' or '..' as a step")


def _auth(login: str | None, password: str | None) -> tuple[str, str] | None:
    if not login:
        return None
    if ":" in login:
        raise _ProblemError("login must not hold ':', which ends it in basic authentication")
    if _MASK.fullmatch(password or ""):
        raise _ProblemError("password is the mask '***' that Airflow shows instead of a secret: type it again")
    return login, password or ""


def _headers(extra: Mapping[str, Any], *, has_auth: bool) -> dict[str, str]:
    known = _READ | _IGNORED | _UNSUPPORTED.keys()
    found = [(f"extra {name!r}", name, value) for name, value in extra.items() if name not in known]
    headers = extra.get("headers", {})
    if not isinstance(headers, Mapping):
        raise _ProblemError("extra 'headers' must be a map from header to value")
    found += [(f"header {name!r} of extra 'headers'", name, value) for name, value in headers.items()]
    checked: dict[str, tuple[str, str]] = {}
    for what, name, value in found:
        _check_header(what, name, value)
        checked[name.lower()] = (name, value.strip())
    if has_auth and "authorization" in checked:
        raise _ProblemError("login and a header 'Authorization' contradict each other: clear one of them")
    return dict(checked.values())


def _check_header(what: str, name: str, value: object) -> None:
    if not _HEADER_NAME.fullmatch(name):
        raise _ProblemError(f"{what} is not the name of a header")
    if name.lower() in _OURS:
        raise _ProblemError(f"{what} cannot be given: it is set for each POST")
    if not isinstance(value, str):
        raise _ProblemError(f"{what} is not an option of a webhook; as a header it must be a text")
    if not _HEADER_VALUE.fullmatch(value):
        raise _ProblemError(f"{what} holds a line break or a character that no header may have")
    if _MASK.fullmatch(value):
        raise _ProblemError(f"{what} is the mask '***' that Airflow shows instead of a secret: type it again")


def _verify(extra: Mapping[str, Any]) -> bool | str:
    value = extra.get("verify", extra.get("verify_ssl", True))
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise _ProblemError("extra 'verify' must be true, false or the path of a CA bundle")
    return {"true": True, "false": False}.get(value.strip().lower(), value.strip())


def _timeout(extra: Mapping[str, Any]) -> float:
    value = extra.get("timeout", DEFAULT_TIMEOUT)
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds > 0:
        raise _ProblemError("extra 'timeout' must be a number of seconds above 0")
    return min(seconds, LONGEST_TIMEOUT)


def _flag(extra: Mapping[str, Any], key: str, *, default: bool) -> bool:
    flag = {"true": True, "false": False}.get(str(extra.get(key, default)).lower())
    if flag is None:
        raise _ProblemError(f"extra {key!r} must be true or false")
    return flag


def _proxy(extra: Mapping[str, Any], scheme: str) -> str | None:
    # A proxy's URL may hold credentials, so no message shows any part of it.
    proxy = extra.get("proxies", extra.get("proxy"))
    if isinstance(proxy, Mapping):
        proxy = proxy.get(scheme, proxy.get("all"))
    if proxy is None:
        return None
    fix = "extra 'proxy' must be a URL such as http://proxy.example.com:3128 (scheme http or https), or a map of them"
    if not isinstance(proxy, str) or not _URL_TEXT.fullmatch(proxy):
        raise _ProblemError(fix)
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _ProblemError(fix)
    return proxy
