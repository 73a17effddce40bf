"""Why no answer came: what broke, whether Lago can have executed the call, and what to do. For any transport."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cause(StrEnum):
    """What broke."""

    CERTIFICATE = "certificate"
    TLS = "tls"
    DNS = "dns"
    REFUSED = "refused"
    PROXY = "proxy"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect timeout"
    READ_TIMEOUT = "read timeout"
    BROKEN = "broken"
    TOO_LONG = "too long"


#: The request cannot have reached Lago, so it is safe to send again whatever it does.
NEVER_ARRIVED = frozenset({Cause.DNS, Cause.REFUSED, Cause.PROXY, Cause.CONNECT, Cause.CONNECT_TIMEOUT})

#: No retry heals these: trust and protocol are a matter of configuration, and an answer is as long the next time.
LASTING = frozenset({Cause.CERTIFICATE, Cause.TLS, Cause.TOO_LONG})

_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
#: OpenSSL's parts that read certificates: their errors are about the bundle, not about the server.
_READERS = frozenset({"X509", "PEM"})


@dataclass(frozen=True, slots=True)
class Failure:
    """
    A call without an answer.

    :param cause: What broke.
    :param message: One line for a person, with the fix; without URL, query, key or proxy credentials.
    """

    cause: Cause
    message: str

    @property
    def lasts(self) -> bool:
        """Whether the same call would fail the same way an hour later."""
        return self.cause in LASTING

    @property
    def never_arrived(self) -> bool:
        """Whether Lago certainly did not execute the call."""
        return self.cause in NEVER_ARRIVED


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """
    Yield an exception and everything that it wraps, however its library hides it.

    ``requests`` puts the wrapped exception into ``args``, urllib3 into ``reason``, aiohttp into ``os_error``
    and ``certificate_error``, Python into ``__cause__`` and ``__context__``.

    :param error: What the transport raised.
    """
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += found.args
        waiting += [getattr(found, name, None) for name in ("reason", "os_error", "certificate_error")]
        waiting += [found.__cause__, found.__context__]


def read_failure(error: BaseException, *, origin: str, conn_id: str, otherwise: Cause) -> Failure:
    """
    Return what a transport's exception means.

    :param error: What the transport raised.
    :param origin: Scheme, host and port that were called, for the message.
    :param conn_id: Id of the Airflow connection.
    :param otherwise: The cause where the wrapped exceptions do not say: the transport knows whether it was
        connecting, reading or talking to a proxy.
    """
    causes = list(causes_of(error))
    for found in causes:
        # aiohttp's own error is of this class too, but wraps the one that has the details.
        if isinstance(found, ssl.SSLCertVerificationError) and hasattr(found, "verify_message"):
            return _certificate(found, origin, conn_id)
    for found in causes:
        if isinstance(found, ssl.SSLError):
            failure = _tls(found, origin, conn_id)
            if failure is not None:
                return failure
    if otherwise is not Cause.PROXY:
        for found in causes:
            if isinstance(found, socket.gaierror):
                return Failure(
                    Cause.DNS, f"the host name of {origin} cannot be resolved; check the host of connection {conn_id!r}"
                )
            if isinstance(found, ConnectionRefusedError):
                return Failure(
                    Cause.REFUSED,
                    f"{origin} refused the connection: is Lago running there? Check host and port of "
                    f"connection {conn_id!r}",
                )
    return Failure(otherwise, _sentence(otherwise, causes, origin, conn_id))


def _certificate(error: ssl.SSLCertVerificationError, origin: str, conn_id: str) -> Failure:
    return Failure(
        Cause.CERTIFICATE,
        f"the certificate of {origin} is not trusted ({error.verify_message.rstrip('.')}); for a private CA "
        "set extra "
        f"'ca_bundle' of connection {conn_id!r} to the path of its certificates",
    )


def _tls(error: ssl.SSLError, origin: str, conn_id: str) -> Failure | None:
    reason = getattr(error, "reason", None) or ""
    if reason in _NOT_TLS:
        fix = (
            f"it seems to speak plain http: write http:// in the host of connection {conn_id!r}, or use its https port"
        )
        return Failure(Cause.TLS, f"{origin} does not speak TLS; {fix}")
    if getattr(error, "library", None) in _READERS:
        return Failure(Cause.TLS, f"the CA bundle of connection {conn_id!r} holds no readable certificate")
    if "ALERT" in reason or "PROTOCOL" in reason:
        return Failure(Cause.TLS, f"the TLS handshake with {origin} failed ({reason.lower().replace('_', ' ')})")
    return None  # such as an end of file in the middle: a broken connection


def _sentence(cause: Cause, causes: list[BaseException], origin: str, conn_id: str) -> str:
    if cause is Cause.PROXY:
        tunnel = next((found for error in causes if (found := _TUNNEL.search(str(error)))), None)
        said = f"answered HTTP {tunnel[1]}" if tunnel else "cannot be reached"
        return f"the proxy on the way to {origin} {said}; check extra 'proxy' of connection {conn_id!r} or HTTPS_PROXY"
    return {
        Cause.CONNECT: f"no connection to {origin}; check host and port of connection {conn_id!r} and the network",
        Cause.CONNECT_TIMEOUT: f"no connection to {origin} in time; check host and port of connection {conn_id!r}",
        Cause.READ_TIMEOUT: f"no answer from {origin} in time; extra 'timeout' of connection {conn_id!r} sets it",
    }.get(cause, f"the connection to {origin} broke before the answer was complete")
