"""How often a call is really sent, counted at the server."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest
import trustme
from airflow.providers.common.compat.sdk import AirflowFailException
from support.deliveries import KEY
from support.scripted import CUT, Reply, ScriptedServer, as_json

from airflow_provider_lago.exceptions import (
    LagoApiError,
    LagoConnectionError,
    LagoFatalApiError,
    LagoTransportError,
)

THROTTLED = as_json(429, {"status": 429}, **{"Retry-After": "0"})
HALF = Reply(200, b'{"a": 1}', {"Content-Type": "application/json", "Content-Length": "100"}, cut_after=90)
SLOW = Reply(200, b"{}", delay=1.0)


def sent(hook_for, replies, call, timeout=None, **hook_arguments):
    """Return how often the server saw the call, and what came of it."""
    left = list(replies)

    def answer(request):
        return left.pop(0) if len(left) > 1 else left[0]

    with ScriptedServer(answer) as server, hook_for(server, timeout=timeout, **hook_arguments) as hook:
        try:
            result = call(hook)
        except LagoApiError as error:
            result = error
        return len(server.requests), result


OK = as_json(200, {"ok": True})
READ = lambda hook: hook.get("customers")  # noqa: E731
EVENT = lambda hook: hook.post("events", json={"event": {}})  # noqa: E731
WALLET = lambda hook: hook.post("wallets", json={"wallet": {}})  # noqa: E731
SAID_SAFE = lambda hook: hook.post("wallets", json={"wallet": {}}, idempotent=True)  # noqa: E731
SAID_UNSAFE = lambda hook: hook.get("customers", idempotent=False)  # noqa: E731


@pytest.mark.parametrize(
    ("trouble", "timeout"), [(Reply(500), None), (Reply(503), None), (CUT, None), (HALF, None), (SLOW, 0.15)]
)
@pytest.mark.parametrize(("call", "tries"), [(READ, 3), (EVENT, 3), (SAID_SAFE, 3), (WALLET, 1), (SAID_UNSAFE, 1)])
def test_a_call_of_unknown_fate_is_repeated_only_if_that_does_no_harm(hook_for, trouble, timeout, call, tries):
    count, error = sent(hook_for, [trouble], call, timeout)
    assert count == tries
    assert isinstance(error, LagoApiError)
    assert not isinstance(error, AirflowFailException)


def test_a_call_that_succeeds_at_the_second_try_is_a_success(hook_for):
    assert sent(hook_for, [Reply(503), OK], READ) == (2, {"ok": True})
    assert sent(hook_for, [CUT, OK], EVENT) == (2, {"ok": True})
    assert sent(hook_for, [HALF, OK], READ) == (2, {"ok": True})


def test_a_throttled_call_was_not_executed_so_it_is_repeated_whatever_it_does(hook_for):
    assert sent(hook_for, [THROTTLED, OK], WALLET) == (2, {"ok": True})
    count, error = sent(hook_for, [THROTTLED], WALLET)
    assert (count, error.http_status_code) == (3, 429)


def test_a_throttled_payment_provider_leaves_a_write_half_done_so_it_is_not_repeated(hook_for):
    reply = as_json(429, {"status": 429, "error": "Too Many Provider Requests", "code": "too_many_provider_requests"})
    assert sent(hook_for, [reply], WALLET)[0] == 1
    assert sent(hook_for, [reply], READ)[0] == 3


def test_a_busy_lock_did_nothing_so_the_call_is_repeated(hook_for):
    reply = as_json(422, {"status": 422, "error": "Unprocessable Entity", "code": "lock_acquisition_failed"})
    assert sent(hook_for, [reply, OK], WALLET) == (2, {"ok": True})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422])
def test_a_refused_call_is_sent_once(hook_for, status):
    count, error = sent(hook_for, [as_json(status, {"status": status, "error": "x", "code": "y"})], READ)
    assert (count, error.http_status_code) == (1, status)


def test_a_429_is_waited_out_as_asked(hook_for):
    began = time.monotonic()
    wait = as_json(429, {}, **{"x-ratelimit-reset": "0.4"})
    assert sent(hook_for, [wait, OK], READ)[0] == 2
    assert 0.4 <= time.monotonic() - began < 2


def test_each_retry_is_one_clear_log_line(hook_for, logged):
    sent(hook_for, [Reply(503)], lambda hook: hook.get("customers", params={"q": "query-secret"}))
    lines = [line for line in logged if "try " in line]
    assert len(lines) == 2
    assert lines[0].startswith("GET customers: HTTP 503")
    assert "try 2 of 3 in 0.0 s" in lines[0]
    assert "try 3 of 3 in 0.0 s" in lines[1]
    assert "query-secret" not in "".join(lines)


def test_one_try_means_no_retry(hook_for):
    assert sent(hook_for, [Reply(503)], READ, retry_limit=1)[0] == 1


def test_the_pace_of_the_connection_is_kept(hook_for):
    began = time.monotonic()
    call = lambda hook: [hook.get("customers") for _ in range(5)]  # noqa: E731
    assert sent(hook_for, [OK], call, extra={"requests_per_second": 20})[0] == 5
    assert time.monotonic() - began >= 0.2


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def failed(hook, call=WALLET):
    with pytest.raises(LagoApiError) as caught:
        call(hook)
    error = caught.value
    assert error.http_status_code is None
    assert "\n" not in str(error)
    assert "Max retries" not in str(error)
    assert error.__context__ is None
    assert KEY not in str(error)
    return error


def test_a_server_that_is_down_is_tried_again_even_for_writes(hook_for, logged):
    port = closed_port()
    error = failed(hook_for(f"http://127.0.0.1:{port}"))
    assert type(error) is LagoTransportError
    assert f"http://127.0.0.1:{port} refused the connection" in str(error)
    assert sum("try " in line for line in logged) == 2


def test_a_write_goes_through_once_the_server_is_up_again(hook_for):
    with ScriptedServer(lambda request: OK) as server:
        hook = hook_for(server)
        port = closed_port()
        hook.get_conn()
        broken = hook.settings
        hook.__dict__["settings"] = type(broken)(
            **{
                **{name: getattr(broken, name) for name in broken.__dataclass_fields__},
                "api_url": f"http://127.0.0.1:{port}/api/v1",
            }
        )
        original = hook._log_retry

        def heal(state):
            original(state)
            hook.__dict__["settings"] = broken

        hook._log_retry = heal
        assert WALLET(hook) == {"ok": True}
    assert len(server.requests) == 1


def test_an_unresolvable_host_is_named(hook_for, logged):
    error = failed(hook_for("https://nonexistent.invalid"))
    assert type(error) is LagoTransportError
    assert "host name of https://nonexistent.invalid cannot be resolved" in str(error)
    assert sum("try " in line for line in logged) == 2


def test_a_silent_server_is_a_transport_error(hook_for):
    with ScriptedServer(lambda request: SLOW) as server:
        error = failed(hook_for(server, timeout=0.15))
    assert type(error) is LagoTransportError
    assert "'timeout'" in str(error)


def test_a_server_that_stalls_in_the_middle_of_an_answer_is_a_transport_error(hook_for):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve():
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
            time.sleep(0.6)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        error = failed(hook_for(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2))
        thread.join()
    assert type(error) is LagoTransportError
    assert "'timeout'" in str(error)


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_an_error_and_the_key_stays(self, hook_for, status):
        with ScriptedServer(lambda request: OK) as other:
            redirect = Reply(status, b"", {"Location": f"{other.url}/api/v1/customers?token=location-secret"})
            with (
                ScriptedServer(lambda request: redirect) as server,
                hook_for(server) as hook,
                pytest.raises(LagoFatalApiError) as caught,
            ):
                hook.get("customers")
            assert other.requests == []
            told = str(caught.value)
            assert other.url in told
            assert "host of connection 'billing'" in told
            assert "location-secret" not in told
        assert len(server.requests) == 1
        assert caught.value.http_status_code == status

    @pytest.mark.parametrize("location", ["/login", "https://u:pw-secret@other.example.com/x", "http://[::1", ""])
    def test_any_location_is_told_safely(self, hook_for, location):
        redirect = Reply(302, b"", {"Location": location})
        with (
            ScriptedServer(lambda request: redirect) as server,
            hook_for(server) as hook,
            pytest.raises(LagoFatalApiError) as caught,
        ):
            hook.get("customers")
        assert "pw-secret" not in str(caught.value)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def bundle(authority, tmp_path):
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


@pytest.fixture
def other(tmp_path):
    file = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return str(file)


class TestTls:
    def test_a_trusted_private_ca_works(self, hook_for, tls, bundle):
        with ScriptedServer(lambda request: OK, tls) as server:
            assert hook_for(server, extra={"ca_bundle": bundle}).get("customers") == {"ok": True}

    def test_an_unknown_ca_fails_without_any_retry_and_names_the_fix(self, hook_for, tls, logged):
        with ScriptedServer(lambda request: OK, tls) as server:
            error = failed(hook_for(server), READ)
        assert type(error) is LagoFatalApiError
        assert isinstance(error, AirflowFailException)
        assert "certificate" in str(error)
        assert "'ca_bundle'" in str(error)
        assert server.requests == []
        assert not any("try " in line for line in logged)

    def test_another_ca_than_the_bundles_fails(self, hook_for, tls, other):
        with ScriptedServer(lambda request: OK, tls) as server:
            assert type(failed(hook_for(server, extra={"ca_bundle": other}))) is LagoFatalApiError

    def test_the_connections_bundle_wins_over_the_environments(self, hook_for, tls, bundle, other, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", other)
        with ScriptedServer(lambda request: OK, tls) as server:
            assert hook_for(server, extra={"ca_bundle": bundle}).get("customers") == {"ok": True}

    def test_a_certificate_for_another_name_fails(self, hook_for, authority, bundle):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("lago.example.com").configure_cert(context)
        with ScriptedServer(lambda request: OK, context) as server:
            error = failed(hook_for(server, extra={"ca_bundle": bundle}))
        assert type(error) is LagoFatalApiError
        assert "certificate" in str(error)

    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    def test_checking_can_be_switched_off_even_against_the_environment(self, hook_for, tls, monkeypatch, other):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", other)
        with ScriptedServer(lambda request: OK, tls) as server:
            hook = hook_for(server, extra={"verify_tls": False})
            assert hook.settings.verify is False
            assert hook.get("customers") == {"ok": True}

    @pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_the_environments_bundle_is_used_where_the_connection_names_none(
        self, hook_for, tls, bundle, monkeypatch, name
    ):
        monkeypatch.setenv(name, bundle)
        with ScriptedServer(lambda request: OK, tls) as server:
            assert hook_for(server).get("customers") == {"ok": True}

    def test_a_bundle_that_does_not_exist_is_a_wrong_connection(self, hook_for):
        with pytest.raises(LagoConnectionError, match=r"/no/such.pem.*does not exist"):
            hook_for("https://127.0.0.1:1", extra={"ca_bundle": "/no/such.pem"}).get("customers")

    def test_a_bundle_without_certificates_is_told(self, hook_for, tls, tmp_path):
        for number, content in enumerate(["", "hello", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"]):
            file = tmp_path / f"{number}.pem"
            file.write_text(content)
            with ScriptedServer(lambda request: OK, tls) as server:
                error = failed(hook_for(server, extra={"ca_bundle": str(file)}))
            assert type(error) is LagoFatalApiError
            assert "certificate" in str(error)

    def test_https_to_a_plain_http_port_is_told(self, hook_for):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve():
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                connection.close()

            thread = threading.Thread(target=serve)
            thread.start()
            error = failed(hook_for(f"https://127.0.0.1:{listener.getsockname()[1]}"))
            thread.join()
        assert "http://" in str(error)
        assert type(error) is LagoFatalApiError


class TestProxies:
    def test_the_connections_proxy_is_used_and_its_credentials_stay_hidden(self, hook_for, logged):
        with ScriptedServer(lambda request: OK) as proxy:
            address = proxy.url.replace("http://", "http://me:hunter2@")
            hook = hook_for("http://lago.internal:3000", extra={"proxy": address})
            assert hook.get("customers") == {"ok": True}
            assert "hunter2" not in repr(hook.settings) + "".join(logged)
        assert proxy.requests[0].path == "http://lago.internal:3000/api/v1/customers"
        assert "proxy-authorization" in proxy.requests[0].headers

    def test_the_environments_proxy_is_used_where_the_connection_names_none(self, hook_for, monkeypatch):
        with ScriptedServer(lambda request: OK) as proxy:
            for value in (proxy.url, proxy.url.removeprefix("http://")):
                monkeypatch.setenv("HTTP_PROXY", value)
                monkeypatch.setenv("http_proxy", value)
                assert hook_for("http://lago.internal:3000").get("customers") == {"ok": True}
        assert len(proxy.requests) == 2

    def test_the_connections_proxy_wins_over_the_environments(self, hook_for, monkeypatch):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv("no_proxy", "lago.internal")
        with ScriptedServer(lambda request: OK) as proxy:
            hook = hook_for("http://lago.internal:3000", extra={"proxy": proxy.url})
            assert hook.get("customers") == {"ok": True}
        assert len(proxy.requests) == 1

    def test_no_proxy_is_obeyed(self, hook_for, monkeypatch):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with ScriptedServer(lambda request: OK) as server:
            assert hook_for(server).get("customers") == {"ok": True}

    def test_a_proxy_that_is_down_is_told_as_such_without_its_credentials(self, hook_for):
        address = f"http://me:hunter2@127.0.0.1:{closed_port()}"
        for host in ("https://lago.example.com", "http://lago.internal"):
            error = failed(hook_for(host, extra={"proxy": address}))
            assert "proxy" in str(error)
            assert "hunter2" not in str(error)

    def test_a_proxy_that_refuses_the_tunnel_is_told_with_its_status(self, hook_for):
        with ScriptedServer(lambda request: Reply(407)) as proxy:
            error = failed(hook_for("https://lago.example.com", extra={"proxy": proxy.url}))
        assert "407" in str(error)
        assert "'proxy'" in str(error)

    def test_a_407_of_a_plain_proxy_fails_without_airflow_retries(self, hook_for):
        with ScriptedServer(lambda request: Reply(407)) as proxy, pytest.raises(LagoFatalApiError, match="'proxy'"):
            hook_for("http://lago.internal", extra={"proxy": proxy.url}).get("customers")

    def test_a_proxy_of_the_environment_that_is_not_http_is_told(self, hook_for, monkeypatch):
        monkeypatch.setenv("https_proxy", "socks5://me:hunter2@127.0.0.1:1080")
        with pytest.raises(LagoConnectionError, match="NO_PROXY") as caught:
            hook_for("https://lago.example.com").get("customers")
        assert "hunter2" not in str(caught.value)
