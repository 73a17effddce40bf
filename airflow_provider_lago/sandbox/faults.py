"""Faults on demand: which request meets which misfortune."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_lago.sandbox.access import rate_headers, too_many_requests
from airflow_provider_lago.sandbox.answers import HTML, Answer

BEFORE = frozenset({"reset", "rate_limit", "error", "answer", "redirect", "poison"})
AFTER = frozenset({"lost_response", "error_after_commit", "cut_body", "broken_json", "empty"})
# Only for requests on which Lago asks a payment provider, at that moment and after its own commit.
PROVIDER = frozenset({"provider_error", "third_party_error", "too_many_provider_requests"})
KINDS = BEFORE | AFTER | PROVIDER | {"slow"}

_DEFAULT_STATUS = {"error": 500, "error_after_commit": 502, "redirect": 307, "poison": 400, "answer": 200}


@dataclass
class Fault:
    """
    A rule: a kind of fault, and the requests that meet it.

    :param kind: what happens. Before Lago sees the request: ``reset`` (connection reset), ``rate_limit``
        (429), ``error`` (5xx), ``answer`` (any status and body), ``redirect``, ``poison`` (refusal of bodies
        that contain a text). After Lago stored it: ``lost_response`` (connection closed without an answer),
        ``error_after_commit`` (5xx), ``cut_body`` (connection closed in mid-body), ``broken_json`` (a whole
        answer with half of the JSON), ``empty`` (Lago's status without a body). ``slow`` delays and lets go on. When
        Lago asks a payment provider: ``provider_error``, ``third_party_error`` (422) and
        ``too_many_provider_requests`` (429), each with the customer committed.
    :param method: only this HTTP method.
    :param path: only paths that begin so, with or without ``/api/v1``.
    :param exact: the path must be equal instead.
    :param contains: only bodies that contain this text.
    :param skip: let the first so many matching requests pass.
    :param times: at most so many times; None for always.
    :param every: only every so-many-th matching request.
    :param first_of_each_body: only the first request of each distinct body, so that a retry passes.
    :param first_of_each_request: only the first of each distinct request (method, path, query and body): reads too.
    :param probability: only this share of the requests, drawn with ``seed``.
    :param seed: of the draw.
    :param status: of the answer, where the kind leaves it open.
    :param body: of the answer, where the kind leaves it open.
    :param content_type: of ``body``.
    :param headers: added to the answer.
    :param seconds: of ``slow``.
    :param reset: ``x-ratelimit-reset`` of ``rate_limit``; None leaves the three headers out.
    :param retry_after: ``Retry-After`` of ``rate_limit``.
    :param location: of ``redirect``.
    """

    kind: str
    method: str | None = None
    path: str = ""
    exact: bool = False
    contains: str | None = None
    skip: int = 0
    times: int | None = None
    every: int | None = None
    first_of_each_body: bool = False
    first_of_each_request: bool = False
    probability: float | None = None
    seed: int = 0
    status: int | None = None
    body: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    reset: float | None = None
    retry_after: str | int | None = None
    location: str = "/"
    matched: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)
    _seen: set[bytes] = field(default_factory=set, init=False, repr=False)
    _draw: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of fault; there are {', '.join(sorted(KINDS))}.")
        if self.kind == "poison" and not self.contains:
            raise ValueError("A poison fault needs contains=, the text that makes a body poisonous.")
        if self.every is not None and self.every < 1:
            raise ValueError("every= must be at least 1.")
        self._draw = random.Random(self.seed)

    def strikes(self, method: str, path: str, body: bytes, query: bytes = b"") -> bool:
        """Tell whether this request meets the fault, and count it."""
        if self.method not in (None, method) or not self._on(path):
            return False
        if self.contains is not None and self.contains.encode() not in body:
            return False
        self.matched += 1
        if self.matched <= self.skip or (self.times is not None and self.fired >= self.times):
            return False
        if self.every is not None and (self.matched - self.skip) % self.every:
            return False
        if self.first_of_each_body or self.first_of_each_request:
            named = f"{method} {path}?".encode() + query + b"\n" if self.first_of_each_request else b""
            digest = hashlib.blake2b(named + body, digest_size=16).digest()
            if digest in self._seen:
                return False
            self._seen.add(digest)
        if self.probability is not None and self._draw.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def _on(self, path: str) -> bool:
        wanted = (self.path, f"/api/v1{self.path}")
        return path in wanted if self.exact else path.startswith(wanted)

    def answer(self) -> Answer:
        """What is answered instead of Lago's answer."""
        if self.kind == "rate_limit":
            given = too_many_requests()
            if self.reset is not None:
                given.headers.update(rate_headers(1, 0, self.reset))
            if self.retry_after is not None:
                given.headers["retry-after"] = str(self.retry_after)
        elif self.kind == "redirect":
            given = Answer(307, b"", HTML, {"location": self.location})
        else:
            status = self.status or _DEFAULT_STATUS[self.kind]
            given = Answer(status, _page(status), HTML)
        given.status = self.status or given.status
        if self.body is not None:
            given.body = self.body.encode()
            given.content_type = self.content_type or (
                "application/json; charset=utf-8" if self.body[:1] in ("{", "[") else HTML
            )
        elif self.content_type is not None:
            given.content_type = self.content_type
        given.headers.update(self.headers)
        return given

    def spoil(self, given: Answer) -> Answer:
        """What becomes of Lago's answer after it did its work."""
        if self.kind == "error_after_commit":
            return self.answer()
        if self.kind == "empty":
            # A refusal stays one: no proxy makes a success of it, and a client could not tell.
            return Answer(self.status or given.status, b"", given.content_type, self.headers)
        if self.kind == "broken_json":
            return Answer(given.status, given.body[: len(given.body) // 2], given.content_type, given.headers)
        return given

    def summary(self) -> dict[str, Any]:
        """The rule and how often it struck."""
        shown = (
            "method",
            "path",
            "contains",
            "times",
            "every",
            "first_of_each_body",
            "first_of_each_request",
            "probability",
            "status",
        )
        given = {name: getattr(self, name) for name in shown if getattr(self, name)}
        return {"kind": self.kind, **given, "matched": self.matched, "fired": self.fired}


def _page(status: int) -> bytes:
    """The kind of body that a proxy in front of Lago answers."""
    return f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n".encode()


class Faults:
    """The rules in force, in the order of their installation."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def pick(self, method: str, path: str, body: bytes, query: bytes = b"") -> tuple[float, Fault | None]:
        """Seconds to wait, and the first fault that strikes."""
        seconds = 0.0
        for rule in tuple(self.rules):
            if rule.kind not in PROVIDER and rule.strikes(method, path, body, query):
                if rule.kind != "slow":
                    return seconds, rule
                seconds += rule.seconds
        return seconds, None

    def of_provider(self, method: str, path: str, body: bytes) -> str | None:
        """The kind of the first fault that strikes when this request makes Lago ask a payment provider."""
        rules = (rule for rule in tuple(self.rules) if rule.kind in PROVIDER)
        return next((rule.kind for rule in rules if rule.strikes(method, path, body)), None)
