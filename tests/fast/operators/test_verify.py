"""``on_duplicate="verify"``: what Lago has already is compared with what the source says."""

import json

import pytest
from support import tasks
from support.deliveries import KEY, usage
from support.states import State

from airflow_provider_lago.exceptions import LagoDeliveryError, LagoFatalDeliveryError, LagoRejectedError
from airflow_provider_lago.hooks.lago import LagoHook
from airflow_provider_lago.operators import LagoIngestEventsOperator
from airflow_provider_lago.sandbox import Sandbox

COUNTS = ("read", "accepted", "duplicate", "rejected")


@pytest.fixture(autouse=True)
def connection(lago_sandbox_connection, monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.wait", lambda *_: 0.01)


@pytest.fixture
def said(caplog, capsys):
    """How often something was logged: the standard library's way, or Airflow 3's, or both."""
    caplog.set_level("INFO")
    return lambda text: max(caplog.text.count(text), capsys.readouterr().out.count(text))


def execute(records, **arguments):
    arguments = {"on_duplicate": "verify", "max_rejected": 1.0, **arguments}
    summary = LagoIngestEventsOperator(task_id="deliver", records=records, **arguments).execute(tasks.context())
    return summary, tuple(summary[name] for name in COUNTS)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("batch_size", [100, 1])
def test_a_rerun_with_the_same_content_is_all_duplicates(lago_sandbox, tmp_path, batch_size):
    execute(usage(50), report_path=tmp_path / "a")
    summary, counts = execute(usage(50), report_path=tmp_path / "b", batch_size=batch_size)
    assert counts == (50, 0, 50, 0)
    assert summary["report"]["conflicts"].endswith("conflicts.jsonl")
    assert lines(tmp_path / "b" / "conflicts.jsonl") == []
    assert summary["requests"] == (1 if batch_size == 100 else 50) + 50


def test_what_was_billed_with_10_and_now_says_12_is_rejected_with_both_sides(lago_sandbox, tmp_path):
    execute(usage(5, properties={"gigabytes": 10}), report_path=tmp_path / "a")
    changed = usage(5, properties={"gigabytes": 10})
    changed[2] = {**changed[2], "properties": {"gigabytes": 12}}
    summary, counts = execute([*changed, *usage(3, first=5)], report_path=tmp_path / "b", receipts=True)
    assert counts == (8, 3, 4, 1)
    assert summary["reasons"] == {"transaction_id: conflict": 1}
    (conflict,) = lines(tmp_path / "b" / "conflicts.jsonl")
    assert (conflict["position"], conflict["id"], conflict["differs"]) == (3, "t2", ["properties.gigabytes"])
    assert conflict["source"]["properties"] == {"gigabytes": 12}
    assert conflict["lago"]["properties"] == {"gigabytes": 10}
    (reject,) = lines(tmp_path / "b" / "rejected.jsonl")
    assert (reject["position"], reject["reason"]) == (3, "transaction_id: conflict")
    assert "properties.gigabytes" in reject["detail"]
    outcomes = {line["position"]: line["outcome"] for line in lines(tmp_path / "b" / "receipts.jsonl")}
    assert outcomes == {
        **dict.fromkeys((1, 2, 4, 5), "duplicate"),
        3: "rejected",
        **dict.fromkeys((6, 7, 8), "accepted"),
    }


def test_records_that_say_the_same_share_the_outcome(lago_sandbox, tmp_path):
    execute(usage(1), report_path=tmp_path / "a")
    _, counts = execute(usage(1, properties={"n": 7}) * 3, report_path=tmp_path / "b")
    assert counts == (3, 0, 0, 3)
    assert [line["position"] for line in lines(tmp_path / "b" / "rejected.jsonl")] == [1, 2, 3]
    assert len(lines(tmp_path / "b" / "conflicts.jsonl")) == 1


def test_an_id_that_another_subscription_has_too_is_compared_with_its_own(lago_sandbox, tmp_path):
    execute(usage(3, external_subscription_id="a"), report_path=tmp_path / "a")
    execute(usage(3, external_subscription_id="b", properties={"n": 9}), report_path=tmp_path / "b")
    _, counts = execute(usage(3, external_subscription_id="b", properties={"n": 9}), report_path=tmp_path / "c")
    assert counts == (3, 0, 3, 0)
    _, counts = execute(usage(3, external_subscription_id="b", properties={"n": 8}), report_path=tmp_path / "d")
    assert counts == (3, 0, 0, 3)


def test_one_that_lago_holds_at_another_time_under_a_shared_id_is_a_conflict_without_its_side(lago_sandbox, tmp_path):
    execute(usage(1, external_subscription_id="a"), report_path=tmp_path / "a")
    execute(usage(1, external_subscription_id="b"), report_path=tmp_path / "b")
    _, counts = execute(usage(1, external_subscription_id="b", timestamp=1_600_000_000), report_path=tmp_path / "c")
    assert counts == (1, 0, 0, 1)
    (conflict,) = lines(tmp_path / "c" / "conflicts.jsonl")
    assert conflict["lago"] is None
    assert "shows none at this time" in lines(tmp_path / "c" / "rejected.jsonl")[0]["detail"]


@pytest.mark.parametrize("identifier", ["a/b", "a.b", "../customers", "ü?&#", "%2e%2e", "..", "x" * 255])
def test_any_id_can_be_looked_up(lago_sandbox, tmp_path, identifier):
    execute(usage(1, transaction_id=identifier), report_path=tmp_path / "a")
    _, counts = execute(usage(1, transaction_id=identifier), report_path=tmp_path / "b")
    assert counts == (1, 0, 1, 0)
    _, counts = execute(usage(1, transaction_id=identifier, properties={"n": 3}), report_path=tmp_path / "c")
    assert counts == (1, 0, 0, 1)


def test_an_event_beyond_all_that_is_looked_through_is_a_conflict_that_says_so(lago_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.delivery.events.auditing._PAGE", 1)
    monkeypatch.setattr("airflow_provider_lago.delivery.events.auditing._MOST_PAGES", 2)
    now = {"timestamp": 1_700_000_000}
    execute(usage(1, transaction_id="t9", external_subscription_id="a", **now), report_path=tmp_path / "a")
    execute(usage(3, external_subscription_id="b", **now), report_path=tmp_path / "b")
    execute(usage(1, transaction_id="t9", external_subscription_id="b", **now), report_path=tmp_path / "c")
    _, counts = execute(usage(1, transaction_id="t9", external_subscription_id="b", **now), report_path=tmp_path / "d")
    assert counts == (1, 0, 0, 1)
    assert "not among the first 2 " in lines(tmp_path / "d" / "rejected.jsonl")[0]["detail"]


def test_a_message_names_some_of_many_differing_fields_and_the_file_all(lago_sandbox, tmp_path):
    execute(usage(1, properties={f"p{n}": 1 for n in range(50)}), report_path=tmp_path / "a")
    execute(usage(1, properties={f"p{n}": 2 for n in range(50)}), report_path=tmp_path / "b")
    assert "properties.p4 and 45 more under" in lines(tmp_path / "b" / "rejected.jsonl")[0]["detail"]
    assert len(lines(tmp_path / "b" / "conflicts.jsonl")[0]["differs"]) == 50


#: What stands in the way of an id in a path: Lago before 1.42, which cuts ids at dots, and a firewall.
IN_THE_WAY = {
    "an old Lago": (404, '{"status":404,"error":"Not Found","code":"resource_not_found"}', "application/json"),
    "a firewall": (403, "<html>blocked</html>", "text/html"),
    "a server that fails at it": (500, "", "text/html"),
}


@pytest.mark.parametrize(("status", "body", "kind"), IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_an_id_that_does_not_get_through_in_a_path_is_found_in_the_list(lago_sandbox, tmp_path, status, body, kind):
    execute(usage(1, transaction_id="a.b.c", external_subscription_id="x"), report_path=tmp_path / "a")
    lago_sandbox.fault("answer", method="GET", path="/events/a.b.c", status=status, body=body, content_type=kind)
    again = usage(1, transaction_id="a.b.c", external_subscription_id="x")
    assert execute(again, report_path=tmp_path / "b")[1] == (1, 0, 1, 0)
    again[0]["properties"] = {"n": 12}
    assert execute(again, report_path=tmp_path / "c")[1] == (1, 0, 0, 1)
    assert lines(tmp_path / "c" / "conflicts.jsonl")[0]["lago"]["properties"] == {"n": 0}


def test_a_list_that_lago_refuses_is_not_taken_for_an_empty_one(lago_sandbox, tmp_path):
    execute(usage(1, transaction_id=".."), report_path=tmp_path / "a")
    body = '{"status":422,"error":"Unprocessable Entity","code":"validation_errors","error_details":{"x":["bad"]}}'
    lago_sandbox.fault("answer", method="GET", path="/events", status=422, body=body, content_type="application/json")
    _, counts = execute(usage(1, transaction_id=".."), report_path=tmp_path / "b")
    assert counts == (1, 0, 0, 1)
    assert "does not list events: Unprocessable Entity" in lines(tmp_path / "b" / "rejected.jsonl")[0]["detail"]


@pytest.mark.parametrize("code", ["sum", "su.m"])
def test_a_property_that_lago_computes_itself_is_no_difference(lago_sandbox, tmp_path, code):
    metric = {"code": code, "name": "s", "aggregation_type": "sum_agg", "field_name": "total"}
    body = {"billable_metric": {**metric, "expression": "event.properties.a * 2"}}
    LagoHook().request("POST", "billable_metrics", json=body)
    records = usage(20, code=code, properties={"a": 4})
    execute(records, report_path=tmp_path / "a")
    assert next(iter(lago_sandbox.events()))["properties"].keys() == {"a", "total"}
    summary, counts = execute(records, report_path=tmp_path / "b", concurrency=1)
    assert counts == (20, 0, 20, 0)
    assert summary["requests"] == 1 + 20 + 1  # the metrics are listed once
    _, counts = execute(usage(20, code=code, properties={"a": 5}), report_path=tmp_path / "c")
    assert counts == (20, 0, 0, 20)


def test_a_property_called_none_is_none_that_lago_computes(lago_sandbox, tmp_path):
    execute(usage(1, properties={"None": 10}), report_path=tmp_path / "a")
    _, counts = execute(usage(1, properties={"None": 12}), report_path=tmp_path / "b")
    assert counts == (1, 0, 0, 1)


@pytest.mark.parametrize("batch_size", [100, 1])
def test_an_event_whose_answer_was_lost_is_looked_at_and_is_no_duplicate(lago_sandbox, tmp_path, batch_size):
    lago_sandbox.fault("lost_response", method="POST", first_of_each_body=True)
    summary, counts = execute(usage(200), report_path=tmp_path / "a", batch_size=batch_size)
    assert counts == (200, 200, 0, 0)
    assert summary["requests"] == 2 * (200 // batch_size) + 200


@pytest.mark.parametrize("batch_size", [100, 1])
def test_a_lost_answer_hides_no_conflict(lago_sandbox, tmp_path, batch_size):
    """The lost answer may have been the one that all of these are duplicates."""
    execute(usage(5, properties={"gigabytes": 10}), report_path=tmp_path / "a")
    lago_sandbox.fault("lost_response", method="POST", first_of_each_body=True)
    _, counts = execute(usage(5, properties={"gigabytes": 12}), report_path=tmp_path / "b", batch_size=batch_size)
    assert counts == (5, 0, 0, 5)
    assert len(lines(tmp_path / "b" / "conflicts.jsonl")) == 5


def test_look_ups_that_fail_now_and_then_are_tried_again(lago_sandbox, tmp_path):
    execute(usage(50), report_path=tmp_path / "a")
    for kind in ("error", "lost_response", "cut_body", "broken_json", "error_after_commit"):
        lago_sandbox.fault(kind, method="GET", probability=0.1)
    lago_sandbox.fault("rate_limit", method="GET", every=20, reset=0)
    _, counts = execute(usage(50), report_path=tmp_path / "b")
    assert counts == (50, 0, 50, 0)


def test_look_ups_that_are_throttled_now_and_then_are_not_throttled_all_the_time(lago_sandbox, tmp_path, monkeypatch):
    execute(usage(20), report_path=tmp_path / "a")
    monkeypatch.setattr("airflow_provider_lago.delivery.courier._PATIENCE", 0.0)
    lago_sandbox.fault("rate_limit", method="GET", every=3, reset=0)
    _, counts = execute(usage(20), report_path=tmp_path / "b")
    assert counts == (20, 0, 20, 0)


def test_look_ups_that_fail_for_good_end_the_delivery_and_drop_nothing(lago_sandbox, tmp_path):
    execute(usage(50), report_path=tmp_path / "a")
    lago_sandbox.fault("error", method="GET", status=503, skip=10)
    with pytest.raises(LagoDeliveryError, match="look up what Lago holds"):
        execute(usage(50), report_path=tmp_path / "b")
    lago_sandbox.clear_faults()
    _, counts = execute(usage(50), report_path=tmp_path / "c")
    assert counts == (50, 0, 50, 0)


@pytest.mark.parametrize("place", ["state store", "file"])
def test_a_retry_goes_on_with_the_conflicts_of_the_try_before(lago_sandbox, tmp_path, place):
    execute(usage(300), report_path=tmp_path / "a")
    changed = [{**record, "properties": {"n": -1}} if n % 10 == 0 else record for n, record in enumerate(usage(300))]
    given = {"task_state_store": State()} if place == "state store" else {}

    def attempt(number):
        operator = LagoIngestEventsOperator(
            task_id="deliver",
            records=changed,
            on_duplicate="verify",
            max_rejected=1.0,
            concurrency=2,
            report_path=tmp_path / "b",
        )
        return operator.execute(tasks.context(given, task_id="deliver", max_tries=3, try_number=number))

    lago_sandbox.fault("error", method="GET", status=503, skip=150)
    with pytest.raises(LagoDeliveryError):
        attempt(1)
    first = [line["position"] for line in lines(tmp_path / "b" / "conflicts.jsonl")]
    assert first
    lago_sandbox.clear_faults()
    summary = attempt(2)
    assert (summary["read"], summary["rejected"]) == (300, 30)
    positions = [line["position"] for line in lines(tmp_path / "b" / "conflicts.jsonl")]
    assert positions[: len(first)] == first
    assert sorted(positions) == list(range(1, 301, 10))


def test_a_key_that_may_not_read_events_ends_the_delivery_with_the_permissions_name(lago_sandbox, tmp_path):
    execute(usage(5), report_path=tmp_path / "a")
    body = json.dumps({"status": 403, "error": "Forbidden", "code": "read_action_not_allowed_for_event"})
    lago_sandbox.fault("answer", method="GET", status=403, body=body, content_type="application/json")
    with pytest.raises(LagoFatalDeliveryError, match="lacks event:read"):
        execute(usage(5), report_path=tmp_path / "b")


def test_a_dry_run_looks_nothing_up(lago_sandbox, tmp_path):
    execute(usage(5), report_path=tmp_path / "a")
    asked = len(lago_sandbox.requests)
    operator = LagoIngestEventsOperator(
        task_id="deliver", records=usage(5, code="d"), on_duplicate="verify", dry_run=True, report_path=tmp_path / "b"
    )
    assert operator.execute(tasks.context())
    assert len(lago_sandbox.requests) == asked
    assert not (tmp_path / "b" / "conflicts.jsonl").exists()


def test_without_a_report_a_conflict_fails_the_task(lago_sandbox):
    execute(usage(2))
    with pytest.raises(LagoRejectedError, match="transaction_id: conflict"):
        execute(usage(2, properties={"n": "other"}))


@pytest.mark.parametrize("batch_size", [100, 1])
def test_a_clickhouse_organization_reports_no_duplicates_to_verify(tmp_path, monkeypatch, said, batch_size):
    with Sandbox(store="clickhouse", api_keys=[KEY]) as server:
        given = {"conn_type": "lago", "host": server.url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(given))
        execute(usage(5), report_path=tmp_path / "a", on_duplicate="accept")
        assert said("ClickHouse") == 0
        summary, counts = execute(usage(5), report_path=tmp_path / "b", batch_size=batch_size)
    assert counts == (5, 5, 0, 0)
    assert summary["requests"] == 5 // min(batch_size, 5)
    assert said("has nothing to compare") == 1


def test_a_postgres_organization_is_not_taken_for_another(lago_sandbox, said):
    execute(usage(5))
    execute(usage(10))  # five of them duplicates
    assert said("nothing to compare") == 0
