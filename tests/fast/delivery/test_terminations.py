"""The end of subscriptions in a sandbox that behaves like Lago, over real HTTP."""

import pytest
from support.calls import methods, terminate
from support.deliveries import KEY
from support.scripted import ScriptedServer, as_json, refused

from airflow_provider_lago.sandbox import Sandbox

NOT_FOUND = as_json(404, {"status": 404, "error": "Not Found", "code": "subscription_not_found"})


@pytest.fixture
def sandbox():
    with Sandbox(api_keys=[KEY]) as server:
        server.add_plan("arrears", amount_cents=100)
        server.add_plan("advance", amount_cents=100, pay_in_advance=True)
        server.add_customer("acme")
        yield server


def status(sandbox, external_id):
    return [row["status"] for row in sandbox.subscriptions() if row["external_id"] == external_id]


@pytest.mark.parametrize("external_id", ["s1", "a/b", "é ü", "100%", "a?b=c", "a#b"])
def test_an_active_one_is_terminated_and_then_skipped(sandbox, tmp_path, external_id):
    sandbox.add_subscription(external_id, "acme", "arrears")
    run = terminate(sandbox, [{"external_id": external_id}], tmp_path)
    assert run.kinds == {"terminated": 1}
    assert run.receipts[1]["status"] == "terminated"
    run = terminate(sandbox, [{"external_id": external_id}], tmp_path)
    assert run.counts == (1, 0, 0, 1)
    assert run.receipts[1]["reason"] == "already terminated"


def test_a_pending_one_is_canceled_where_that_is_asked_for_and_hinted_at_where_not(sandbox, tmp_path):
    sandbox.add_subscription("s1", "acme", "arrears", status="pending")
    run = terminate(sandbox, [{"external_id": "s1"}], tmp_path)
    assert run.counts == (1, 0, 1, 0)
    assert "status='pending'" in run.rejected[0]["detail"]
    assert terminate(sandbox, [{"external_id": "s1", "status": "pending"}], tmp_path).kinds == {"canceled": 1}
    assert terminate(sandbox, [{"external_id": "s1"}], tmp_path, status="pending").counts == (1, 0, 0, 1)


def test_options_of_the_operator_hold_where_the_record_says_nothing(sandbox, tmp_path):
    for name in ("s1", "s2"):
        sandbox.add_subscription(name, "acme", "advance")
    records = [{"external_id": "s1"}, {"external_id": "s2", "on_termination_credit_note": "refund"}]
    terminate(sandbox, records, tmp_path, on_termination_credit_note="skip", on_termination_invoice="skip")
    ended = {row["external_id"]: row for row in sandbox.subscriptions()}
    assert [ended[name]["on_termination_credit_note"] for name in ("s1", "s2")] == ["skip", "refund"]
    assert [ended[name]["on_termination_invoice"] for name in ("s1", "s2")] == ["skip", "skip"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"external_id": "a.b"}, "end subscription 'a' instead"),
        ({"external_id": "s1", "on_termination_invoice": "maybe"}, "generate, skip"),
        ({"external_id": "s1", "status": "Pending"}, "active, pending"),
        ({"external_id": "s1", "reason": "x"}, "'reason'"),
        ({"external_id": None}, "external_id"),
    ],
)
def test_what_would_end_something_else_or_nothing_is_refused_before_it_is_sent(sandbox, tmp_path, record, says):
    sandbox.add_subscription("a", "acme", "arrears")
    run = terminate(sandbox, [record], tmp_path)
    assert run.counts == (1, 0, 1, 0)
    assert says in run.rejected[0]["detail"]
    assert methods(sandbox) == {}
    assert status(sandbox, "a") == ["active"]


def test_one_that_never_was_is_rejected(sandbox, tmp_path):
    assert terminate(sandbox, [{"external_id": "none"}], tmp_path).reasons == {"subscription_not_found": 1}


@pytest.mark.parametrize("fault", ["lost_response", "error_after_commit", "cut_body", "broken_json", "empty"])
def test_a_lost_answer_still_counts_as_terminated(sandbox, tmp_path, fault):
    for n in range(5):
        sandbox.add_subscription(f"s{n}", "acme", "arrears")
    sandbox.fault(fault, method="DELETE", every=2)
    run = terminate(sandbox, [{"external_id": f"s{n}"} for n in range(5)], tmp_path)
    assert run.kinds == {"terminated": 5}


def test_one_that_ended_long_ago_is_skipped_even_if_the_first_answer_was_lost(tmp_path):
    calls = []

    def answer(request):
        calls.append(request.method)
        if request.method == "DELETE":
            return as_json(502, {}) if calls.count("DELETE") == 1 else NOT_FOUND
        ended = {"external_id": "s1", "status": "terminated", "terminated_at": "2020-01-01T00:00:00Z"}
        return as_json(200, {"subscription": ended})

    with ScriptedServer(answer) as server:
        run = terminate(server, [{"external_id": "s1"}], tmp_path)
    assert run.counts == (1, 0, 0, 1)


def test_an_end_that_fails_with_500_each_time_is_rejected_only_if_the_subscription_goes_on(tmp_path):
    def answer(request):
        if "/good" in request.path:
            return as_json(200, {"subscription": {"external_id": "good", "status": "terminated"}})
        if request.method == "DELETE":
            return as_json(500, {"status": 500, "error": "Internal Server Error"})
        if "/done" in request.path and "status=active" in request.path:
            return NOT_FOUND
        name = request.path.split("?")[0].rsplit("/", 1)[1]
        return as_json(200, {"subscription": {"external_id": name, "status": "x"}})

    records = [{"external_id": name} for name in ("done", "stays", *[f"good{n}" for n in range(8)])]
    with ScriptedServer(answer) as server:
        run = terminate(server, records, tmp_path, concurrency=3)
    assert run.outcome(1) == ("accepted", "terminated")
    assert run.outcome(2)[0] == "rejected"
    assert run.counts == (10, 9, 1, 0)


def test_lagos_own_refusals_are_told_in_its_words(tmp_path):
    with ScriptedServer(lambda request: refused({"base": ["next_subscription_incomplete"]})) as server:
        run = terminate(server, [{"external_id": "s1"}], tmp_path)
    assert run.reasons == {"base: next_subscription_incomplete": 1}
