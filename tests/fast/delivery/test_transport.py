"""The wire of a delivery: what is sent, how often, and to whom."""

import asyncio
import ssl
from dataclasses import replace

import pytest
from support.deliveries import connection
from support.scripted import CUT, Reply, ScriptedServer, as_json

from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.connection import ConnectionSettingsError
from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.delivery.client import tls_context
from airflow_provider_lago.delivery.transport import Transport


def send(server, *calls):
    async def main():
        async with Transport(connection(server.url), "test", 2) as transport:
            return [await transport.send(call) for call in calls]

    return asyncio.run(main())


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("reused", [False, True])
def test_a_request_whose_answer_is_cut_is_never_sent_again_unseen(method, reused):
    """aiohttp repeats some methods by itself; a wallet that is deleted or topped up twice is money."""

    def answer(request):
        return as_json(200, {}) if request.path.endswith("/first") else CUT

    calls = [Call("GET", "first")] if reused else []
    with ScriptedServer(answer) as server:
        *_, result = send(server, *calls, Call(method, "wallets/w", body=b"{}" if method[0] == "P" else None))
        assert [request.method for request in server.requests[len(calls) :]] == [method]
    assert isinstance(result, Failure)
    assert not result.never_arrived


def test_what_is_percent_encoded_stays_so_on_its_way():
    with ScriptedServer(lambda request: as_json(200, {})) as server:
        send(server, Call("GET", "customers/a%2Fb%3F%25%20%C3%A9", (("external_id", "x/y z&a=b+%41é"),)))
    assert server.requests[0].path == (
        "/api/v1/customers/a%2Fb%3F%25%20%C3%A9?external_id=x%2Fy%20z%26a%3Db%2B%2541%C3%A9"
    )


def test_headers_of_a_call_go_out_beside_the_key():
    with ScriptedServer(lambda request: as_json(200, {})) as server:
        send(server, Call("POST", "plans", body=b"{}", headers={"X-Trace": "7"}))
    headers = server.requests[0].headers
    assert headers["x-trace"] == "7"
    assert headers["authorization"].startswith("Bearer ")
    assert headers["content-type"] == "application/json"


def test_the_key_that_a_proxy_echoes_is_blotted_out_of_a_success_too():
    """Answers go into files, webhooks and XComs."""
    with ScriptedServer(lambda request: as_json(200, {"seen": request.headers["authorization"]})) as server:
        (answer,) = send(server, Call("GET", "plans"))
    assert answer.json() == {"seen": "Bearer ***"}


def test_a_key_in_another_form_is_blotted_out_of_whatever_is_no_answer_to_events_that_were_taken():
    """A success of events comes by the thousand a second, and is looked through for the key as it is alone."""

    def answer(request):
        key = request.headers["authorization"].removeprefix("Bearer ")
        return as_json(201 if request.path.endswith("/other") else 200, {"seen": key.upper(), "as it is": key})

    async def post_both(url):
        async with Transport(replace(connection(url), api_key="abc-def-ghi"), "test", 2) as transport:
            return [(await transport.post(f"{url}/{name}", b"{}")).json() for name in ("events", "other")]

    with ScriptedServer(answer) as server:
        taken, other = asyncio.run(post_both(server.url))
        assert send(server, Call("GET", "events"))[0].json()["seen"] == "***"
    assert taken == {"seen": "ABC-DEF-GHI", "as it is": "***"}
    assert other == {"seen": "***", "as it is": "***"}


def test_a_whole_exchange_may_take_as_long_as_connecting_and_two_silences():
    async def limits():
        settings = replace(connection("http://lago"), connect_timeout=3.0, read_timeout=20.0)
        async with Transport(settings, "test", 2) as transport:
            return transport._session.timeout

    timeout = asyncio.run(limits())
    assert (timeout.total, timeout.sock_connect, timeout.sock_read) == (43.0, 3.0, 20.0)


def test_nothing_is_sent_through_a_transport_that_is_not_open():
    with pytest.raises(RuntimeError, match="not open"):
        asyncio.run(Transport(connection("http://lago"), "test", 1).post("http://lago", b""))


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bundle_that_holds_no_certificate_is_told_with_the_connection(tmp_path, content):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(ConnectionSettingsError, match=r"'billing'.*bundle\.pem"):
        tls_context("billing", str(bundle))


def test_a_folder_of_certificates_is_trusted_and_nothing_beside_it(tmp_path):
    context = tls_context("billing", str(tmp_path))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509_ca"] == 0


def test_certificates_are_checked_unless_the_connection_says_otherwise():
    assert tls_context("billing", False) is False
    context = tls_context("billing", True)
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 50


def test_what_a_server_wants_to_be_remembered_is_not():
    with ScriptedServer(lambda request: as_json(200, {}, **{"Set-Cookie": "session=1"})) as server:
        server.host = "localhost"  # nothing is remembered of a mere address in any case
        send(server, Call("GET", "first"), Call("GET", "second"))
    assert "cookie" not in server.requests[1].headers


def test_no_more_connections_are_open_than_asked_for():
    async def main():
        async with Transport(connection(server.url), "test", 3) as transport:
            await asyncio.gather(*(transport.send(Call("GET", "x")) for _ in range(12)))

    with ScriptedServer(lambda request: Reply(200, b"{}", delay=0.02)) as server:
        asyncio.run(main())
    assert server.most_at_once == 3
