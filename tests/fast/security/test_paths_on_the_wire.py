"""Values of records in the URL: what arrives at a server is the resource that was meant, or nothing at all."""

import json
from urllib.parse import unquote

import pytest
from support.scripted import ScriptedServer, as_json
from support.tasks import context
from support.wire import BOTH

from airflow_provider_lago.api.calls import build_call
from airflow_provider_lago.api.paths import PathError, path
from airflow_provider_lago.exceptions import LagoApiError, LagoException, LagoInputError
from airflow_provider_lago.operators import (
    LagoCreateSubscriptionOperator,
    LagoGenericRequestOperator,
    LagoTerminateSubscriptionOperator,
    LagoUpsertCustomerOperator,
)

HOSTILE = [
    "../invoices/x/void",
    "..",
    ".",
    "a/../../invoices/x/void",
    "/../x",
    "%2e%2e",
    "%2e%2e%2finvoices%2fx%2fvoid",
    "%252e%252e%252f",
    "a.b",
    "a/b",
    "a//b",
    "/a",
    "a/",
    "//evil.example.com/x",
    "https://evil.example.com/x",
    "@evil.example.com",
    ":80/x",
    "..;/x",
    "a/..;x=1/b",
    ";x=1",
    "..\\x",
    "a\\b",
    "\\\\evil\\x",
    "\uff0e\uff0e\uff0fx",
    "\u2024\u2024\u2215x",
    "\u2025/x",
    "\u002e\u0338",
    "a\u202eb",
    "a\0b",
    "a\nb",
    "a\r\nGET /x HTTP/1.1\r\nHost: evil\r\n\r\n",
    "a\tb",
    "a\x7fb",
    "a\x85b",
    " a ",
    "a b",
    "a+b",
    "a?b=c",
    "a#b",
    "a&b=c",
    "a%",
    "a%zz",
    "a%00b",
    "a%0d%0ab",
    "*",
    "~",
    "'\"<>`{|}^",
    "{external_id}",
    "\ud800",
    "é",
    "😀",
    "x" * 5_000,
    "",
    " ",
]


def held(request):
    """The segments of a request line below ``/api/v1``, as a server decodes them."""
    target, _, _ = request.path.partition("?")
    assert target.isascii()
    assert target.startswith("/api/v1/")
    return [unquote(segment, errors="strict") for segment in target.removeprefix("/api/v1/").split("/")]


@pytest.fixture(scope="module")
def server():
    with ScriptedServer(lambda request: as_json(404, {"status": 404, "code": "customer_not_found"})) as made:
        yield made


@pytest.fixture
def arrived(server):
    server.requests.clear()
    return server.requests


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
@pytest.mark.parametrize("exchange", BOTH)
def test_a_value_is_one_segment_or_is_refused(hook_for, server, arrived, exchange, method, value):
    try:
        call = build_call(method, path("customers", value, "wallets"), json={} if method == "PUT" else None)
    except PathError as error:
        told = str(error)
    else:
        exchange(hook_for(server), call)
        assert [held(request) for request in arrived] == [["customers", value, "wallets"]]
        return
    assert told.isprintable()
    assert arrived == []


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("exchange", BOTH)
def test_an_event_is_read_by_its_whole_id_or_not_at_all(hook_for, server, arrived, exchange, value):
    try:
        call = build_call("GET", path("events", value))
    except PathError:
        return
    exchange(hook_for(server), call)
    assert [held(request) for request in arrived] == [["events", value]]


@pytest.mark.parametrize("value", HOSTILE)
def test_an_endpoint_written_by_hand_arrives_below_its_resource_or_not_at_all(hook_for, server, arrived, value):
    with pytest.raises((LagoInputError, LagoApiError)) as caught:
        hook_for(server).get(f"customers/{value}/wallets")
    assert str(caught.value).isprintable()
    assert bool(arrived) == isinstance(caught.value, LagoApiError)
    for request in arrived:
        segments = held(request)
        assert segments[0] == "customers"
        assert segments[-1] == "wallets"
        assert not {"", ".", ".."} & set(segments)


def deliver(operator):
    """Run an operator to its end, whatever that is."""
    try:
        operator.execute(context())
    except LagoException as error:
        return str(error)
    return ""


@pytest.mark.parametrize("value", HOSTILE)
def test_a_template_of_an_endpoint_leads_to_its_resource_or_rejects_the_record(
    connect, server, arrived, tmp_path, value
):
    connect(server)
    operator = LagoGenericRequestOperator(
        task_id="t",
        endpoint="customers/{id}/metadata",
        method="PUT",
        records=[{"id": value, "name": "n"}],
        report_path=str(tmp_path),
    )
    deliver(operator)
    assert all(held(request) == ["customers", value, "metadata"] for request in arrived)
    (rejected,) = map(json.loads, (tmp_path / "rejected.jsonl").read_bytes().splitlines())
    assert rejected["reason"]
    assert bool(arrived) == (rejected["code"] is not None)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    ("kind", "record", "resource"),
    [
        (LagoUpsertCustomerOperator, {"external_id": None, "name": "n"}, "customers"),
        (
            LagoCreateSubscriptionOperator,
            {"external_id": None, "external_customer_id": "c", "plan_code": "p"},
            "subscriptions",
        ),
        (LagoTerminateSubscriptionOperator, {"external_id": None}, "subscriptions"),
    ],
    ids=["customer", "subscription", "termination"],
)
def test_no_operator_looks_up_or_ends_another_object(connect, server, arrived, kind, record, resource, value):
    connect(server)
    deliver(kind(task_id="t", records=[{**record, "external_id": value}]))
    for request in arrived:
        segments = held(request)
        assert segments in ([resource], [resource, value])
        if segments == [resource] and request.method == "GET":
            assert "external_id=" in request.path
        if request.method == "DELETE":
            assert segments == [resource, value]
