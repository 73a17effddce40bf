"""What a webhook's answer means: it took the answer, it may take it later, or it never will. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from airflow_provider_lago.api.failures import Cause

#: Longest wait that a webhook's ``Retry-After`` gets, in seconds.
LONGEST_ASKED_WAIT = 30.0

#: Statuses that say no more about one answer than about any other: the address or the credentials are wrong.
_FOR_ALL = frozenset({401, 403, 404, 405, 407, 410})


@dataclass(frozen=True, slots=True)
class Taken:
    """The webhook took it."""


@dataclass(frozen=True, slots=True)
class Later:
    """
    It may take it later.

    :param reason: What happened.
    :param asked: Seconds that it asks to wait, or None.
    """

    reason: str
    asked: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """
    It will not take it.

    :param reason: What happened.
    :param others_too: Whether it would not take any other answer either.
    """

    reason: str
    others_too: bool


Verdict = Taken | Later | Never

_CAUSES: Mapping[Cause, str] = {
    Cause.DNS: "the host name cannot be resolved",
    Cause.REFUSED: "the connection was refused",
    Cause.PROXY: "the proxy on the way cannot be used",
    Cause.CONNECT: "no connection",
    Cause.CONNECT_TIMEOUT: "no connection in time",
    Cause.READ_TIMEOUT: "no answer in time",
}
_LASTING: Mapping[Cause, str] = {
    Cause.CERTIFICATE: "the certificate is not trusted (extra 'verify' takes the path of a CA bundle)",
    Cause.TLS: "the TLS handshake failed",
}


def judge(status: int, retry_after: str | None, now: datetime | None = None) -> Verdict:
    """
    Return what an HTTP answer of the webhook means.

    :param status: Its status.
    :param retry_after: Its ``Retry-After``: seconds or a date.
    :param now: The time, for a date.
    """
    if 200 <= status < 300:
        return Taken()
    if status >= 500 or status in {408, 429}:
        return Later(f"HTTP {status}", _asked_wait(retry_after, now or datetime.now(UTC)))
    if status < 400:
        return Never(f"HTTP {status}, and redirects are not followed", others_too=True)
    return Never(f"HTTP {status}", others_too=status in _FOR_ALL)


def judge_failure(cause: Cause) -> Verdict:
    """Return what it means that no answer came."""
    if cause in _LASTING:
        return Never(_LASTING[cause], others_too=True)
    return Later(_CAUSES.get(cause, "the connection broke"))


def _asked_wait(retry_after: str | None, now: datetime) -> float | None:
    text = (retry_after or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_ASKED_WAIT) if math.isfinite(seconds) else None
