"""One call before it is sent: where it goes, what it carries, and whether it may be repeated."""

from __future__ import annotations

import pytest

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import Call, build_call
from airflow_provider_lago.api.paths import PathError
from airflow_provider_lago.api.wire import WireError, encode_query, read_headers


def test_a_call_is_checked_and_encoded():
    call = build_call("post", "/api/v1/coupons", params={"status": ["a", "b"]}, json={"x": 1}, headers={"X-A": "1"})
    assert (call.method, call.path, call.body, dict(call.headers)) == ("POST", "coupons", b'{"x":1}', {"X-A": "1"})
    assert call.target == "coupons?status%5B%5D=a&status%5B%5D=b"
    assert not call.reads
    assert not call.repeatable


@pytest.mark.parametrize(
    ("method", "path", "idempotent", "repeatable"),
    [
        ("GET", "wallets", None, True),
        ("POST", "events/batch", None, True),
        ("POST", "wallets", None, False),
        ("PUT", "coupons/a", None, False),
        ("PUT", "coupons/a", True, True),
        ("DELETE", "coupons/a", None, False),
        ("POST", "events", False, False),
    ],
)
def test_a_call_is_repeatable_where_it_does_no_harm_or_the_caller_says_so(method, path, idempotent, repeatable):
    assert build_call(method, path, idempotent=idempotent).repeatable is repeatable


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://example.com/api/v1/coupons",
        "//example.com/coupons",
        "coupons?page=1",
        "coupons#top",
        "../organizations",
        "customers/%2e%2e/plans",
        "customers//plans",
        "customers/",
        "cust\r\nomers",
        "",
    ],
)
def test_a_call_goes_nowhere_else(endpoint):
    with pytest.raises(PathError):
        build_call("GET", endpoint)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_takes_no_body(method):
    with pytest.raises(WireError, match="takes no body"):
        build_call(method, "coupons", json={})


@pytest.mark.parametrize("value", ["\ud800", 10**5000], ids=["half a surrogate pair", "5000 digits"])
def test_a_query_value_that_cannot_be_written_is_refused_by_name(value):
    with pytest.raises(WireError, match="'name'"):
        encode_query({"name": value})


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("h1:v1,h2:v2", {"h1": "v1", "h2": "v2"}),
        (" X-A : 1 , X-B:b:c", {"X-A": "1", "X-B": "b:c"}),
        ("X-A:", {"X-A": ""}),
        ("", {}),
        (None, {}),
        ({"X-A": "1,2"}, {"X-A": "1,2"}),
        ("Content-Type: application/json; charset=utf-8", {"Content-Type": "application/json; charset=utf-8"}),
    ],
)
def test_headers_are_read_from_a_dict_or_from_text(given, read):
    assert read_headers(given) == read


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "AUTHORIZATION",
        "authorization",
        "Proxy-Authorization",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Cookie",
        "X-HTTP-Method-Override",
    ],
)
def test_headers_that_would_change_the_call_are_refused(name):
    for given in ({name: "x"}, f"X-A:1,{name}:x", f"{name} : x"):
        with pytest.raises(WireError, match=name):
            read_headers(given)


@pytest.mark.parametrize(
    "given",
    [
        {"X-A": "1\r\nAuthorization: Bearer stolen"},
        {"X-A": "1\nX-B: 2"},
        {"X-A\r\nX-B": "1"},
        {"X-A": "1\0"},
        {"X A": "1"},
        {"": "1"},
        {"X-A": 1},
        "X-A:1\r\nX-B:2",
        "no-colon",
        ":v",
        "X-A:1,2",
        ["X-A"],
        {"Content-Type": "text/plain"},
    ],
)
def test_headers_that_cannot_be_sent_are_refused(given):
    with pytest.raises(WireError):
        read_headers(given)


def test_the_value_of_a_refused_header_is_not_told():
    for given in ({"X-Key": "secret\n"}, "X-Key:abc,secret"):
        with pytest.raises(WireError) as caught:
            read_headers(given)
        assert "secret" not in str(caught.value)


def test_an_answer_that_is_not_utf8_is_no_json():
    assert Answer(200, {}, b'{"a":"\xff"}').json() is None


@pytest.mark.parametrize(
    ("method", "endpoint"),
    [
        ("DELETE", "customers/a.b"),
        ("GET", "customers/a.b"),
        ("PUT", "subscriptions/a%2Eb"),
        ("DELETE", "customers/c/wallets/a.b"),
        ("POST", "events/a.b"),
        ("GET", "events/a.b/more"),
    ],
)
def test_a_call_by_a_dotted_id_would_be_about_another_object(method, endpoint):
    with pytest.raises(PathError, match="first dot"):
        build_call(method, endpoint)


def test_the_one_route_that_takes_dots_is_open():
    assert build_call("GET", "events/a.b").path == "events/a.b"
    assert build_call("get", "events/a.b").method == "GET"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_no_call_changes_what_an_id_with_dots_names_to_lago(method):
    with pytest.raises(PathError):
        build_call(method, "customers/a.b", json={} if method != "DELETE" else None)


def test_a_call_is_repeatable_unless_somebody_says_otherwise():
    assert Call("GET", "customers").repeatable
