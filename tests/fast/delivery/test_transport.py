"""The wire of a delivery: what is sent, how often, and to whom."""

import asyncio

import pytest
from support.deliveries import connection
from support.scripted import CUT, ScriptedServer, as_json

from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.failures import Failure
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
