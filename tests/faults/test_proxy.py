"""The proxy does what its faults say, and a delivery gets over each of them."""

import http.client
import json
import socket

import pytest
from support.deliveries import KEY, connection, usage
from support.proxy import AFTER, KINDS, Proxy
from support.scripted import ScriptedServer, echo

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.sandbox import Sandbox
from airflow_provider_lago.sources.values import ValueSource

BODY = json.dumps({"events": usage(3)})


@pytest.fixture
def behind():
    """A server that counts what reaches it whole, and the proxy before it."""
    with ScriptedServer(echo) as server, Proxy(int(server.url.rpartition(":")[2])) as proxy:
        yield server, proxy


def post(proxy, timeout=0.6):
    """Send one request, and return the body of the answer, or what the client saw instead."""
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)
    try:
        client.request("POST", "/api/v1/events/batch", BODY, {"Content-Type": "application/json"})
        return client.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        client.close()


@pytest.mark.parametrize(
    ("kind", "seconds", "sees", "arrives"),
    [
        ("reset_before", 0, "ConnectionResetError", 0),
        ("reset_mid_request", 0, "ConnectionResetError", 0),
        ("cut_request", 0, "RemoteDisconnected", 0),
        ("half_open", 0, "TimeoutError", 0),
        ("late_request", 1.0, "TimeoutError", 1),
        ("refuse", 0.2, "ConnectionResetError", 0),
        ("drop_answer", 0, "RemoteDisconnected", 1),
        ("reset_mid_answer", 0, "ConnectionResetError", 1),
        ("cut_answer", 0, "IncompleteRead", 1),
        ("stall", 0, "TimeoutError", 1),
        ("slow_loris", 1.0, "TimeoutError", 1),
        ("late_answer", 1.0, "TimeoutError", 1),
        ("close_after", 0, None, 1),
    ],
)
def test_what_the_client_sees_and_whether_the_server_gets_it(behind, kind, seconds, sees, arrives):
    server, proxy = behind
    fault = proxy.fault(kind, times=1, seconds=seconds)
    seen = post(proxy)
    assert proxy.wait_until_quiet()
    assert fault.fired == 1
    assert len(server.requests) == arrives
    if sees is None:
        assert json.loads(seen) == json.loads(BODY)
    else:
        assert seen == sees


def test_new_connections_are_refused_for_a_while(behind):
    _, proxy = behind
    with socket.create_connection(("127.0.0.1", proxy.port)) as waiting:
        proxy.refuse(0.3)
        waiting.settimeout(5)
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
        assert post(proxy) == "ConnectionRefusedError"
    while post(proxy) == "ConnectionRefusedError":
        pass
    assert json.loads(post(proxy)) == json.loads(BODY)


@pytest.mark.parametrize("store", ["postgres", "clickhouse"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_delivery_gets_over_it(kind, store):
    records = usage(400)
    with Sandbox(store=store, api_keys=[KEY]) as sandbox, Proxy(sandbox.port) as proxy:
        # A slow loris never lets the client wait long for the next byte.
        seconds = 0.05 if kind in ("refuse", "slow_loris") else 0.3
        fault = proxy.fault(kind, times=3, seconds=seconds)
        plan = EventPlan(
            source=ValueSource(records),
            settings=connection(proxy.url, connect_timeout=0.5, read_timeout=0.2),
            user_agent="test",
            shaping=EventShaping(),
            batch_size=20,
            policy=RetryPolicy(attempts=20, base=0.01, cap=0.05),
        )
        tally = Delivery(plan).run().tally
        assert proxy.wait_until_quiet()
        assert fault.fired == 3
        assert tally.accepted == 400
        assert {event["transaction_id"] for event in sandbox.events()} == {f"t{n}" for n in range(400)}
        if store == "postgres":
            assert sandbox.count() == 400
        elif kind in AFTER and kind != "close_after":
            assert sandbox.count() >= 460  # each of three batches is there twice, as one to be billed
