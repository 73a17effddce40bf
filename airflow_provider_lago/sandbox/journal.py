"""What was asked of the sandbox, and what it answered."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

KEPT_REQUESTS = 50_000
_KEPT_ERRORS = 20
_EXCERPT = 300


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """
    One request.

    :param status: None if the connection was closed without an answer.
    :param events: how many events the request held.
    :param fault: the kind of the fault it met.
    :param at: when its last byte arrived, in seconds of ``time.monotonic()``.
    """

    method: str
    path: str
    status: int | None
    events: int
    fault: str | None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class SeenError:
    """An answer of 400 or more, shortened."""

    method: str
    path: str
    status: int
    body: str


class Journal:
    """
    The last requests, and totals since the start or the last reset.

    :param keep: how many requests are kept.
    """

    def __init__(self, keep: int = KEPT_REQUESTS) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything but the requests in flight."""
        with self._lock:
            self._requests: deque[SeenRequest] = deque(maxlen=self._keep)
            self._errors: deque[SeenError] = deque(maxlen=_KEPT_ERRORS)
            self._routes: Counter[str] = Counter()
            self._statuses: Counter[str] = Counter()
            self._events = 0
            self.max_in_flight = self.in_flight

    def enter(self) -> None:
        """A request arrived."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def leave(self) -> None:
        """A request is done with."""
        self.in_flight -= 1

    def note(self, seen: SeenRequest, route: str, body: bytes) -> None:
        """Keep one request and the begin of its answer's body."""
        with self._lock:
            self._requests.append(seen)
            self._events += seen.events
            self._routes[f"{seen.method} {route or seen.path}"] += 1
            self._statuses["dropped" if seen.status is None else str(seen.status)] += 1
            if seen.status is not None and seen.status >= 400:
                excerpt = body[:_EXCERPT].decode(errors="replace")
                self._errors.append(SeenError(seen.method, seen.path, seen.status, excerpt))

    @property
    def requests(self) -> list[SeenRequest]:
        """The last requests, oldest first."""
        with self._lock:
            return list(self._requests)

    @property
    def errors(self) -> list[SeenError]:
        """The last refusals, oldest first."""
        with self._lock:
            return list(self._errors)

    def totals(self) -> dict[str, Any]:
        """Counts by route and by status, and of events in requests, each as often as it was sent."""
        with self._lock:
            return {
                "requests": self._routes.total(),
                "requests_by_route": dict(self._routes),
                "answers_by_status": dict(self._statuses),
                "events_received": self._events,
                "max_in_flight": self.max_in_flight,
            }


def as_dicts(requests: list[SeenRequest]) -> list[dict[str, Any]]:
    """For the control API."""
    return [asdict(request) for request in requests]
