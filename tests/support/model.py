"""Lago's rules for events, of both stores, in memory: for tests that run thousands of deliveries."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.failures import Cause, Failure

JSON = {"content-type": "application/json; charset=utf-8"}
DUPLICATE = {"transaction_id": ["value_already_exist"]}

#: Code of events that Lago refuses, and a text that makes something before Lago refuse the whole request.
REFUSED, POISON = "refused", "poison"


class ModelLago:
    """
    A transport whose other end is Lago.

    :param store: ``postgres`` or ``clickhouse``.
    :param poison: Status that a poisonous request gets.
    """

    def __init__(self, store: str, poison: int = 500) -> None:
        self.store = store
        self.poison = poison
        self.misfortunes: deque[str] = deque()
        self.rows: Counter[tuple[Any, ...]] = Counter()
        #: Batches that Lago's users must never send: they hold one id twice.
        self.unlawful: list[list[str]] = []
        self.requests = 0

    async def post(self, url: str, body: bytes) -> Answer | Failure:
        self.requests += 1
        decoded = json.loads(body)
        single = "event" in decoded
        events = [decoded["event"]] if single else decoded["events"]
        ids = [event["transaction_id"] for event in events]
        if len(set(ids)) != len(ids):
            self.unlawful.append(ids)
        misfortune = self.misfortunes.popleft() if self.misfortunes else ""
        if POISON.encode() in body:
            return Answer(self.poison, {"content-type": "text/html"}, b"<html>no</html>")
        match misfortune:
            case "refused connection":
                return Failure(Cause.REFUSED, "refused the connection")
            case "reset":
                return Failure(Cause.BROKEN, "broke")
            case "500" | "502" | "503":
                return Answer(int(misfortune), {"content-type": "text/html"}, b"<html>")
            case "another's 200":
                return Answer(200, JSON, b'"ok"')
            case "200 for none":
                return Answer(200, JSON, b'{"events":[]}')
            case "429":
                return Answer(429, {"content-type": "text/plain"}, b"Too Many Requests\n")
        answer = self._take(events, single=single)
        match misfortune:
            case "lost answer":
                return Failure(Cause.READ_TIMEOUT, "no answer in time")
            case "502 after commit":
                return Answer(502, {"content-type": "text/html"}, b"<html>")
            case "cut":
                return Answer(answer.status, JSON, answer.body[: len(answer.body) // 2])
            case "no body":
                return Answer(answer.status, JSON, b"")
        return answer

    def _take(self, events: list[dict[str, Any]], *, single: bool) -> Answer:
        refused = {
            str(n): "expression_evaluation_failed: Variable: b not found"
            for n, event in enumerate(events)
            if event["code"] == REFUSED
        }
        if refused:
            return _refusal(next(iter(refused.values())) if single else refused)
        if self.store == "postgres":
            known = {str(n): DUPLICATE for n in self._known(events)}
            if known:
                return _refusal(DUPLICATE if single else known)
        self.rows.update(map(self.identity, events))
        echo = [{**event, "lago_id": None} for event in events]
        return Answer(200, JSON, json.dumps({"event": echo[0]} if single else {"events": echo}).encode())

    def _known(self, events: list[dict[str, Any]]) -> Iterable[int]:
        seen: set[str] = set()
        for n, event in enumerate(events):
            if event["transaction_id"] in seen or self.identity(event) in self.rows:
                yield n
            seen.add(event["transaction_id"])

    def identity(self, event: dict[str, Any]) -> tuple[Any, ...]:
        """What the store takes for one event."""
        name = event["external_subscription_id"], event["transaction_id"]
        return name if self.store == "postgres" else (*name, event["code"], event["timestamp"])


def _refusal(details: Any) -> Answer:
    body = {"status": 422, "error": "Unprocessable Entity", "code": "validation_errors", "error_details": details}
    return Answer(422, JSON, json.dumps(body).encode())
