"""From what people type as Lago's address to the one URL of its API."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_PATH_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_VERSION_TAIL = re.compile(r"(?:/+api/v1)+/*$")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CLOUD = "getlago.com"
_CLOUD_SITES = frozenset({_CLOUD, f"www.{_CLOUD}", f"doc.{_CLOUD}", f"docs.{_CLOUD}"})

#: Names that only resolve inside a network: reserved ones (RFC 6761, 6762, 8375, ICANN's .internal),
#: Kubernetes', and the usual home-made ones. ``host.docker.internal`` is one of ``internal``.
_INNER_SUFFIXES = (
    "cluster.local",
    "corp",
    "home",
    "home.arpa",
    "internal",
    "intranet",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "private",
    "svc",
    "test",
)

#: Carrier-grade NAT, which Tailscale and some clouds use for private addresses.
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_RFC1918 = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")


class AddressError(ValueError):
    """An address that cannot be Lago's API; the message names the field, the problem and the fix."""


def base_url(
    address: str,
    *,
    what: str,
    scheme: str | None = None,
    port: int | None = None,
    path: str = "",
    allow_plain_http: bool = False,
) -> str:
    """
    Return the root of Lago's API for an address: origin, optional path and ``/api/v1`` exactly once.

    :param address: Host, or URL, with or without port, path and ``/api/v1``.
    :param what: Name of the field, for messages.
    :param scheme: ``http`` or ``https`` given elsewhere; without any, https.
    :param port: TCP port given elsewhere.
    :param path: Path given elsewhere; it follows the address's own.
    :param allow_plain_http: Accept http to a host on the public internet, where the key travels readable.
    :raises AddressError: The address is malformed, holds credentials, a query or a fragment, is Lago's UI, or
        would send the key unencrypted over the internet.
    """
    parts = _split(address, what, scheme)
    host = _host(parts, what)
    number = _port(parts, port, what)
    segments = _path_segments(parts.path, path, what)
    wrote_version = bool(_VERSION_TAIL.search(f"{parts.path}/{path}"))
    _refuse_ui(host, what, wrote_version)
    _refuse_plain_http(parts.scheme, host, what, allow_plain_http)
    netloc = f"[{host}]" if ":" in host else host
    if number not in {None, _DEFAULT_PORTS[parts.scheme]}:
        netloc = f"{netloc}:{number}"
    return "/".join([f"{parts.scheme}://{netloc}", *segments, "api", "v1"])


def origin_of(url: str) -> tuple[str, str, int | None]:
    """
    Return scheme, host and port of a URL, the default port filled in: equal for URLs of the same server.

    :raises ValueError: The URL's port or brackets are malformed.
    """
    parts = urlsplit(url)
    return (
        parts.scheme.lower(),
        (parts.hostname or "").rstrip("."),
        parts.port or _DEFAULT_PORTS.get(parts.scheme.lower()),
    )


def is_inner_host(host: str) -> bool:
    """
    Tell whether a host is reached without crossing the public internet, as far as its name says.

    :param host: Host name or IP address without brackets, in lower case.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.rstrip(".")
        return "." not in name or name.endswith(tuple(f".{suffix}" for suffix in _INNER_SUFFIXES))
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return address.is_loopback or address.is_link_local or address in _UNIQUE_LOCAL
        address = address.ipv4_mapped
    return address.is_loopback or address.is_link_local or address in _SHARED or any(address in net for net in _RFC1918)


def _split(address: str, what: str, scheme: str | None) -> SplitResult:
    text = address.strip()
    # urlsplit drops some control characters silently, and a backslash is a slash to some parsers and not to
    # others.
    if not all("!" <= character <= "~" for character in text) or "\\" in text:
        raise AddressError(
            f"{what} holds a space, a backslash or a character outside ASCII (write an international name as xn--...)"
        )
    written = _SCHEME.match(text)
    if written is None:
        if re.match(r"https?:/*", text, re.IGNORECASE) and not re.match(r"https?:\d", text, re.IGNORECASE):
            raise AddressError(f"{what} is not a URL: write https://lago.example.com")
        text = f"{scheme or 'https'}://{_bracketed(text)}"
    elif written[1].lower() not in _DEFAULT_PORTS:
        raise AddressError(f"{what} must begin with https:// or http://")
    elif scheme is not None and scheme != written[1].lower():
        raise AddressError(f"schema is {scheme} but {what} begins with {written[1].lower()}://: clear one of them")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise AddressError(f"{what} has a malformed port or IPv6 address: write https://[::1]:3000") from None
    if "@" in parts.netloc:
        raise AddressError(
            f"{what} must not hold a user or password before '@': the API key belongs in the password field"
        )
    if "?" in text or "#" in text:
        raise AddressError(f"{what} must end before any '?' or '#'")
    return parts


def _bracketed(text: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        return text


def _host(parts: SplitResult, what: str) -> str:
    host = (parts.hostname or "").rstrip(".")
    if not host:
        raise AddressError(f"{what} has no host name: write https://lago.example.com")
    if parts.netloc.startswith("["):
        try:
            if "%" in host:  # a zone is a name of this machine's, and would need escaping in a URL
                raise ValueError(host)
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise AddressError(f"{what} is not a valid IPv6 address: write https://[::1]:3000") from None
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(f"{what} is not a host name: write https://lago.example.com")
    # A host that ends in a number is an IPv4 address to every resolver, also in short forms such as
    # 2130706433.
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise AddressError(f"{what} ends in a number but is not an IPv4 address such as 192.168.0.7") from None
    return host


def _port(parts: SplitResult, port: int | None, what: str) -> int | None:
    if parts.port == 0:
        raise AddressError(f"{what} has port 0: write a port from 1 to 65535")
    if port is not None and parts.port is not None and port != parts.port:
        raise AddressError(f"port is {port} but {what} says {parts.port}: clear one of them")
    return port if parts.port is None else parts.port


def _path_segments(path: str, more: str, what: str) -> list[str]:
    whole = "/".join(part for part in (path.rstrip("/"), more.strip("/")) if part)
    bare = _VERSION_TAIL.sub("", whole if whole.startswith("/") else f"/{whole}")
    segments = bare.strip("/").split("/") if bare.strip("/") else []
    if any(not _PATH_SEGMENT.fullmatch(segment) or segment in {".", ".."} for segment in segments):
        raise AddressError(f"{what} has a path that no Lago is served under: write the address up to /api/v1")
    if re.search(r"/api/v\d+(/|$)", f"/{'/'.join(segments)}"):
        raise AddressError(f"{what} must end with /api/v1 or before it: the rest of the path belongs to single calls")
    return segments


def _refuse_ui(host: str, what: str, wrote_version: bool) -> None:
    cloud = host == _CLOUD or host.endswith(f".{_CLOUD}")
    if host in _CLOUD_SITES:
        raise AddressError(
            f"{what} {host} is Lago's web site: the API is at https://api.{_CLOUD} (EU: https://api.eu.{_CLOUD})"
        )
    if not host.startswith("app."):
        return
    api = f"api.{host.removeprefix('app.')}"
    if cloud:
        raise AddressError(f"{what} {host} is Lago's UI: the API is at https://{api}")
    if not wrote_version:  # one-domain installations serve the API under /api of the UI's host; then the path says so
        raise AddressError(
            f"{what} {host} looks like Lago's UI: use the API's host, such as https://{api}; if the API is "
            "really served "
            f"there, write https://{host}/api/v1"
        )


def _refuse_plain_http(scheme: str, host: str, what: str, allowed: bool) -> None:
    if scheme == "https" or is_inner_host(host):
        return
    if host.endswith(f".{_CLOUD}"):
        raise AddressError(f"{what} must begin with https://: Lago Cloud is not served over http")
    if not allowed:
        raise AddressError(
            f"{what} {host} is a public address, and over http anybody on the way could read the API key: "
            "use https://, "
            "or set extra 'allow_plain_http' to true if that is really meant"
        )
