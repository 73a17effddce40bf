"""The onboarding example: a rerun changes nothing in Lago, byte for byte, whatever got lost on the way."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from support.airflow_runs import run

PATH = Path(__file__).resolve().parents[2] / "example_dags" / "onboarding.py"
TASKS = ("customers", "subscriptions", "events")


@pytest.fixture
def lago(lago_sandbox, lago_sandbox_connection, monkeypatch):
    """A Lago with the metric and the plans that the example asks for; retries are quick."""
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.wait", lambda *_: 0.01)
    lago_sandbox.add_metric("gigabytes", "sum_agg", field_name="gigabytes")
    lago_sandbox.add_plan("starter", metrics=["gigabytes"])
    lago_sandbox.add_plan("business", metrics=["gigabytes"], amount_cents=10_000)
    return lago_sandbox


@pytest.fixture
def onboard(monkeypatch):
    """Run the DAG of "onboarding.py" and return what its tasks returned."""
    spec = importlib.util.spec_from_file_location("loaded_onboarding", PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "loaded_onboarding", module)
    spec.loader.exec_module(module)

    def once():
        outcome = run(module.onboarding())
        assert outcome.state == "success"
        return {task: outcome.returned(task) for task in TASKS}

    return once


def counts(summary, *names):
    return tuple(summary[name] for name in names)


def check_first(summaries, lago):
    assert counts(summaries["customers"], "read", "created", "updated", "skipped", "rejected") == (3, 2, 0, 1, 0)
    assert counts(summaries["subscriptions"], "read", "created", "unchanged", "rejected") == (3, 3, 0, 0)
    assert counts(summaries["events"], "read", "accepted", "duplicate", "rejected") == (72, 72, 0, 0)
    state = lago.state()
    assert counts(state, "customers", "subscriptions", "events") == (2, 3, 72)


def check_second(summaries):
    assert counts(summaries["customers"], "accepted", "skipped") == (0, 3)
    assert counts(summaries["subscriptions"], "created", "unchanged") == (0, 3)
    # Where the first answer was lost, nobody can tell who stored the events.
    assert sum(counts(summaries["events"], "accepted", "duplicate")) == 72


def test_a_rerun_changes_nothing_byte_for_byte(lago, onboard):
    check_first(onboard(), lago)
    before = lago.dump()
    summaries = onboard()
    check_second(summaries)
    assert summaries["events"]["duplicate"] == 72
    assert lago.dump() == before


def test_a_rerun_changes_nothing_also_when_every_first_answer_is_lost(lago, onboard):
    rule = lago.fault("lost_response", first_of_each_request=True)
    check_first(onboard(), lago)
    assert rule.fired >= (2 + 2) + (3 + 2 + 3) + 1  # look-ups and posts
    before = lago.dump()
    lago.clear_faults()
    rule = lago.fault("lost_response", first_of_each_request=True)
    check_second(onboard())
    assert rule.fired >= 2 + 3 + 1
    assert lago.dump() == before


def test_lago_holds_what_the_contracts_say(lago, onboard):
    onboard()
    acme = lago.call("GET", "/customers/acme")["customer"]
    assert (acme["name"], acme["email"], acme["currency"]) == ("Acme Ltd", "billing@acme.example", "EUR")
    assert acme["billing_configuration"]["document_locale"] == "en"
    assert [(row["key"], row["value"]) for row in acme["metadata"]] == [("tier", "gold")]
    berlin = lago.call("GET", "/subscriptions/acme-berlin")["subscription"]
    assert (berlin["plan_code"], berlin["external_customer_id"], berlin["status"]) == ("business", "acme", "active")
    assert berlin["started_at"].startswith("2026-11-01")
