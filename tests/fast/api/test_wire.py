"""What goes out: bodies, queries, headers, verbs."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pendulum
import pytest

from airflow_provider_lago.api.wire import WireError, check_headers, check_method, encode_json, encode_query


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ({"amount": Decimal("1.10")}, b'{"amount":1.10}'),
        ({"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}, b'{"at":"2026-01-02T03:04:05Z"}'),
        ({"at": pendulum.datetime(2026, 1, 2, 3, 4, 5)}, b'{"at":"2026-01-02T03:04:05+00:00"}'),
        ({"on": date(2026, 1, 2)}, b'{"on":"2026-01-02"}'),
        ({"none": None, "yes": True}, b'{"none":null,"yes":true}'),
        ([1, "ü"], '[1,"ü"]'.encode()),
        ({}, b"{}"),
    ],
)
def test_values_become_json(value, sent):
    assert encode_json(value) == sent


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [{"b": float("nan")}]}, "a[0].b"),
        ({"a": float("-inf")}, "a is"),
        ({"a": Decimal("NaN")}, "a is"),
        (float("inf"), "the body"),
        ({"a": object()}, "type object"),
        ({"a": "\ud800"}, "JSON"),
    ],
)
def test_values_without_a_json_form_are_refused_with_their_place(value, told):
    with pytest.raises(WireError) as caught:
        encode_json(value)
    assert told in str(caught.value)


def test_a_body_that_holds_itself_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(WireError):
        encode_json(loop)


def test_query_values_as_lago_reads_them():
    assert encode_query(
        {
            "external_id": "a b",
            "status": ["active", "pending"],
            "type[]": ["x"],
            "with": True,
            "page": 2,
            "from": date(2026, 1, 2),
            "unset": None,
            "holes": ["y", None],
            "codes": {"b", "a"},
        }
    ) == [
        ("external_id", "a b"),
        ("status[]", "active"),
        ("status[]", "pending"),
        ("type[]", "x"),
        ("with", "true"),
        ("page", "2"),
        ("from", "2026-01-02"),
        ("holes[]", "y"),
        ("codes[]", "a"),
        ("codes[]", "b"),
    ]
    assert encode_query(None) == []


def test_a_nested_query_value_is_refused():
    with pytest.raises(WireError, match="'filter'"):
        encode_query({"filter": {"a": 1}})


def test_harmless_headers_pass():
    assert check_headers({"X-Trace": "abc é"}) == {"X-Trace": "abc é"}
    assert check_headers(None) == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer other"},
        {"authorization": "Bearer other"},
        {"HOST": "evil.com"},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"X-A": "b\r\nAuthorization: Bearer x"},
        {"X-A": "b\n"},
        {"X-A\r\nX-B": "c"},
        {"X-A": "b\x00"},
        {"X-A": "漢"},
        {"": "b"},
        {"Authorization ": "b"},
        {"X-A": 1},
        {1: "a"},
    ],
)
def test_headers_that_the_hook_owns_or_that_would_smuggle_others_are_refused(headers):
    with pytest.raises(WireError):
        check_headers(headers)


def test_verbs():
    assert check_method("get") == "GET"
    for method in ("TRACE", "CONNECT", "GET /x", "GET\r\n", "", None):
        with pytest.raises(WireError):
            check_method(method)


@pytest.mark.parametrize("value", ["application/json", "Application/JSON ; charset=utf-8; x=y"])
def test_a_body_is_json_whatever_its_parameters(value):
    assert check_headers({"Content-Type": value}) == {"Content-Type": value}


@pytest.mark.parametrize(
    "name",
    ["X-HTTP-Method", "x-http-method-override", "X-Method-Override", "Connection", "Cookie", "TE", "Accept-Encoding"],
)
def test_headers_that_would_change_the_call_or_the_connection_are_refused(name):
    with pytest.raises(WireError, match=name):
        check_headers({name: "DELETE"})


@pytest.mark.parametrize("value", ["", "a", "a b", "\xff", "a\xa0b"])
def test_a_value_of_a_header_may_be_empty_or_hold_a_space(value):
    assert check_headers({"X-A": value}) == {"X-A": value}


@pytest.mark.parametrize("value", [" a", "a ", "a\tb", "a\x7fb", "a\x80b"])
def test_a_value_of_a_header_has_no_space_around_it_and_no_control_characters(value):
    with pytest.raises(WireError, match="'X-A'"):
        check_headers({"X-A": value})


@pytest.mark.parametrize("method", ["get", "head", "post", "put", "patch", "delete"])
def test_every_verb_of_lago_is_taken(method):
    assert check_method(method) == method.upper()


def test_query_values_of_every_kind():
    assert encode_query({"a": False, "b": 1.5, "c": Decimal("1.10"), "d": datetime(2026, 1, 2, tzinfo=UTC)}) == [
        ("a", "false"),
        ("b", "1.5"),
        ("c", "1.10"),
        ("d", "2026-01-02T00:00:00+00:00"),
    ]
    assert encode_query({"a": ("x", None), "b": frozenset({"y"}), "c[]": []}) == [("a[]", "x"), ("b[]", "y")]
