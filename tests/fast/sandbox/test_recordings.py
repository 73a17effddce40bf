"""Every recorded answer of a real Lago server, asked again of the sandbox, in the same order."""

from __future__ import annotations

import http.client
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_lago.sandbox import Sandbox

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "recordings.jsonl"
KEY = "11111111-2222-4333-8444-555555555555"

# number of the recording -> why the sandbox answers otherwise. One that does not deviate fails the test.
STATUS_DEVIATIONS: dict[int, str] = {}
BODY_DEVIATIONS: dict[int, str] = {}

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4,5}-\d\d-\d\dT[\d:.]+Z")


def normalized(value: Any) -> Any:
    """Ids and times apart, everything is compared."""
    if isinstance(value, dict):
        return {key: normalized(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normalized(item) for item in value]
    if isinstance(value, str) and UUID.fullmatch(value):
        return "<id>"
    if isinstance(value, str) and TIME.fullmatch(value):
        return "<time>"
    return value


def pair_ids(recorded: Any, answered: Any, ids: dict[str, str]) -> None:
    """Learn which of our ids stands for which recorded one."""
    if isinstance(recorded, dict) and isinstance(answered, dict):
        for key, value in recorded.items():
            pair_ids(value, answered.get(key), ids)
    elif isinstance(recorded, list) and isinstance(answered, list):
        for left, right in zip(recorded, answered, strict=False):
            pair_ids(left, right, ids)
    elif isinstance(recorded, str) and isinstance(answered, str) and UUID.fullmatch(recorded):
        ids[recorded] = answered


def times_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        # Of these, only the moment of the request itself tells what time it was.
        names = ("created_at", "updated_at", "started_at", "terminated_at", "canceled_at")
        own = [value[name] for name in names if isinstance(value.get(name), str)]
        if "transaction_id" in value and isinstance(value.get("timestamp"), str):
            own.append(value["timestamp"])
        return own + [time for item in value.values() for time in times_in(item)]
    if isinstance(value, list):
        return [time for item in value for time in times_in(item)]
    return []


def moments(rows: list[dict[str, Any]]) -> dict[int, float]:
    """When each request was recorded, as far as the answers tell; never running backwards."""
    latest, found = 0.0, {}
    for row in rows:
        stamps = [
            datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
            for text in times_in(row["response"]["body"])
            if text.startswith("2026-11-22")
        ]
        # Explicit timestamps in a request say nothing; everything later than the request was recorded then.
        latest = max([latest, *stamps])
        found[row["n"]] = latest
    return found


def deviations() -> tuple[set[int], set[int], dict[int, str]]:
    rows = sorted((json.loads(line) for line in RECORDINGS.open()), key=lambda row: row["n"])
    clock = moments(rows)
    now = [0.0]
    ids: dict[str, str] = {}
    statuses, bodies, shown = set(), set(), dict[int, str]()
    with Sandbox(clock=lambda: now[0]) as sandbox:
        client = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=20)
        etags: dict[str, str] = {}
        for row in rows:
            now[0] = clock[row["n"]]
            request, expected = row["request"], row["response"]
            answer, body = ask(client, request, ids, etags)
            pair_ids(expected["body"], body, ids)
            if answer.getheader("etag") and request["method"] == "GET" and expected["status"] == 200:
                etags["latest"] = answer.getheader("etag") or ""
            if answer.status != expected["status"]:
                statuses.add(row["n"])
            elif (normalized(body), answer.getheader("content-type")) != (
                normalized(expected["body"]),
                expected["content_type"],
            ):
                bodies.add(row["n"])
            if row["n"] in statuses | bodies:
                shown[row["n"]] = f"{row['name']}: {answer.status} {json.dumps(body)}"
        client.close()
    return statuses, bodies, shown


def ask(
    client: http.client.HTTPConnection, request: dict[str, Any], ids: dict[str, str], etags: dict[str, str]
) -> tuple[http.client.HTTPResponse, Any]:
    def here(text: str) -> str:
        for theirs, ours in ids.items():
            text = text.replace(theirs, ours)
        return text

    headers = {name: value.replace("Bearer KEY", f"Bearer {KEY}") for name, value in request["headers"].items()}
    if "If-None-Match" in headers:
        # The recorded tag is the hash of a body with other ids in it: the one of the read before stands for it.
        headers["If-None-Match"] = etags["latest"]
    data = request.get("raw_body")
    if data is None and request["body"] is not None:
        data = here(json.dumps(request["body"]))
    client.request(request["method"], here(request["path"]), body=data, headers=headers)
    answer = client.getresponse()
    text = answer.read()
    try:
        return answer, json.loads(text)
    except ValueError:
        return answer, None


@pytest.fixture(scope="module")
def found() -> tuple[set[int], set[int], dict[int, str]]:
    return deviations()


def test_every_recorded_status_but_the_listed_ones(found):
    statuses, _, shown = found
    assert statuses == set(STATUS_DEVIATIONS), shown


def test_every_recorded_body_but_the_listed_ones(found):
    _, bodies, shown = found
    assert bodies == set(BODY_DEVIATIONS), shown


def test_all_recordings_are_replayed():
    assert len(RECORDINGS.read_text().splitlines()) == 163


def test_the_listed_deviations_are_recordings():
    numbers = {json.loads(line)["n"] for line in RECORDINGS.open()}
    assert numbers >= STATUS_DEVIATIONS.keys() | BODY_DEVIATIONS.keys()
