"""What a call sends and returns, over real HTTP."""

from __future__ import annotations

import pickle
import threading
import traceback
import types
from decimal import Decimal

import pytest
from support.deliveries import KEY
from support.scripted import Reply, ScriptedServer, as_json, refused

from airflow_provider_lago.api.paths import path
from airflow_provider_lago.exceptions import (
    LagoApiError,
    LagoConnectionError,
    LagoFatalApiError,
    LagoInputError,
)
from airflow_provider_lago.hooks import lago
from airflow_provider_lago.hooks.session import LagoBearerAuth, user_agent


def ok(request):
    return as_json(200, {"customer": {"external_id": "a"}})


def html(status=200):
    return Reply(status, b"<!DOCTYPE html><title>Lago</title>", {"Content-Type": "text/html; charset=utf-8"})


def test_a_call_carries_what_lago_needs_and_returns_decoded_json(hook_for):
    with ScriptedServer(ok) as server, hook_for(server) as hook:
        answer = hook.post(
            "customers", json={"customer": {"external_id": "a", "n": Decimal("1.10")}}, params={"x": ["y"]}
        )
    (request,) = server.requests
    assert answer == {"customer": {"external_id": "a"}}
    assert (request.method, request.path) == ("POST", "/api/v1/customers?x%5B%5D=y")
    assert request.body == b'{"customer":{"external_id":"a","n":1.10}}'
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == user_agent()
    assert user_agent().startswith("airflow-provider-lago/")
    assert "(+airflow/2." in user_agent() or "(+airflow/3." in user_agent()


def test_each_verb_has_a_method(hook_for):
    with ScriptedServer(ok) as server, hook_for(server) as hook:
        for verb in ("get", "post", "put", "patch", "delete"):
            getattr(hook, verb)("customers/a")
    assert [request.method for request in server.requests] == ["GET", "POST", "PUT", "PATCH", "DELETE"]


def test_calls_share_one_kept_alive_connection(hook_for):
    ports = set()

    def answer(request):
        return ok(request)

    with ScriptedServer(answer) as server, hook_for(server) as hook:
        exchanged = server._connection

        async def counted(reader, writer):
            ports.add(writer.get_extra_info("peername")[1])
            await exchanged(reader, writer)

        server._connection = counted
        for _ in range(5):
            hook.get("customers")
    assert len(server.requests) == 5
    assert len(ports) <= 1


@pytest.mark.parametrize(
    ("identifier", "wire"),
    [
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a?b", "a%3Fb"),
        ("a#b", "a%23b"),
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("Ünï漢", "%C3%9Cn%C3%AF%E6%BC%A2"),
        ("a\\b", "a%5Cb"),
        ("100%", "100%25"),
        ("~a-b_c", "~a-b_c"),
        ("a;b&c=d", "a%3Bb%26c%3Dd"),
    ],
)
def test_an_id_arrives_as_it_was_meant(hook_for, identifier, wire):
    with ScriptedServer(ok) as server, hook_for(server) as hook:
        hook.get(path("customers", identifier))
    assert server.requests[0].path == f"/api/v1/customers/{wire}"


def test_an_event_id_with_dots_arrives_whole(hook_for):
    with ScriptedServer(ok) as server, hook_for(server) as hook:
        hook.get(path("events", "2026.11.22"))
        hook.get("events/2026%2E11.22")
    assert [request.path for request in server.requests] == ["/api/v1/events/2026.11.22"] * 2


@pytest.mark.parametrize(
    "refused",
    [
        lambda hook: hook.delete("customers/a.b"),
        lambda hook: hook.delete("customers/a%2Eb"),
        lambda hook: hook.get("customers/a.b"),
        lambda hook: hook.get(""),
        lambda hook: hook.get("customers//wallets"),
        lambda hook: hook.delete("customers/"),
        lambda hook: hook.get("https://evil.com/"),
        lambda hook: hook.get("customers/../organizations"),
        lambda hook: hook.get("customers", json={}),
        lambda hook: hook.get("customers", headers={"Authorization": "x"}),
        lambda hook: hook.get("customers", headers={"X": "a\r\nb"}),
        lambda hook: hook.post("customers", json={"a": float("nan")}),
        lambda hook: hook.post("customers", json={"a": types.MappingProxyType({"b": float("nan")})}),
        lambda hook: hook.post("customers", json={"a": object()}),
        lambda hook: hook.get("customers", params={"a": {}}),
        lambda hook: hook.request("TRACE", "customers"),
        lambda hook: hook.paginate("customers", per_page=0),
        lambda hook: hook.paginate("customers", per_page=-1),
        lambda hook: hook.paginate("customers", per_page="100"),
        lambda hook: hook.paginate("customers", params={"page": 2}),
    ],
)
def test_a_call_that_could_do_harm_is_refused_before_anything_is_sent(hook_for, refused):
    with ScriptedServer(ok) as server, hook_for(server) as hook, pytest.raises(LagoInputError):
        refused(hook)
    assert server.requests == []


def test_an_empty_success_is_none(hook_for):
    for body in (b"", b" \n"):
        with ScriptedServer(lambda request, body=body: Reply(200, body)) as server, hook_for(server) as hook:
            assert hook.post("invoices/1/retry_payment") is None


def test_plain_text_is_returned_as_text(hook_for):
    reply = Reply(200, b"LS0tLS1CRUdJTg==", {"Content-Type": "text/plain; charset=utf-8"})
    with ScriptedServer(lambda request: reply) as server, hook_for(server) as hook:
        assert hook.get("webhooks/public_key") == "LS0tLS1CRUdJTg=="


def test_a_web_page_is_no_success_even_with_status_200(hook_for):
    with (
        ScriptedServer(lambda request: html()) as server,
        hook_for(server) as hook,
        pytest.raises(LagoFatalApiError, match=r"not Lago's API.*'billing'"),
    ):
        hook.post("customers", json={})


def test_a_success_that_is_not_json_is_an_error_that_another_try_may_heal(hook_for):
    reply = Reply(200, b'{"customers": [', {"Content-Type": "application/json"})
    with (
        ScriptedServer(lambda request: reply) as server,
        hook_for(server) as hook,
        pytest.raises(LagoApiError, match="not JSON") as caught,
    ):
        hook.get("customers")
    assert not isinstance(caught.value, LagoFatalApiError)


def test_an_answer_too_long_to_hold_is_refused(hook_for, monkeypatch):
    monkeypatch.setattr(lago, "LONGEST_ANSWER", 100_000)
    with (
        ScriptedServer(lambda request: as_json(200, ["x" * 200_000])) as server,
        hook_for(server) as hook,
        pytest.raises(LagoFatalApiError, match="longer than"),
    ):
        hook.get("customers")
    assert len(server.requests) == 1


def error_of(hook_for, reply, call=lambda hook: hook.get("customers/a", params={"token": "query-secret"})):
    with (
        ScriptedServer(lambda request: reply) as server,
        hook_for(server, retry_limit=1) as hook,
        pytest.raises(LagoApiError) as caught,
    ):
        call(hook)
    return caught.value


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (as_json(401, {"error": "Unauthorized"}), LagoFatalApiError, "password (API key) of connection 'billing'"),
        (
            as_json(403, {"status": 403, "error": "Forbidden", "code": "write_action_not_allowed_for_event"}),
            LagoFatalApiError,
            "lacks event:write",
        ),
        (
            as_json(403, {"status": 403, "error": "Forbidden", "code": "feature_unavailable"}),
            LagoFatalApiError,
            "premium licence",
        ),
        (html(403), LagoFatalApiError, "permissions"),
        (
            as_json(404, {"status": 404, "error": "Not Found", "code": "resource_not_found"}),
            LagoFatalApiError,
            "host of connection 'billing'",
        ),
        (html(404), LagoFatalApiError, "host of connection 'billing'"),
        (as_json(404, {"error": "Not Found", "code": "customer_not_found"}), LagoApiError, "customer_not_found"),
        (refused({"name": ["value_is_mandatory"]}), LagoApiError, "name: value_is_mandatory"),
        (Reply(400, b"", {"Content-Type": "text/html"}), LagoApiError, "HTTP 400"),
        (Reply(413, b""), LagoApiError, "less"),
        (as_json(500, {"status": 500, "error": "Internal Server Error"}), LagoApiError, "Internal Server Error"),
        (html(502), LagoApiError, "titled 'Lago'"),
        (as_json(429, {"status": 429}, **{"x-ratelimit-reset": "3"}), LagoApiError, "HTTP 429"),
        (Reply(304, b""), LagoApiError, "HTTP 304"),
        (as_json(400, ["not", "a", "dict"]), LagoApiError, "HTTP 400"),
    ],
)  # fmt: skip
def test_an_error_answer_says_what_happened_to_which_call_and_what_to_do(hook_for, reply, kind, told):
    error = error_of(hook_for, reply)
    assert type(error) is kind
    assert str(error).startswith(f"GET customers/a: HTTP {reply.status}")
    assert told in str(error)
    assert "\n" not in str(error)
    assert "query-secret" not in str(error)
    assert (error.method, error.path, error.http_status_code) == ("GET", "customers/a", reply.status)


def test_an_error_keeps_the_facts_also_through_pickling(hook_for):
    reply = as_json(
        422,
        {"status": 422, "error": "Unprocessable Entity", "code": "validation_errors", "error_details": {"a": ["b"]}},
        **{"X-Request-Id": "r-1", "x-ratelimit-remaining": "7"},
    )
    error = error_of(hook_for, reply)
    for found in (error, pickle.loads(pickle.dumps(error))):
        assert found.code == "validation_errors"
        assert found.error_details == {"a": ["b"]}
        assert found.request_id == "r-1"
        assert found.rate_headers == {"x-ratelimit-remaining": "7"}
        assert found.http_status_code == 422


def test_the_key_is_nowhere_to_be_seen_even_if_the_server_echoes_it(hook_for, logged, capfd):
    reply = as_json(
        503,
        {"status": 503, "error": f"no\n{KEY}", "code": KEY, "error_details": {KEY: [f"Bearer {KEY}"]}},
        **{"X-Request-Id": KEY, "Retry-After": KEY},
    )
    with ScriptedServer(lambda request: reply) as server, hook_for(server) as hook:
        with pytest.raises(LagoApiError) as caught:
            hook.get("customers", params={"token": "query-secret"}, headers={"X-Trace": "header-secret"})
        shown = [repr(hook), repr(hook.settings), repr(hook.get_conn().auth), str(hook.test_connection())]
    error = caught.value
    shown += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error)), repr(pickle.dumps(error))]
    shown += logged
    shown += capfd.readouterr()
    assert len(server.requests) == 4
    assert any("try 2 of 3" in line for line in logged)
    for text in shown:
        assert KEY not in text
    # urllib3 logs request lines at debug level, and the query of a call with them
    assert not any("query-secret" in line for line in logged if "try " in line)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_the_body_is_never_logged(hook_for, logged, capfd):
    with (
        ScriptedServer(lambda request: Reply(503)) as server,
        hook_for(server) as hook,
        pytest.raises(LagoApiError),
    ):
        hook.post("customers", json={"customer": {"name": "Jane Doe"}}, idempotent=True)
    assert len(server.requests) == 3
    assert "Jane" not in "".join([*logged, *capfd.readouterr()])


class TestSession:
    def test_the_session_sends_the_key_to_its_own_lago_only(self, hook_for):
        with ScriptedServer(ok) as lago_server, ScriptedServer(ok) as other, hook_for(lago_server) as hook:
            session = hook.get_conn()
            session.get(f"{lago_server.url}/health")
            session.get(f"{other.url}/x")
        assert lago_server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert "authorization" not in other.requests[0].headers

    def test_the_session_follows_no_redirect_either(self, hook_for):
        with ScriptedServer(ok) as other:
            redirect = Reply(302, b"", {"Location": f"{other.url}/steal"})
            with ScriptedServer(lambda request: redirect) as server, hook_for(server) as hook:
                assert hook.get_conn().get(f"{server.url}/x").status_code == 302
        assert other.requests == []

    def test_the_session_does_not_wait_forever(self, hook_for):
        import requests

        with (
            ScriptedServer(lambda request: Reply(delay=5)) as server,
            hook_for(server, timeout=0.2) as hook,
            pytest.raises(requests.ReadTimeout),
        ):
            hook.get_conn().get(f"{server.url}/x")

    def test_netrc_never_replaces_the_key(self, hook_for, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login someone password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        with ScriptedServer(ok) as server, hook_for(server) as hook:
            hook.get("customers")
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"

    def test_a_closed_hook_opens_a_new_session(self, hook_for):
        with ScriptedServer(ok) as server:
            hook = hook_for(server)
            first = hook.get_conn()
            assert hook.get_conn() is first
            hook.close()
            hook.close()
            assert hook.get_conn() is not first
            assert hook.get("customers")

    def test_threads_share_one_session(self, hook_for):
        hook = hook_for("http://localhost:1")
        found = []
        threads = [threading.Thread(target=lambda: found.append(hook.get_conn())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, found))) == 1

    def test_the_auth_class_compares_whole_origins(self):
        import requests

        auth = LagoBearerAuth(KEY, ["https://api.getlago.com/api/v1", "https://ingest.getlago.com/api/v1"])
        assert KEY not in repr(auth)

        def header(url):
            return requests.Request("GET", url, auth=auth).prepare().headers.get("Authorization")

        for url in ("https://api.getlago.com/x", "https://api.getlago.com:443/x", "https://INGEST.getlago.com/x"):
            assert header(url) == f"Bearer {KEY}"
        for url in (
            "http://api.getlago.com/x",
            "https://api.getlago.com:8443/x",
            "https://api.getlago.com.evil.com/x",
            "https://api.getlago.com@evil.com/x",
        ):
            assert KEY not in (header(url) or "")


class TestConnection:
    def test_a_hook_looks_nothing_up_until_it_is_used(self):
        from airflow_provider_lago.hooks.lago import LagoHook

        assert LagoHook("no_such_connection").lago_conn_id == "no_such_connection"
        assert LagoHook().lago_conn_id == "lago_default"

    def test_a_missing_connection_is_airflows_own_error(self):
        from airflow.providers.common.compat.sdk import AirflowNotFoundException

        from airflow_provider_lago.hooks.lago import LagoHook

        with pytest.raises(AirflowNotFoundException, match="no_such_connection"):
            _ = LagoHook("no_such_connection").settings

    def test_a_wrong_connection_fails_without_airflow_retries(self, hook_for):
        from airflow.providers.common.compat.sdk import AirflowFailException

        with pytest.raises(LagoConnectionError, match="Connection 'billing': extra 'tiemout'") as caught:
            hook_for(extra={"tiemout": 3}).get("customers")
        assert isinstance(caught.value, AirflowFailException)

    def test_a_key_stored_with_a_line_break_is_masked_without_it_too(self, hook_for, monkeypatch):
        masked = []
        monkeypatch.setattr(lago, "mask_secret", masked.append)
        assert hook_for(password=f"{KEY}\n").settings.api_key == KEY
        assert masked == [KEY]

    @pytest.mark.parametrize("extra", ["{timeout: 3}", "[1]", "7"])
    def test_an_extra_that_is_not_json_is_not_ignored(self, monkeypatch, extra):
        from airflow_provider_lago.hooks import lago
        from airflow_provider_lago.hooks.lago import LagoHook

        class Stored:
            host = schema = login = None
            port = None
            password = KEY

        Stored.extra, Stored.extra_dejson = extra, {"[1]": [1]}.get(extra, {})
        monkeypatch.setattr(lago.LagoHook, "get_connection", classmethod(lambda cls, conn_id: Stored()))
        with pytest.raises(LagoConnectionError, match="extra is not a JSON object"):
            _ = LagoHook("billing").settings

    def test_the_hooks_timeout_replaces_the_connections(self, hook_for):
        settings = hook_for("http://localhost:1", extra={"timeout": 60}, timeout=2.5).settings
        assert (settings.connect_timeout, settings.read_timeout) == (2.5, 2.5)

    @pytest.mark.parametrize(
        "arguments", [{"retry_limit": 0}, {"retry_delay": -1}, {"timeout": 0}, {"retry_delay": float("nan")}]
    )
    def test_senseless_arguments_are_refused(self, arguments):
        from airflow_provider_lago.hooks.lago import LagoHook

        with pytest.raises(LagoInputError):
            LagoHook(**arguments)

    def test_a_connection_can_come_as_a_uri(self, hook_for, monkeypatch):
        with ScriptedServer(ok) as server:
            hook = hook_for(server)
            host, port = server.url.removeprefix("http://").split(":")
            monkeypatch.setenv("AIRFLOW_CONN_BILLING", f"lago://:{KEY}@{host}:{port}/http?timeout=5&verify_tls=true")
            assert hook.get("customers")
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def pages(total, per_page, **extra):
    def answer(request):
        query = dict(pair.split("=") for pair in request.path.split("?")[1].split("&"))
        page = int(query["page"])
        assert int(query["per_page"]) == per_page
        items = list(range(total))[(page - 1) * per_page : page * per_page]
        last = -(-total // per_page)
        meta = {"current_page": page, "next_page": page + 1 if page < last else None, "total_pages": last}
        return as_json(200, {"customers": items, "meta": meta, **extra})

    return answer


class TestPages:
    def test_all_items_come_in_order(self, hook_for):
        with ScriptedServer(pages(25, 10)) as server, hook_for(server) as hook:
            assert list(hook.paginate("customers", per_page=10, params={"q": "x"})) == list(range(25))
        assert len(server.requests) == 3
        assert all("q=x" in request.path for request in server.requests)

    def test_items_stream_so_that_a_page_is_asked_for_when_it_is_needed(self, hook_for):
        with ScriptedServer(pages(25, 10)) as server, hook_for(server) as hook:
            items = hook.paginate("customers", per_page=10)
            assert server.requests == []
            for _ in range(10):
                next(items)
            assert len(server.requests) == 1

    def test_an_empty_list_is_one_call(self, hook_for):
        with ScriptedServer(pages(0, 100)) as server, hook_for(server) as hook:
            assert list(hook.paginate("customers")) == []
        assert len(server.requests) == 1

    def test_a_list_without_meta_is_one_page(self, hook_for):
        reply = as_json(200, {"billing_entities": [1, 2]})
        with ScriptedServer(lambda request: reply) as server, hook_for(server) as hook:
            assert list(hook.paginate("billing_entities")) == [1, 2]
        assert len(server.requests) == 1

    def test_the_collection_can_be_named(self, hook_for):
        with ScriptedServer(pages(3, 2, others=[9])) as server, hook_for(server) as hook:
            assert list(hook.paginate("customers", collection="customers", per_page=2)) == [0, 1, 2]
            with pytest.raises(LagoApiError, match=r"customers, others.*collection="):
                list(hook.paginate("customers", per_page=2))
            with pytest.raises(LagoApiError, match="collection="):
                list(hook.paginate("customers", collection="plans", per_page=2))

    @pytest.mark.parametrize("body", [{"customer": {}}, [1], "text", None])
    def test_what_is_not_a_list_is_an_error(self, hook_for, body):
        with (
            ScriptedServer(lambda request: as_json(200, body)) as server,
            hook_for(server) as hook,
            pytest.raises(LagoApiError, match="collection="),
        ):
            list(hook.paginate("customers/a"))

    @pytest.mark.parametrize("following", [1, 0, -1, "2", True])
    def test_pages_that_do_not_advance_end_with_an_error(self, hook_for, following):
        reply = as_json(200, {"customers": [1], "meta": {"next_page": following}})
        with (
            ScriptedServer(lambda request: reply) as server,
            hook_for(server) as hook,
            pytest.raises(LagoApiError, match="never end"),
        ):
            list(hook.paginate("customers"))
        assert len(server.requests) == 1

    def test_a_page_that_fails_is_tried_again_and_the_rest_goes_on(self, hook_for):
        answers = pages(25, 10)
        failed = []

        def answer(request):
            if "page=2&" in request.path and not failed:
                failed.append(1)
                return Reply(503)
            return answers(request)

        with ScriptedServer(answer) as server, hook_for(server) as hook:
            assert list(hook.paginate("customers", per_page=10)) == list(range(25))
        assert len(server.requests) == 4
