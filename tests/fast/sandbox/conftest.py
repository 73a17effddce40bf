"""An HTTP client as plain as possible, and a sandbox of its own for each test."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_lago.sandbox import Sandbox


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    text: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def details(self) -> Any:
        return self.json["error_details"]


class Client:
    def __init__(self, sandbox: Sandbox, key: str | None = None) -> None:
        self.sandbox = sandbox
        self.key = key or sandbox.api_key

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        connection = http.client.HTTPConnection(self.sandbox.host, self.sandbox.port, timeout=10)
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        full = path if path.startswith(("/_sandbox", "/health", "/api")) or path == "/" else f"/api/v1{path}"
        try:
            connection.request(method, full, body=data, headers=sent)
            answer = connection.getresponse()
            return Answered(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answered:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answered:
        return self.ask("POST", path, body, **headers)

    def event(self, **fields: Any) -> Answered:
        given = {"transaction_id": "t1", "code": "calls", "external_subscription_id": "s1", "timestamp": 1700000000}
        return self.post("/events", {"event": {**given, **fields}})

    def batch(self, *items: Any) -> Answered:
        return self.post("/events/batch", {"events": list(items)})


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Sandbox]]:
    with Sandbox() as postgres, Sandbox(store="clickhouse") as clickhouse:
        yield {"postgres": postgres, "clickhouse": clickhouse}


@pytest.fixture
def sandbox(servers: dict[str, Sandbox]) -> Sandbox:
    servers["postgres"].reset()
    return servers["postgres"]


@pytest.fixture
def lago(sandbox: Sandbox) -> Client:
    return Client(sandbox)


@pytest.fixture
def clickhouse(servers: dict[str, Sandbox]) -> Client:
    servers["clickhouse"].reset()
    return Client(servers["clickhouse"])
