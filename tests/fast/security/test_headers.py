"""Nothing that a user, a connection or a record says can add a header or a request of its own."""

import pytest
from support.deliveries import usage
from support.scripted import ScriptedServer, as_json, echo
from support.tasks import context

from airflow_provider_lago.api.wire import WireError, read_headers
from airflow_provider_lago.delivery.transport import Transport
from airflow_provider_lago.exceptions import LagoConnectionError, LagoInputError
from airflow_provider_lago.operators import LagoGenericRequestOperator, LagoIngestEventsOperator

BAD = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0b", "a\r\n\r\nGET /evil HTTP/1.1", "☃", "a\x0bb", "a\x1bb"]
OURS = ["Authorization", "host", "Content-Length", "transfer-encoding", "Connection", "Cookie", "Upgrade", "TE",
        "Expect", "Accept-Encoding", "X-HTTP-Method-Override", "Proxy-Authorization"]  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with ScriptedServer(lambda request: echo(request) if request.body else as_json(200, {})) as made:
        yield made


@pytest.fixture
def arrived(server):
    server.requests.clear()
    return server.requests


@pytest.mark.parametrize("value", BAD)
def test_no_header_value_or_name_with_a_line_break_is_sent(hook_for, connect, server, arrived, value):
    hook = hook_for(server)
    for headers in ({"X-Trace": value}, {f"X-{value}": "1"}):
        with pytest.raises(LagoInputError, match="header"):
            hook.get("plans", headers=headers)
        with pytest.raises(LagoInputError, match="header"):
            LagoGenericRequestOperator(task_id="t", endpoint="plans", method="GET", headers=headers).execute(context())
    assert arrived == []


@pytest.mark.parametrize("name", OURS)
def test_headers_that_steer_the_connection_cannot_be_given(name):
    with pytest.raises(WireError, match=r"cannot be given|another one"):
        read_headers({name: "x"})


@pytest.mark.parametrize("value", BAD)
def test_a_password_with_a_line_break_inside_is_refused_and_not_shown(hook_for, server, arrived, value):
    with pytest.raises(LagoConnectionError, match="password") as caught:
        hook_for(server, password=f"key{value}").get("plans")
    assert value not in str(caught.value)
    assert arrived == []


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("extra", ["region", "timeout", "proxy", "requests_per_second", "ingest_host", "ca_bundle"])
def test_no_extra_of_a_connection_adds_a_header(hook_for, server, arrived, extra, value):
    given = f"https://x{value}" if extra in {"proxy", "ingest_host"} else value
    with pytest.raises(LagoConnectionError) as caught:
        hook_for(server, extra={extra: given}).get("plans")
    assert str(caught.value).isprintable()
    assert arrived == []


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", ["host", "schema"])
def test_no_address_adds_a_header(hook_for, arrived, where, value):
    fields = {"host": "127.0.0.1", where: f"127.0.0.1{value}"}
    with pytest.raises(LagoConnectionError) as caught:
        hook_for(fields.pop("host"), **fields).get("plans")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("extra", ["X-Token", "headers"])
def test_no_header_of_a_webhook_holds_a_line_break(connect, server, arrived, extra, value):
    connect(server)
    connect(server, "hook", "http", password="", extra={extra: {"X-T": value} if extra == "headers" else value})
    with pytest.raises(LagoConnectionError, match="X-T"):
        LagoIngestEventsOperator(task_id="t", records=usage(1), response_webhook_conn_id="hook").execute(context())
    assert arrived == []


@pytest.mark.parametrize("value", BAD[:6])
def test_ids_in_events_travel_in_the_body_alone(connect, server, arrived, value):
    connect(server)
    LagoIngestEventsOperator(
        task_id="t", records=usage(1, transaction_id=f"t{value}".replace("\0", "")), responses_path=None
    ).execute(context())
    (request,) = arrived
    assert "x-evil" not in request.headers
    assert "evil" not in request.path


@pytest.mark.parametrize("value", BAD[:5])
def test_a_user_agent_with_a_line_break_is_not_sent(hook_for, server, arrived, value):
    import asyncio

    async def main():
        async with Transport(hook_for(server).settings, f"agent {value}", 1) as transport:
            return await transport.post(f"{server.url}/api/v1/events", b"{}")

    with pytest.raises(ValueError, match=r"header|character"):
        asyncio.run(main())
    assert arrived == []
