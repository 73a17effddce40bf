"""Who may call what, and how often."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from airflow_provider_lago.sandbox.answers import Answer, forbidden, unauthorized

DEFAULT_KEY = "11111111-2222-4333-8444-555555555555"

Permissions = Mapping[str, Iterable[str]]


class Keys:
    """
    The API keys of the organization.

    :param keys: each key with its permissions, resource to some of ``read`` and ``write``; None allows all.
    """

    def __init__(self, keys: Mapping[str, Permissions | None]) -> None:
        self._keys = {
            key: None if allowed is None else {name: frozenset(modes) for name, modes in allowed.items()}
            for key, allowed in keys.items()
        }

    def check(self, authorization: str, resource: str, method: str) -> None:
        """Refuse with 401 or 403; Lago reads the second word of the header and ignores the scheme."""
        words = authorization.split(" ")
        key = words[1] if len(words) > 1 else ""
        if key not in self._keys:
            raise unauthorized()
        allowed = self._keys[key]
        mode = "read" if method in ("GET", "HEAD") else "write"
        if allowed is not None and mode not in allowed.get(resource, ()):
            raise forbidden(f"{mode}_action_not_allowed_for_{resource}")


def parse_permissions(text: str) -> dict[str, list[str]]:
    """
    Read ``event:write,customer:read+write``.

    :raises ValueError: for anything else.
    """
    allowed: dict[str, list[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        resource, _, modes = part.partition(":")
        wanted = [mode for mode in modes.split("+") if mode in ("read", "write")]
        if not resource or not modes or len(wanted) != len(modes.split("+")):
            raise ValueError(f"{part!r} is no permission; write resource:read, resource:write or both with +.")
        allowed.setdefault(resource, []).extend(wanted)
    return allowed


class RateLimit:
    """
    The limit of Lago's cloud: so many requests of the organization per window.

    :param limit: requests per window; None for a self-hosted server, which has no limit and no headers.
    :param window: seconds.
    """

    def __init__(self, limit: int | None = None, window: float = 1.0) -> None:
        self.limit = limit
        self.window = window
        self._start = 0.0
        self._used = 0

    def take(self) -> tuple[Answer | None, dict[str, str]]:
        """Count one request: the refusal if there is one, and the headers of every answer."""
        if self.limit is None:
            return None, {}
        now = time.monotonic()
        if now - self._start >= self.window:
            self._start, self._used = now, 0
        self._used += 1
        reset = max(self.window - (now - self._start), 0.0)
        headers = rate_headers(self.limit, max(self.limit - self._used, 0), reset)
        return (None if self._used <= self.limit else too_many_requests()), headers


def rate_headers(limit: int, remaining: int, reset: float) -> dict[str, str]:
    """The three headers; the reset is a number of seconds from now, rounded up."""
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": str(-int(-reset // 1)),
    }


def too_many_requests() -> Answer:
    """The refusal comes from the edge, not from Lago: its body is no JSON."""
    return Answer(429, b"Too Many Requests\n", "text/plain; charset=utf-8")
