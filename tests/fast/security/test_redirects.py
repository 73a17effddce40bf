"""The key goes to the address of the connection and nowhere else, whatever a server or a proxy answers."""

import contextlib
import itertools

import pytest
from support.deliveries import KEY, usage
from support.scripted import Reply, ScriptedServer, as_json, echo
from support.tasks import context
from support.wire import BOTH

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.exceptions import LagoException, LagoFatalApiError, LagoFatalDeliveryError
from airflow_provider_lago.operators import (
    LagoCreateSubscriptionOperator,
    LagoExtractOperator,
    LagoGenericRequestOperator,
    LagoIngestEventsOperator,
    LagoTerminateSubscriptionOperator,
    LagoUpsertCustomerOperator,
)

STATUSES = [300, 301, 302, 303, 305, 307, 308]
BEARER = f"Bearer {KEY}"


@pytest.fixture(scope="module")
def other():
    """The other origin: it would take anything."""
    with ScriptedServer(lambda request: as_json(200, {"plans": [], "organization": {"lago_id": "1"}})) as server:
        yield server


@contextlib.contextmanager
def redirecting(other, status=307, path="/api/v1/taken"):
    """A server that sends every caller to another one; fails if anybody goes there."""
    before = len(other.requests)
    reply = Reply(status, b"", {"Location": other.url + path, "Refresh": f"0; url={other.url}"})
    with ScriptedServer(lambda request: reply) as server:
        yield server
    assert server.requests
    assert other.requests[before:] == []


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("exchange", BOTH)
def test_no_call_follows_a_redirect(hook_for, other, exchange, method, status):
    call = Call(method, "taken", body=b"{}" if method[0] == "P" else None)
    with redirecting(other, status) as server:
        answer = exchange(hook_for(server), call)
    assert isinstance(answer, Answer)
    assert answer.status == status
    assert [request.headers["authorization"] for request in server.requests] == [BEARER]


@pytest.mark.parametrize("status", STATUSES)
def test_neither_the_session_nor_a_list_nor_the_connection_test_follows_one(hook_for, other, status):
    with redirecting(other, status) as server:
        hook = hook_for(server)
        assert hook.get_conn().get(f"{server.url}/api/v1/plans", allow_redirects=True).status_code == status
        with pytest.raises(LagoFatalApiError, match="redirects are not followed"):
            list(hook.paginate("plans"))
        works, said = hook.test_connection()
        assert not works
        assert other.url in said
    assert len(server.requests) == 3


OPERATORS = {
    "events": lambda folder: LagoIngestEventsOperator(task_id="t", records=usage(250)),
    "single events": lambda folder: LagoIngestEventsOperator(task_id="t", records=usage(3), batch_size=1),
    "customers": lambda folder: LagoUpsertCustomerOperator(task_id="t", records=[{"external_id": "a", "name": "A"}]),
    "subscriptions": lambda folder: LagoCreateSubscriptionOperator(
        task_id="t", records=[{"external_id": "s", "external_customer_id": "a", "plan_code": "p"}]
    ),
    "terminations": lambda folder: LagoTerminateSubscriptionOperator(task_id="t", records=[{"external_id": "s"}]),
    "any endpoint": lambda folder: LagoGenericRequestOperator(
        task_id="t", endpoint="plans", root="plan", records=[{"code": "c"}]
    ),
    "one request": lambda folder: LagoGenericRequestOperator(task_id="t", endpoint="plans", method="GET"),
    "extraction": lambda folder: LagoExtractOperator(task_id="t", endpoint="plans", path=str(folder / "out")),
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("name", OPERATORS)
def test_no_operator_follows_a_redirect(connect, other, tmp_path, name, status):
    with redirecting(other, status) as server:
        connect(server)
        with pytest.raises(LagoException, match="redirect"):
            OPERATORS[name](tmp_path).execute(context())


def test_a_redirect_in_the_midst_of_a_delivery_ends_it_and_takes_nothing_along(connect, other):
    count = itertools.count()
    redirect = Reply(308, b"", {"Location": f"{other.url}/api/v1/events/batch"})
    before = len(other.requests)
    with ScriptedServer(lambda request: as_json(200, {"events": []}) if next(count) < 2 else redirect) as server:
        connect(server)
        with pytest.raises(LagoFatalDeliveryError, match=other.url):
            LagoIngestEventsOperator(task_id="t", records=usage(1_000), concurrency=1).execute(context())
    assert len(server.requests) == 3
    assert other.requests[before:] == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_ingest_service_is_not_followed_either(connect, other, status):
    with redirecting(other, status) as ingest, ScriptedServer(lambda request: as_json(200, {})) as api:
        connect(api, extra={"ingest_host": ingest.url})
        with pytest.raises(LagoFatalDeliveryError, match="redirect"):
            LagoIngestEventsOperator(task_id="t", records=usage(3), batch_size=1).execute(context())
        assert {request.path for request in ingest.requests} == {"/api/v1/events"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_webhook_is_not_followed_and_gets_its_own_credentials_only(connect, other, status):
    with (
        ScriptedServer(echo) as lago,
        redirecting(other, status) as webhook,
    ):
        connect(lago)
        connect(webhook, "hook", "http", login="me", password="pw-of-webhook", extra={"X-Token": "token-of-webhook"})
        summary = LagoIngestEventsOperator(
            task_id="t", records=usage(3), batch_size=1, response_webhook_conn_id="hook"
        ).execute(context())
    assert summary["accepted"] == summary["responses"]["not_forwarded"] == 3
    for request in webhook.requests:
        assert KEY not in str(request)
        assert request.headers["x-token"] == "token-of-webhook"
    for request in lago.requests:
        assert request.headers["authorization"] == BEARER
        assert "x-token" not in request.headers


@pytest.mark.parametrize("exchange", BOTH)
def test_a_redirect_over_a_proxy_is_not_followed(hook_for, other, exchange):
    with redirecting(other) as proxy:
        hook = hook_for("http://lago.internal", extra={"proxy": proxy.url})
        answer = exchange(hook)
    assert answer.status == 307
    assert [request.path for request in proxy.requests] == ["http://lago.internal/api/v1/plans"]


@pytest.mark.parametrize("status", [200, 302, 307, 407, 502])
@pytest.mark.parametrize("exchange", BOTH)
def test_a_proxy_on_the_way_to_https_never_sees_the_key(hook_for, other, exchange, status):
    before = len(other.requests)
    refusal = Reply(status, b"", {"Location": other.url, "Connection": "close"}, cut_after=None)
    with ScriptedServer(lambda request: refusal) as proxy:
        address = proxy.url.replace("//", "//user:proxy-secret@")
        result = exchange(hook_for("https://lago.example.com", extra={"proxy": address, "timeout": 2}))
    assert isinstance(result, Failure)
    assert {request.method for request in proxy.requests} == {"CONNECT"}
    for request in proxy.requests:
        assert "authorization" not in request.headers
        assert KEY not in str(request)
    assert "proxy-secret" not in result.message
    assert other.requests[before:] == []


def test_the_session_gives_the_key_to_no_other_port_scheme_or_name_of_the_same_machine(hook_for, other):
    with ScriptedServer(lambda request: as_json(200, {})) as server:
        session = hook_for(server).get_conn()
        session.get(f"{server.url}/api/v1/plans")
        session.get(f"{other.url}/api/v1/plans")
        session.get(f"{server.url.replace('127.0.0.1', 'localhost')}/api/v1/plans")
    assert [request.headers.get("authorization") for request in server.requests] == [BEARER, None]
    assert "authorization" not in other.requests[-1].headers
