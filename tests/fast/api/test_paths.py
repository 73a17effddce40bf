"""Which URL a call goes to, and the ids that may not stand in it."""

from __future__ import annotations

import pytest

from airflow_provider_lago.api.paths import PathError, clean, path, refuse_dotted_ids, url_for

ROOT = "https://lago.example.com/billing/api/v1"


@pytest.mark.parametrize(
    ("endpoint", "sent"),
    [
        ("customers", "customers"),
        ("/customers", "customers"),
        ("api/v1/customers", "customers"),
        ("/api/v1/customers", "customers"),
        ("api/v1/api/v1/customers", "api/v1/customers"),
        ("customers/a%2Fb", "customers/a%2Fb"),
        ("customers/a b", "customers/a%20b"),
        ("customers/müller", "customers/m%C3%BCller"),
        ("customers/user@example", "customers/user@example"),
        ("customers/a:b", "customers/a:b"),
        ("customers/100%25", "customers/100%25"),
        ("customers/%252e%252e", "customers/%252e%252e"),
    ],
)
def test_an_endpoint_has_one_form(endpoint, sent):
    assert clean(endpoint) == sent
    assert clean(sent) == clean(clean(sent)) if not sent.startswith("api/v1/") else True
    assert url_for(ROOT, endpoint) == f"{ROOT}/{sent}"


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("https://evil.com/customers", "not a URL"),
        ("HTTP://evil.com", "not a URL"),
        ("javascript:alert(1)", "not a URL"),
        ("//evil.com/customers", "not a URL"),
        ("///evil.com", "not a URL"),
        ("../organizations", "'..'"),
        ("customers/../organizations", "'..'"),
        ("customers/%2e%2e/organizations", "'..'"),
        ("customers/%2E./organizations", "'..'"),
        ("customers/./x", "'..'"),
        ("customers/%2e", "'..'"),
        ("customers/a%2F..%2Fb", "'..'"),
        ("customers/..%5Cx", "'..'"),
        ("customers\\..\\x", "backslash"),
        ("customers/a\nb", "control"),
        ("customers\n", "control"),
        ("customers/a\x00b", "control"),
        ("customers/a%00b", "control"),
        ("customers/a%0d%0aX: y", "control"),
        ("customers ", "space"),
        ("customers?external_id=a", "params"),
        ("customers/a#b", "'#'"),
        ("customers/50%", "%25"),
        ("customers/%zz", "%25"),
        ("", "empty"),
        ("/", "empty"),
        ("api/v1", "empty"),
        ("api/v1/", "empty"),
        ("customers/", "empty segment"),
        ("customers//wallets", "empty segment"),
        ("customers/\ud800", "UTF-8"),
        (None, "text"),
    ],
)
def test_an_endpoint_that_leads_elsewhere_is_refused(endpoint, told):
    with pytest.raises(PathError) as caught:
        clean(endpoint)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "sent"),
    [
        (("customers", "a/b"), "customers/a%2Fb"),
        (("customers", "a?b#c"), "customers/a%3Fb%23c"),
        (("customers", "100%"), "customers/100%25"),
        (("customers", "a%2Fb"), "customers/a%252Fb"),
        (("customers", "a b"), "customers/a%20b"),
        (("customers", "Ünï"), "customers/%C3%9Cn%C3%AF"),
        (("customers", "a\\b"), "customers/a%5Cb"),
        (("customers", "x", "wallets", 7), "customers/x/wallets/7"),
        (("customers", "https://x"), "customers/https%3A%2F%2Fx"),
    ],
)
def test_an_id_is_one_segment_whatever_it_holds(parts, sent):
    assert path(*parts) == sent
    assert clean(path(*parts)) == sent


@pytest.mark.parametrize(
    "parts",
    [(), ("customers", ""), ("",), ("customers", "."), ("customers", ".."), ("events", "a/../b"), ("events", "..\\b"),
     ("customers", "a\nb"), ("customers", "a\x00"), ("customers", None), ("customers", True), ("customers", 1.5),
     ("customers", b"x"), ("customers", "\udfff")],
)  # fmt: skip
def test_an_id_that_leads_elsewhere_is_refused(parts):
    with pytest.raises(PathError):
        path(*parts)


@pytest.mark.parametrize("method", ["DELETE", "put", "PATCH", "POST"])
@pytest.mark.parametrize(
    "endpoint", ["customers/a.b", "subscriptions/a%2Eb", "customers/a.b/checkout_url", "plans/v1.2"]
)
def test_a_write_by_a_dotted_id_is_refused_because_lago_would_change_another_object(method, endpoint):
    with pytest.raises(PathError, match=r"first dot and would change '(a|v1)'"):
        refuse_dotted_ids(method, endpoint)


@pytest.mark.parametrize("resource", ["customers", "subscriptions"])
def test_a_read_by_a_dotted_id_is_refused_with_the_list_filter_as_the_way_out(resource):
    with pytest.raises(PathError, match="external_id"):
        refuse_dotted_ids("GET", f"{resource}/john@acme.com")


def test_other_reads_by_a_dotted_id_are_refused_too():
    with pytest.raises(PathError, match="list plans"):
        refuse_dotted_ids("GET", "plans/v1.2")


@pytest.mark.parametrize(
    ("method", "endpoint"),
    [
        ("GET", "events/a.b"),
        ("get", "events/2026.11.22"),
        ("GET", "customers/a"),
        ("DELETE", "customers/a-b_c~d"),
        ("POST", "events"),
    ],
)
def test_paths_that_lago_reads_whole_pass(method, endpoint):
    refuse_dotted_ids(method, endpoint)
