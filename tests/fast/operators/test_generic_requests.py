"""LagoGenericRequestOperator in a task's hands, with the sandbox as Lago; no Airflow database."""

from __future__ import annotations

import json
import logging
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from support import tasks
from support.deliveries import KEY, usage
from support.scripted import CUT, Reply, ScriptedServer, as_json, refused

from airflow_provider_lago import operators
from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.exceptions import (
    LagoDeliveryError,
    LagoFatalDeliveryError,
    LagoInputError,
    LagoRejectedError,
)
from airflow_provider_lago.operators import LagoGenericRequestOperator


def context(**changes):
    return tasks.context({"ds": "2026-11-02"}, **changes)


def operator(**arguments):
    return LagoGenericRequestOperator(task_id="t", **arguments)


def execute(**arguments):
    return operator(**arguments).execute(context())


@pytest.fixture(autouse=True)
def connection(lago_sandbox_connection):
    return lago_sandbox_connection


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: 0.01)


@pytest.fixture
def scripted(monkeypatch):
    servers = []

    def start(answer):
        server = ScriptedServer(answer)
        server.__enter__()
        servers.append(server)
        connection = {"conn_type": "lago", "host": server.url, "password": KEY, "extra": {"timeout": 1}}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(connection))
        return server

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def logged(capfd, caplog):
    """All that was logged so far, by the loggers of either line of Airflow."""
    caplog.set_level(logging.INFO)

    def read():
        printed = capfd.readouterr()
        return caplog.text or printed.out + printed.err

    return read


def customer(lago, external_id="acme"):
    execute(endpoint="customers", root="customer", data={"external_id": external_id, "currency": "EUR"})


WALLET = {"external_customer_id": "acme", "name": "w", "rate_amount": "1", "currency": "EUR", "paid_credits": "10"}


class TestOneRequest:
    def test_the_decoded_answer_is_returned(self, lago_sandbox):
        made = execute(endpoint="billable_metrics", data={"billable_metric": {
            "name": "Calls", "code": "calls", "aggregation_type": "count_agg"}})  # fmt: skip
        assert made["billable_metric"]["code"] == "calls"
        assert execute(method="GET", endpoint="billable_metrics/calls") == made
        assert json.dumps(made)

    def test_a_placeholder_takes_its_value_from_the_data(self, scripted):
        server = scripted(lambda request: as_json(200, {}))
        execute(
            method="PUT",
            endpoint="coupons/{code}",
            root="coupon",
            data={"code": "a/b"},
            exclude=["code"],
            constants={"x": 1},
        )
        assert (server.requests[0].path, server.bodies[0]) == ("/api/v1/coupons/a%2Fb", b'{"coupon":{"x":1}}')

    @pytest.mark.parametrize(
        ("reply", "returned"),
        [
            (Reply(200), None),
            (Reply(200, b" \n"), None),
            (as_json(200, None), None),
            (Reply(200, b"a key\n", {"Content-Type": "text/plain; charset=utf-8"}), "a key\n"),
            (Reply(200, b"12345", {"Content-Type": "text/plain"}), "12345"),
            (as_json(200, {"a": 1}), {"a": 1}),
            (as_json(200, {}), {}),
        ],
    )
    def test_empty_answers_and_texts_are_returned_as_they_are(self, reply, returned, scripted):
        scripted(lambda request: reply)
        assert execute(method="GET", endpoint="webhooks/public_key") == returned

    def test_a_refusal_tells_lagos_words_and_code(self, lago_sandbox):
        metric = {"name": "Calls", "code": "calls", "aggregation_type": "count_agg"}
        execute(endpoint="billable_metrics", root="billable_metric", data=metric)
        with pytest.raises(LagoRejectedError) as caught:
            execute(endpoint="billable_metrics", root="billable_metric", data=metric)
        for part in ("'t'", "POST billable_metrics", "code: value_already_exist", "validation_errors", "HTTP 422"):
            assert part in str(caught.value)
        with pytest.raises(LagoRejectedError, match="customer_not_found"):
            execute(method="GET", endpoint="customers/nobody")
        assert isinstance(caught.value, AirflowFailException)

    def test_what_is_wrong_with_a_value_is_told(self, lago_sandbox):
        with pytest.raises(LagoRejectedError, match="no value in 'external_id'"):
            execute(method="PUT", endpoint="customers/{external_id}", data={})

    @pytest.mark.parametrize("given", ['{"coupon": {"amount": 0.10}}', {"coupon": {"amount": 0.1}}])
    def test_data_may_be_json_text_as_a_template_makes_it(self, given, scripted):
        server = scripted(lambda request: as_json(200, {}))
        execute(endpoint="coupons", data=given)
        assert json.loads(server.bodies[0]) == {"coupon": {"amount": 0.1}}

    def test_text_keeps_every_digit(self, scripted):
        server = scripted(lambda request: as_json(200, {}))
        execute(endpoint="coupons", data='{"amount": 1.10}', extra_body='{"more": 2.000}')
        assert server.bodies == [b'{"more":2.000,"amount":1.10}']

    def test_headers_reach_lago_beside_the_key(self, scripted):
        server = scripted(lambda request: as_json(200, {}))
        execute(method="GET", endpoint="coupons", headers="X-A:1, X-B:2")
        headers = server.requests[0].headers
        assert (headers["x-a"], headers["x-b"], headers["authorization"]) == ("1", "2", f"Bearer {KEY}")

    def test_the_key_is_in_no_error(self, scripted):
        scripted(lambda request: as_json(422, {"status": 422, "error": request.headers["authorization"], "code": KEY}))
        with pytest.raises(LagoRejectedError) as caught:
            execute(endpoint="coupons", data={})
        assert KEY not in str(caught.value)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"endpoint": "https://evil.example/x"}, "not a URL"),
            ({"endpoint": "//evil.example/x"}, "not a URL"),
            ({"endpoint": "coupons/../x"}, "step"),
            ({"endpoint": "coupons?page=1"}, "query"),
            ({"endpoint": ""}, "path such as"),
            ({"endpoint": None}, "path such as"),
            ({"endpoint": "coupons", "method": "BREW"}, "method must be"),
            ({"endpoint": "coupons", "data": "{"}, "data is text"),
            ({"endpoint": "coupons", "data": [1]}, "data must be a dict"),
            ({"endpoint": "coupons", "data": {}, "records": []}, "data is the body"),
            ({"endpoint": "coupons", "method": "GET", "data": {"page": 1}}, "query"),
            ({"endpoint": "coupons/{a}", "method": "DELETE", "records": [{}], "envelope": "x", "confirm": True}, "envelope"),
            ({"endpoint": "coupons", "method": "GET", "records": [{}], "build_request": len}, "build_request"),
            ({"endpoint": "coupons", "extra_body": "x"}, "extra_body is text"),
            ({"endpoint": "coupons", "extra_body": {"coupon": 1}, "root": "coupon"}, "'coupon' is given twice"),
            ({"endpoint": "coupons", "root": "a", "envelope": "b"}, "give one of"),
            ({"endpoint": "coupons", "root": ""}, "root must be"),
            ({"endpoint": "coupons", "build_request": "f"}, "must be a function"),
            ({"endpoint": "coupons", "build_request": len, "extra_body": {"a": 1}}, "extra_body"),
            ({"endpoint": "coupons", "query": {"a": {}}}, "'a'"),
            ({"endpoint": "coupons", "exclude": "a"}, "exclude must be"),
            ({"endpoint": "coupons", "transform": "f"}, "transform must be"),
            ({"endpoint": "coupons", "fields": {"a": "x"}, "constants": {"a": 1}}, "'a' is given twice"),
            ({"endpoint": "coupons", "query": "a=1"}, "query is text"),
            ({"endpoint": "coupons", "headers": {"authorization": "x"}}, "authorization"),
            ({"endpoint": "coupons", "batch_size": 2, "records": [{}]}, "envelope"),
            ({"endpoint": "coupons", "batch_size": 0}, "batch_size"),
            ({"endpoint": "coupons", "group_by": "a", "records": [{}]}, "envelope"),
            ({"endpoint": "coupons", "idempotent": "False"}, "idempotent"),
            ({"endpoint": "wallets", "idempotent": True}, "moves money"),
            ({"endpoint": "coupons/a", "method": "DELETE"}, "confirm=True"),
            ({"endpoint": "invoices/{id}/void", "records": [{"id": 1}]}, "confirm=True"),
            ({"endpoint": "subscriptions/{id}/terminate", "records": [{"id": 1}]}, "confirm=True"),
            ({"endpoint": "coupons/a", "method": "DELETE", "confirm": "maybe"}, "confirm"),
            ({"endpoint": "coupons", "paginate": True}, "method='GET'"),
            ({"endpoint": "coupons", "method": "GET", "paginate": True, "headers": {"a": "b"}}, "headers"),
            ({"endpoint": "coupons", "method": "GET", "paginate": True, "query": {"page": 2}}, "page"),
            ({"endpoint": "coupons", "method": "GET", "paginate": True, "limit": 0}, "limit"),
            ({"endpoint": "//x", "method": "GET", "paginate": True}, "not a URL"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_meant_fails_before_anything_is_sent(self, arguments, told, lago_sandbox):
        with pytest.raises(LagoInputError) as caught:
            execute(**arguments)
        assert told in str(caught.value)
        assert lago_sandbox.requests == []

    @pytest.mark.parametrize(
        "name", ["LagoUpsertCustomerOperator", "LagoCreateSubscriptionOperator", "LagoTerminateSubscriptionOperator"]
    )
    @pytest.mark.parametrize(
        "wrong", [{"exclude": "a"}, {"transform": "f"}, {"fields": {"nothing_that_lago_has": "x"}}]
    )
    def test_what_no_other_try_heals_is_not_retried_by_its_siblings_either(self, name, wrong, lago_sandbox):
        with pytest.raises(LagoInputError):
            getattr(operators, name)(task_id="t", records=[{"external_id": "a"}], **wrong).execute(context())

    def test_default_arguments_reach_it(self):
        from airflow.providers.common.compat.sdk import DAG

        with DAG("d", schedule=None, default_args={"lago_conn_id": "other", "report_path": "/r", "concurrency": 2}):
            needs = {"LagoGenericRequestOperator": {"endpoint": "coupons"}}
            for name in (name for name in operators.__all__ if name != "LagoExtractOperator"):
                made = getattr(operators, name)(task_id=name, **needs.get(name, {}))
                assert (made.lago_conn_id, made.report_path, made.concurrency) == ("other", "/r", 2), name


class TestRecords:
    def test_each_record_is_a_request(self, lago_sandbox, tmp_path):
        codes = [{"name": code, "code": code, "rate": 20} for code in ("a", "b", "c")]
        summary = execute(endpoint="taxes", root="tax", records=codes, report_path=str(tmp_path), receipts=True)
        assert (summary["read"], summary["accepted"], summary["requests"]) == (3, 3, 3)
        listed = execute(method="GET", endpoint="taxes", paginate=True)
        assert {tax["code"] for tax in listed} == {"a", "b", "c"}
        receipts = [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_text().splitlines()]
        assert {(line["position"], line["id"], bool(line["lago_id"])) for line in receipts} == {
            (1, "a", True), (2, "b", True), (3, "c", True)}  # fmt: skip

    def test_records_change_read_and_delete_by_their_ids(self, lago_sandbox):
        ids = [{"external_id": name, "name": name.upper()} for name in ("a", "b/c", "d e")]
        assert execute(endpoint="customers", root="customer", records=ids)["accepted"] == 3
        gone = execute(method="DELETE", endpoint="customers/{external_id}", records=ids, confirm=True)
        assert gone["accepted"] == 3
        assert lago_sandbox.customers() == []

    def test_groups_share_a_request_of_a_hundred_by_default(self, scripted):
        server = scripted(lambda request: as_json(200, {}))
        records = [{"account": n % 2, "n": n} for n in range(250)]
        summary = execute(
            endpoint="things", envelope="things", extra_body={"k": 1}, records=records, group_by="account"
        )
        assert summary["accepted"] == 250
        assert sorted(len(json.loads(body)["things"]) for body in server.bodies) == [25, 25, 100, 100]

    def test_the_function_for_bodies_is_called_with_payloads(self, scripted):
        server = scripted(lambda request: as_json(200, {}))
        records = [{"n": n, "skip": 1} for n in range(5)]
        execute(
            endpoint="things",
            build_request=lambda payloads: {"all": [payload["n"] for payload in payloads]},
            records=records,
            exclude=["skip"],
        )
        assert [json.loads(body) for body in server.bodies] == [{"all": [0, 1, 2, 3, 4]}]

    def test_a_limit_holds(self, lago_sandbox):
        records = [{"name": str(n), "code": str(n), "rate": 1} for n in range(10)]
        assert execute(endpoint="taxes", root="tax", records=records, limit="3")["read"] == 3
        assert len(execute(method="GET", endpoint="taxes", paginate=True)) == 3

    @pytest.mark.parametrize("endpoint", ["events", "/api/v1/events/batch"])
    def test_events_under_an_envelope_are_warned_of(self, endpoint, lago_sandbox, logged):
        execute(endpoint=endpoint, envelope="events", records=usage(3), dry_run=True)
        assert "LagoIngestEventsOperator" in logged()

    def test_other_endpoints_and_single_events_are_not(self, lago_sandbox, logged):
        execute(endpoint="events", root="event", records=usage(2))
        assert "LagoIngestEventsOperator" not in logged()

    def test_events_whose_answer_was_lost_are_stored_once(self, lago_sandbox):
        lago_sandbox.fault("lost_response", path="/api/v1/events/batch", times=2)
        summary = execute(endpoint="events/batch", envelope="events", records=usage(250), concurrency=1)
        assert lago_sandbox.count() == 250
        assert (summary["accepted"] + summary["duplicate"], summary["rejected"]) == (250, 0)

    def test_a_dry_run_sends_nothing_and_shows_what_is_then_sent(self, scripted, tmp_path):
        server = scripted(lambda request: as_json(200, {}))
        arguments = {
            "endpoint": "coupons/{id}",
            "method": "PUT",
            "root": "coupon",
            "records": [{"id": "a/b", "amount": 1.5, "name": "Zoë"}, {"id": "c"}],
            "query": {"q": "{id}"},
            "headers": "X-A:1",
            "report_path": str(tmp_path),
            "concurrency": 1,
        }
        shown = execute(**arguments, dry_run=True)
        assert server.requests == []
        assert shown["dry_run"] is True
        lines = [json.loads(line) for line in (tmp_path / "preview.jsonl").read_text().splitlines()]
        assert lines == shown["preview"]
        assert KEY not in json.dumps(shown)
        execute(**arguments)
        sent = [(r.method, server.url + r.path, r.body.decode()) for r in server.requests]
        assert [(line["method"], line["url"], line["body"]) for line in lines] == sent
        assert all(line["headers"].items() <= {"X-A": "1"}.items() for line in lines)

    def test_a_dry_run_needs_no_confirmation(self, lago_sandbox):
        shown = execute(method="DELETE", endpoint="wallets/{id}", records=[{"id": "w"}], dry_run=True)
        assert shown["preview"][0]["url"].endswith("/api/v1/wallets/w")
        assert lago_sandbox.requests == []


class TestMoney:
    @pytest.mark.parametrize("fault", ["lost_response", "error_after_commit", "cut_body", "broken_json"])
    def test_there_is_exactly_one_wallet_and_its_answer_is_reported_as_lost(self, fault, lago_sandbox, tmp_path):
        customer(lago_sandbox)
        lago_sandbox.fault(fault, path="/api/v1/wallets", method="POST", times=1)
        with pytest.raises(LagoRejectedError, match="answer lost") as caught:
            execute(endpoint="wallets", root="wallet", records=[WALLET], report_path=str(tmp_path))
        assert "rejected.jsonl" in str(caught.value)
        assert len(lago_sandbox.wallets()) == 1
        (rejected,) = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
        assert rejected["reason"].startswith("answer lost")

    def test_a_timeout_makes_one_wallet(self, lago_sandbox, monkeypatch):
        customer(lago_sandbox)
        connection = {**json.loads(lago_sandbox.connection_json), "extra": {"timeout": 1}}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(connection))
        lago_sandbox.fault("slow", path="/api/v1/wallets", seconds=1.5, times=1)
        with pytest.raises(LagoRejectedError, match="answer lost"):
            execute(endpoint="wallets", root="wallet", data=WALLET)
        sent = [request for request in lago_sandbox.requests if request.path.endswith("/wallets")]
        assert len(sent) <= 1

    def test_the_one_request_says_what_may_have_been_done(self, lago_sandbox):
        customer(lago_sandbox)
        lago_sandbox.fault("lost_response", path="/api/v1/wallets", times=1)
        with pytest.raises(LagoRejectedError, match=r"POST wallets: answer lost.*look in Lago first"):
            execute(endpoint="wallets", root="wallet", data=WALLET)
        assert len(lago_sandbox.wallets()) == 1

    def test_what_lago_did_not_take_is_sent_again(self, lago_sandbox):
        customer(lago_sandbox)
        lago_sandbox.fault("rate_limit", path="/api/v1/wallets", times=2)
        locked = {"status": 422, "error": "Unprocessable Entity", "code": "lock_acquisition_failed"}
        lago_sandbox.fault(
            "answer",
            path="/api/v1/wallets",
            times=2,
            status=422,
            body=json.dumps(locked),
            content_type="application/json",
        )
        assert execute(endpoint="wallets", root="wallet", data=WALLET)["wallet"]["status"] == "active"
        assert len(lago_sandbox.wallets()) == 1

    def test_many_wallets_through_many_faults_are_each_there_once(self, lago_sandbox, tmp_path):
        customer(lago_sandbox)
        for every, kind in ((13, "lost_response"), (16, "error_after_commit"), (5, "rate_limit"), (22, "reset")):
            lago_sandbox.fault(kind, path="/api/v1/wallets", every=every)
        records = [{**WALLET, "name": f"w{n}"} for n in range(60)]
        summary = execute(
            endpoint="wallets",
            root="wallet",
            records=records,
            report_path=str(tmp_path),
            max_rejected=60,
            receipts=True,
        )
        names = [wallet["name"] for wallet in lago_sandbox.wallets()]
        assert len(names) == len(set(names))
        assert summary["accepted"] <= len(names)
        assert summary["accepted"] + summary["rejected"] == 60
        rejected = {
            json.loads(line)["record"]["name"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()
        }
        assert {f"w{n}" for n in range(60)} - set(names) <= rejected, "what is not there is among the rejected"

    @pytest.mark.parametrize("once", [True, False])
    def test_a_server_that_is_down_fails_the_task_and_says_what_is_known(self, once, monkeypatch):
        with ScriptedServer(lambda request: CUT) as server:
            pass
        connection = {"conn_type": "lago", "host": server.url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(connection))
        endpoint = "wallets" if once else "plans"
        with pytest.raises(LagoDeliveryError) as caught:
            execute(endpoint=endpoint, records=[{"id": 1}])
        assert isinstance(caught.value, AirflowFailException) is once
        assert ("moves money" if once else "sends all records again") in str(caught.value)

    @pytest.mark.parametrize(
        ("tries", "most", "retries", "refused"),
        [
            (1, 0, 0, False),
            (1, 2, 2, False),
            (2, 2, 2, True),
            (3, 2, 2, True),
            (3, 4, 2, False),  # cleared after the second try
            (4, 4, 2, True),
            (2, 1, 0, False),  # cleared, without retries
            (2, 3, 0, True),  # the DAG's retries were taken away meanwhile
            (2, 0, 0, True),  # cleared while it ran
            (None, None, 0, False),
        ],
    )
    def test_another_try_by_airflow_is_refused_and_one_after_clearing_is_not(
        self, tries, most, retries, refused, lago_sandbox
    ):
        customer(lago_sandbox)
        task = operator(endpoint="wallets", root="wallet", data=WALLET, retries=retries)
        expected = pytest.raises(LagoFatalDeliveryError, match="clear the task") if refused else nullcontext()
        with expected:
            task.execute(context(try_number=tries, max_tries=most))
        assert len(lago_sandbox.wallets()) == (0 if refused else 1)

    def test_a_try_of_what_moves_no_money_is_not_refused(self, lago_sandbox):
        task = operator(endpoint="taxes", root="tax", data={"name": "a", "code": "a", "rate": 1}, retries=2)
        assert task.execute(context(try_number=2, max_tries=2))["tax"]["code"] == "a"


class TestChecksAndFilters:
    def test_they_get_a_response_and_the_context(self, lago_sandbox):
        customer(lago_sandbox)
        seen = {}

        def check(response, ds, ti):
            seen.update(
                code=response.status_code, ok=response.ok, ds=ds, try_number=ti.try_number, url=response.url,
                text=response.text, kind=response.headers["Content-Type"], reason=response.reason, content=response.content,
            )  # fmt: skip
            response.raise_for_status()
            return response.json()["customer"]["external_id"] == "acme"

        name = execute(
            method="GET",
            endpoint="customers/acme",
            query={"a": "b"},
            response_check=check,
            response_filter=lambda response, **kwargs: response.json()["customer"]["external_id"] + kwargs["ds"],
        )
        assert name == "acme2026-11-02"
        assert (seen["code"], seen["ok"], seen["ds"], seen["try_number"], seen["reason"]) == (
            200,
            True,
            "2026-11-02",
            1,
            "OK",
        )
        assert seen["url"] == f"{lago_sandbox.url}/api/v1/customers/acme?a=b"
        assert seen["text"].encode() == seen["content"]
        assert seen["kind"].startswith("application/json")

    def test_false_rejects_the_one_request(self, lago_sandbox):
        customer(lago_sandbox)
        with pytest.raises(LagoRejectedError, match=r"response_check returned False.*Lago did what it was asked for"):
            execute(method="GET", endpoint="customers/acme", response_check=lambda response: False)

    def test_false_rejects_a_record_and_no_other(self, lago_sandbox, tmp_path):
        records = [{"name": name, "code": name, "rate": 1} for name in "abc"]
        summary = execute(
            endpoint="taxes",
            root="tax",
            records=records,
            response_check=lambda response: response.json()["tax"]["code"] != "b",
            max_rejected=1,
            report_path=str(tmp_path),
        )
        assert (summary["accepted"], summary["rejected"]) == (2, 1)
        (line,) = (tmp_path / "rejected.jsonl").read_text().splitlines()
        assert json.loads(line)["record"]["code"] == "b"

    @pytest.mark.parametrize("where", ["response_check", "response_filter"])
    def test_they_may_skip_the_task(self, where, lago_sandbox):
        customer(lago_sandbox)

        def skip(response):
            raise AirflowSkipException("nothing to do")

        with pytest.raises(AirflowSkipException):
            execute(method="GET", endpoint="customers/acme", **{where: skip})

    @pytest.mark.parametrize("where", ["response_check", "response_filter"])
    def test_their_own_errors_fail_the_task_without_another_try(self, where, lago_sandbox):
        customer(lago_sandbox)
        with pytest.raises(LagoRejectedError, match=r"Lago did what it was asked for.*KeyError"):
            execute(method="GET", endpoint="customers/acme", **{where: lambda response: response.json()["nothing"]})

    def test_a_filter_that_fails_loses_no_answer_and_does_not_fill_the_log(self, lago_sandbox, tmp_path, logged):
        records = [{"name": str(n), "code": str(n), "rate": 1} for n in range(20)]
        file = tmp_path / "answers.jsonl"
        summary = execute(
            endpoint="taxes",
            root="tax",
            records=records,
            response_filter=lambda response: 1 / 0,
            responses_path=str(file),
        )
        assert summary["accepted"] == 20
        assert all("tax" in json.loads(line)["body"] for line in file.read_text().splitlines())
        assert logged().count("response_filter failed") == 5


class TestPages:
    @pytest.fixture(autouse=True)
    def _taxes(self, lago_sandbox):
        execute(
            endpoint="taxes",
            root="tax",
            records=[{"name": str(n), "code": str(n), "rate": 1} for n in range(150)],
            concurrency=1,
        )

    def test_the_items_of_all_pages_are_returned(self):
        assert len(execute(method="GET", endpoint="taxes", paginate=True)) == 150

    def test_a_limit_and_a_filter_hold(self, lago_sandbox):
        def codes(items, ds):
            return [item["code"] for item in items], ds

        before = len(lago_sandbox.requests)
        found, ds = execute(method="get", endpoint="taxes", paginate=True, limit=7, response_filter=codes)
        assert (len(found), ds) == (7, "2026-11-02")
        assert len(lago_sandbox.requests) - before == 1

    def test_they_are_written_to_a_file_one_a_line_each_mapped_task_its_own(self, tmp_path):
        for map_index, folder in ((-1, tmp_path), (3, tmp_path / "3")):
            task = operator(method="GET", endpoint="taxes", paginate=True, responses_path=str(tmp_path / "taxes.jsonl"))
            told = task.execute(context(map_index=map_index))
            assert told == {"items": 150, "path": str(folder / "taxes.jsonl")}
            lines = (folder / "taxes.jsonl").read_text().splitlines()
            assert len({json.loads(line)["code"] for line in lines}) == 150

    def test_a_path_that_cannot_be_written_is_an_input_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path, tmp_path / "file" / "x.jsonl", "s3://bucket/x.jsonl"):
            with pytest.raises(LagoInputError, match="responses_path"):
                execute(method="GET", endpoint="taxes", paginate=True, responses_path=str(path))

    def test_a_dry_run_sends_nothing(self, lago_sandbox):
        before = len(lago_sandbox.requests)
        shown = execute(method="GET", endpoint="taxes", paginate=True, query={"search_term": "a b"}, dry_run=True)
        assert shown["preview"][0]["url"].endswith("/taxes?search_term=a%20b&page=1&per_page=100")
        assert len(lago_sandbox.requests) == before


def test_a_refusal_of_the_key_is_not_retried(scripted):
    scripted(lambda request: as_json(401, {"status": 401, "error": "Unauthorized"}))
    with pytest.raises(LagoFatalDeliveryError, match="401"):
        execute(endpoint="coupons", data={"coupon": {}})


def test_lago_words_about_a_group_reject_its_records(scripted):
    scripted(lambda request: refused({"name": ["value_is_mandatory"]}))
    with pytest.raises(LagoRejectedError, match="name: value_is_mandatory"):
        execute(endpoint="things", envelope="things", records=[{"a": 1}, {"a": 2}])


@pytest.mark.parametrize("page", ["requests", "responses"])
def test_the_documents_examples_are_operators(page):
    text = (Path(__file__).resolve().parents[3] / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {name: getattr(operators, name) for name in operators.__all__})


def test_the_documents_example_of_an_answer_is_one(lago_sandbox, tmp_path):
    text = (Path(__file__).resolve().parents[3] / "docs" / "responses.md").read_text(encoding="utf-8")
    shown = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    path = tmp_path / "a.jsonl"
    execute(endpoint="customers", root="customer", records=[{"external_id": "acme"}], responses_path=str(path))
    written = json.loads(path.read_text())
    assert list(written) == list(shown)
    assert {**written, "at": "", "body": "", "request_id": ""} == {**shown, "at": "", "body": "", "request_id": ""}


@pytest.mark.parametrize("nothing", [{"records": None}, {"files": None}, {"records": None, "files": None}])
def test_a_task_that_returned_nothing_is_no_word_for_one_request(nothing, lago_sandbox):
    """``records=that_task.output`` is None where the task returned nothing: no wallet must come of it."""
    constants = {"external_customer_id": "acme", "name": "w", "rate_amount": "1", "currency": "EUR"}
    with pytest.raises(LagoInputError, match="an upstream task may have returned None"):
        execute(endpoint="wallets", root="wallet", constants=constants, **nothing)
    assert lago_sandbox.requests == []


@pytest.mark.parametrize(("method", "endpoint"), [("DELETE", "taxes/{code}"), ("POST", "taxes")])
def test_what_a_lost_answer_hid_is_no_refusal(method, endpoint, lago_sandbox):
    """With idempotent=True it is sent again, and the second answer says that it is gone, or there, already."""
    if method == "DELETE":
        lago_sandbox.add_tax("vat")
    lago_sandbox.fault("lost_response", method=method, times=1)
    record = {"name": "VAT", "code": "vat", "rate": "20"}
    body = {} if method == "DELETE" else {"root": "tax"}
    summary = execute(
        endpoint=endpoint, method=method, records=[record], idempotent=True, confirm=method == "DELETE", **body
    )
    assert (summary["accepted"], summary["rejected"]) == (1, 0)


def test_headers_that_are_secrets_are_not_shown_in_a_dry_run(lago_sandbox):
    shown = execute(endpoint="plans", data={}, dry_run=True, headers={"X-Gateway-Token": "hush", "X-Trace": "7"})
    assert shown["preview"][0]["headers"] == {"X-Gateway-Token": "***", "X-Trace": "7"}
