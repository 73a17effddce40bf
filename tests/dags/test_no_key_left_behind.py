"""Runs DAGs with every log switched to DEBUG against servers that echo the key, then looks for it in all they left."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import logging
import os
import sqlite3
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import task
from support.airflow_runs import new_dag, run
from support.deliveries import usage
from support.scripted import CUT, Reply, ScriptedServer, as_json, echo, refused

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.hooks.lago import LagoHook
from airflow_provider_lago.operators import (
    LagoCreateSubscriptionOperator,
    LagoExtractOperator,
    LagoGenericRequestOperator,
    LagoIngestEventsOperator,
    LagoTerminateSubscriptionOperator,
    LagoUpsertCustomerOperator,
)

#: None of them is a secret that anybody else uses, so each place where one is found is this test's.
KEY = "7b1e5c3a-9d42-4f68-b0a7-ec53d81f2964"
WEBHOOK_PASSWORD = "pw~webhook/Zq8+5d"
PROXY_PASSWORD = "pr0xy-Xw93kdLm"


def forms(secret):
    """The secret in the usual encodings, also inside of longer base64."""
    yield from (secret, secret.upper(), secret.lower(), secret.swapcase(), secret[::-1], quote(secret, safe=""))
    yield "".join(f"%{byte:02X}" for byte in secret.encode())
    yield secret.encode().hex()
    for before in range(3):
        inner = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        yield inner[4 if before else 0 : -4]


NEEDLES = {
    name: [form.encode() for form in set(forms(secret))]
    for name, secret in (("key", KEY), ("webhook", WEBHOOK_PASSWORD), ("proxy", PROXY_PASSWORD))
}


def found_in(data):
    return [(name, form) for name, needles in NEEDLES.items() for form in needles if form in data]


def echoing(status, request):
    """What a debugging proxy answers: all that it was sent, wherever a text may stand."""
    seen = request.headers.get("authorization", "")
    coded = base64.b64encode(seen.encode()).decode()
    body = {"status": status, "error": f"You sent {seen}", "code": seen, "error_details": {seen: [seen, coded]}}
    return as_json(
        status,
        body,
        **{
            "X-Request-Id": seen,
            "X-Echo": coded,
            "Location": f"https://{KEY}.example.com/{KEY}?{quote(seen)}",
            "Retry-After": seen,
            "x-ratelimit-reset": seen,
            "WWW-Authenticate": seen,
            "Set-Cookie": f"k={KEY}",
        },
    )


class Lago:
    """Behaves differently under each prefix of the connection's address."""

    def __init__(self):
        self.asked = 0

    def __call__(self, request):
        self.asked += 1
        mode = request.path.split("/")[1]
        if mode == "ok":
            return self._fine(request)
        if mode == "cut":
            return CUT
        if mode == "page":
            return Reply(
                200, f"<title>{request.headers['authorization']}</title>".encode(), {"Content-Type": "text/html"}
            )
        return echoing(int(mode), request)

    def _fine(self, request):
        seen = {"X-Request-Id": request.headers["authorization"]}
        if request.method == "GET":
            item = {"lago_id": f"l{self.asked}", "code": KEY, "seen": request.headers["authorization"]}
            return as_json(200, {"plans": [item], "meta": {"next_page": None, "total_count": 1}}, **seen)
        if "/events" in request.path:
            if any("bad" in event["transaction_id"] for event in request.events):
                indexes = {str(n): {KEY: [KEY]} for n, e in enumerate(request.events) if "bad" in e["transaction_id"]}
                return refused(indexes)
            return Reply(200, echo(request).body, {"Content-Type": "application/json", **seen})
        return as_json(200, {"plan": {"lago_id": "1", "seen": request.headers["authorization"]}}, **seen)


@pytest.fixture
def lago():
    answer = Lago()
    with ScriptedServer(answer) as server:
        yield server


@pytest.fixture
def webhook():
    statuses = iter([200, 500, 404, 200, 400] * 1_000)
    with ScriptedServer(lambda request: echoing(next(statuses), request)) as server:
        yield server


@pytest.fixture
def loud(tmp_path, monkeypatch):
    """Switch on everything that could say too much; yield the file that gets what all loggers say."""
    everything = tmp_path / "everything.log"
    handler = logging.FileHandler(everything)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    levels = {
        name: logging.getLogger(name).level for name in ("", "urllib3", "aiohttp", "asyncio", "airflow", "requests")
    }
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(handler)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 2)
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: 0.01)
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "DEBUG")
    yield everything
    root.removeHandler(handler)
    handler.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def connect(monkeypatch, conn_id, host, conn_type="lago", password=KEY, **fields):
    connection = {"conn_type": conn_type, "host": host, "password": password, **fields}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
    return conn_id


def tasks_of(conn_id, folder, *, all_kinds):
    """Tasks over one connection."""
    events = [*usage(5), *usage(1, transaction_id="bad"), {"transaction_id": "no subscription", "code": "c"}]
    evidence = {"lago_conn_id": conn_id, "retries": 0, "max_rejected": 100}
    LagoIngestEventsOperator(
        task_id=f"{conn_id}_events",
        records=events,
        report_path=str(folder / conn_id / "events"),
        receipts=True,
        responses_path=str(folder / conn_id / "responses.jsonl"),
        response_webhook_conn_id="hook",
        response_webhook_path="/in?token=" + WEBHOOK_PASSWORD.replace("+", "%2B"),
        **evidence,
    )
    LagoGenericRequestOperator(
        task_id=f"{conn_id}_request",
        endpoint="plans",
        data={"plan": {"code": "c"}},
        report_path=str(folder / conn_id / "request"),
        response_filter=lambda response: response.json(),
        **evidence,
    )

    @task(task_id=f"{conn_id}_hook", retries=0)
    def by_hand():
        with LagoHook(conn_id, retry_limit=2, retry_delay=0.01) as hook:
            print(hook, hook.settings, hook.get_conn(), hook.get_conn().auth, vars(hook))
            logging.getLogger("mine").debug("%r %s", hook.settings, hook.test_connection())
            return [hook.get("plans"), list(hook.paginate("plans"))]

    by_hand()
    if not all_kinds:
        return
    LagoIngestEventsOperator(
        task_id=f"{conn_id}_dry", records=events, dry_run=True, report_path=str(folder / conn_id / "dry"), **evidence
    )
    LagoUpsertCustomerOperator(
        task_id=f"{conn_id}_customers",
        records=[{"external_id": "a", "name": "A"}],
        report_path=str(folder / conn_id / "customers"),
        receipts=True,
        **evidence,
    )
    LagoCreateSubscriptionOperator(
        task_id=f"{conn_id}_subscriptions",
        records=[{"external_id": "s", "external_customer_id": "a", "plan_code": "p"}],
        report_path=str(folder / conn_id / "subscriptions"),
        **evidence,
    )
    LagoTerminateSubscriptionOperator(
        task_id=f"{conn_id}_end",
        records=[{"external_id": "s"}],
        report_path=str(folder / conn_id / "end"),
        **evidence,
    )
    LagoExtractOperator(
        task_id=f"{conn_id}_extract",
        endpoint="plans",
        path=str(folder / conn_id / "extract"),
        lago_conn_id=conn_id,
        retries=0,
    )


def leftovers(*folders):
    """Every file below some folders, databases and packed files unpacked."""
    for folder in folders:
        for path in Path(folder).rglob("*"):
            if path.is_file() and "airflow.cfg" not in path.name:
                data = path.read_bytes()
                yield path, gzip.decompress(data) if path.suffix == ".gz" else data


def tables(database):
    """Every value of a database, as text: pages of the file may hold half of one."""
    with sqlite3.connect(database) as connection:
        connection.text_factory = bytes
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{name.decode()}"'):
                for value in row:
                    yield name.decode(), value if isinstance(value, bytes) else str(value).encode()


def test_the_key_is_in_nothing_that_runs_leave_behind(lago, webhook, loud, tmp_path, monkeypatch, capfd):
    connect(monkeypatch, "hook", webhook.url, "http", WEBHOOK_PASSWORD, login="me", extra={"X-Token": WEBHOOK_PASSWORD})
    modes = ["ok", "401", "307", "422", "503", "cut", "page"]
    for mode in modes:
        connect(monkeypatch, f"m{mode}", f"{lago.url}/{mode}", extra={"timeout": 3})
    connect(monkeypatch, "mclosed", "http://127.0.0.1:9")
    with ScriptedServer(lambda request: echoing(502, request)) as proxy:
        through = proxy.url.replace("//", f"//me:{PROXY_PASSWORD}@")
        connect(monkeypatch, "mproxy", "http://lago.internal", extra={"proxy": through})
        connect(monkeypatch, "mtunnel", "https://lago.internal", extra={"proxy": through})
        connect(monkeypatch, "mwrong", "http://lago.internal", password=f" {KEY} {KEY}")
        conn_ids = [*(f"m{mode}" for mode in modes), "mclosed", "mproxy", "mtunnel", "mwrong"]
        with new_dag() as dag:
            for conn_id in conn_ids:
                tasks_of(conn_id, tmp_path / "out", all_kinds=conn_id in {"mok", "m401"})
        outcome = run(dag)
        assert proxy.requests
    states = {ti.task_id: outcome.state_of(ti.task_id) for ti in outcome.run.get_task_instances()}
    fine = {f"mok_{name}" for name in ("events", "dry", "request", "hook", "extract")}
    assert fine <= {name for name, state in states.items() if state == "success"}
    assert "failed" in states.values()
    printed = capfd.readouterr()
    places = {"stdout": printed.out.encode(), "stderr": printed.err.encode()}
    places |= {str(path): data for path, data in leftovers(tmp_path, os.environ["AIRFLOW_HOME"])}
    assert "DEBUG" in loud.read_text()
    assert any(path.endswith("rejected.jsonl") for path in places)
    assert any(path.endswith("receipts.jsonl") for path in places)
    assert any(path.endswith("preview.jsonl") for path in places)
    assert any(path.endswith("unforwarded.jsonl") for path in places)
    assert any("part" in path for path in places)
    database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    places |= {f"table {name} {n}": value for n, (name, value) in enumerate(tables(database))}
    assert sum("***" in str(data) for data in places.values()) > 5  # the echoes came, and were taken out
    leaks = {place: found_in(data) for place, data in places.items() if found_in(data)}
    for place, found in leaks.items():
        at = places[place].find(found[0][1])
        print(place, found, places[place][max(0, at - 300) : at + 120], file=sys.stderr)
    assert not leaks
