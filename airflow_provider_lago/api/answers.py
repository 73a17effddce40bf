"""What one HTTP answer of Lago says: error facts, request id, rate headers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_provider_lago.api.plain_text import plain
from airflow_provider_lago.api.secrecy import Blot

#: No wait that an answer asks for is followed beyond this, in seconds: a broken header must not park a task.
LONGEST_WAIT = 300.0

#: Entries of a map or a list that a message repeats.
_DESCRIBED = 8

_RATE_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")
_TITLE = re.compile(rb"<title>(.{0,200}?)</title>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One answer of the server, whatever transport brought it.

    :param status: HTTP status code.
    :param headers: Response headers, names in lower case.
    :param body: Raw body, which may be empty (Lago answers some successes without one).
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[str, str]], body: bytes, blot: Blot | None = None) -> Answer:
        """Build an answer from a transport's own header pairs; ``blot`` takes out a key that the server echoes."""
        if blot is None:
            return cls(status, {name.lower(): value for name, value in headers}, body)
        return cls(status, {name.lower(): blot.text(value) for name, value in headers}, blot.data(body))

    def json(self) -> Any:
        """Return the decoded body; None where it is empty or not JSON (a proxy's page, a cut body, not UTF-8)."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @property
    def request_id(self) -> str | None:
        """The id under which the server logged the request, for a support ticket."""
        return self.headers.get("x-request-id")

    @property
    def rate_headers(self) -> dict[str, str]:
        """The rate-limit headers that are present (Lago Cloud sends them; self-hosted does not)."""
        return {name: self.headers[name] for name in _RATE_HEADERS if name in self.headers}

    @property
    def asked_wait(self) -> float | None:
        """
        Seconds that the server asks to wait, from ``Retry-After`` or else ``x-ratelimit-reset``.

        Lago Cloud documents ``x-ratelimit-reset`` as seconds until the window resets (a delta, not an epoch).
        A date in ``Retry-After`` is not read: no Lago answer carries one. None where nothing usable is said.
        """
        for name in ("retry-after", "x-ratelimit-reset"):
            try:
                seconds = float(self.headers.get(name, ""))
            except ValueError:
                continue
            if math.isfinite(seconds) and seconds >= 0:
                return min(seconds, LONGEST_WAIT)
        return None


@dataclass(frozen=True, slots=True)
class LagoError:
    """
    The facts of an error body, in whichever of Lago's shapes it came.

    :param code: Lago's error code such as ``validation_errors`` or ``customer_not_found``; None where there is none
        (401, 400 and proxies' pages have none).
    :param details: ``error_details``: a map field -> codes, a map index -> errors for a batch, or a plain string.
    :param message: One line for a person.
    """

    code: str | None
    details: Any
    message: str


def read_error(answer: Answer) -> LagoError:
    """Return the facts of an error answer. Never raises, whatever the body is."""
    body = answer.json()
    if not isinstance(body, dict):
        return LagoError(None, None, _describe_foreign(answer))
    code = body.get("code")
    details = body.get("error_details")
    said = body.get("message") or body.get("error") or f"HTTP {answer.status}"
    message = str(said)
    if isinstance(code, str):
        message = f"{message} ({code})"
    if details is not None:
        message = f"{message}: {describe_details(details)}"
    return LagoError(plain(code) if isinstance(code, str) else None, details, _cut(message))


def describe_details(details: Any, limit: int = 300) -> str:
    """
    Return ``error_details`` as one short line, e.g. ``timestamp: invalid_format``.

    :param details: Any of the shapes of ``error_details``.
    :param limit: Longest text returned, in characters.
    """
    # A batch of 100 duplicates names each of them.
    if isinstance(details, dict):
        some = itertools.islice(details.items(), _DESCRIBED)
        text = "; ".join(f"{name}: {describe_details(value, limit)}" for name, value in some)
    elif isinstance(details, list):
        text = ", ".join(describe_details(value, limit) for value in details[:_DESCRIBED])
    else:
        text = str(details)
    return _cut(text, limit)


def is_of_lago(answer: Answer) -> bool:
    """Tell whether Lago itself refused a call: its error bodies repeat the status; a gateway's do not."""
    body = answer.json()
    return isinstance(body, dict) and body.get("status") == answer.status


def _cut(text: str, limit: int = 300) -> str:
    text = plain(text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _describe_foreign(answer: Answer) -> str:
    if not answer.body:
        return f"HTTP {answer.status} with an empty body"
    kind = answer.headers.get("content-type", "no content type").split(";")[0]
    title = _TITLE.search(answer.body)
    shown = f" titled {title[1].decode('utf-8', 'replace').strip()!r}" if title else ""
    kind = plain(kind)
    return f"HTTP {answer.status} with a body that is not Lago's JSON ({kind}{shown})"
