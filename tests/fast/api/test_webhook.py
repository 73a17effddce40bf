"""What an Airflow HTTP connection means as a webhook, and how mistakes are told."""

from __future__ import annotations

import pytest

from airflow_provider_lago.api.connection import ConnectionSettingsError
from airflow_provider_lago.api.webhook import Webhook, parse_webhook

SECRET = "hunter2hunter2"


def webhook(**fields) -> Webhook:
    given = {"host": "https://hooks.example.com", "schema": None, "port": None, "login": None, "password": None}
    return parse_webhook(conn_id="hook", **{**given, "extra": {}, **fields})


def problem(**fields) -> str:
    with pytest.raises(ConnectionSettingsError) as caught:
        webhook(**fields)
    told = str(caught.value)
    assert told.startswith("Connection 'hook': ")
    assert SECRET not in told + repr(caught.value)
    assert "\n" not in told
    return told


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://hooks.example.com/"),
        ({"host": "hooks.example.com"}, "http://hooks.example.com/"),
        ({"host": "hooks.example.com", "schema": "https"}, "https://hooks.example.com/"),
        ({"host": "hooks.example.com", "schema": "HTTPS", "port": 443}, "https://hooks.example.com/"),
        ({"host": "hooks.example.com:8080"}, "http://hooks.example.com:8080/"),
        ({"host": "hooks.example.com", "port": "8080"}, "http://hooks.example.com:8080/"),
        ({"host": "hooks.example.com", "port": 0}, "http://hooks.example.com/"),
        ({"host": "https://hooks.example.com", "schema": "http"}, "https://hooks.example.com/"),
        ({"host": "::1", "port": 80}, "http://[::1]/"),
        ({"host": "https://hooks.example.com/a/b"}, "https://hooks.example.com/a/b"),
        ({"host": "https://hooks.example.com/a/b/"}, "https://hooks.example.com/a/b/"),
        ({"host": "https://hooks.example.com/a/", "path": "/b"}, "https://hooks.example.com/a/b"),
        ({"host": "https://hooks.example.com/a", "path": "b/"}, "https://hooks.example.com/a/b/"),
        ({"host": "https://hooks.example.com/a", "port": 8443, "path": "b"}, "https://hooks.example.com:8443/a/b"),
        ({"host": "https://hooks.example.com/a?k=1"}, "https://hooks.example.com/a?k=1"),
        ({"host": "https://hooks.example.com/a?k=1", "path": "b"}, "https://hooks.example.com/a/b?k=1"),
        ({"path": "b?k=http://x"}, "https://hooks.example.com/b?k=http://x"),
        ({"path": "//evil.example.com/x"}, "https://hooks.example.com/evil.example.com/x"),
        ({"path": "@evil.example.com"}, "https://hooks.example.com/@evil.example.com"),
        ({"path": None}, "https://hooks.example.com/"),
    ],
)
def test_the_url_is_read_as_airflows_http_provider_reads_it(fields, url):
    assert webhook(**fields).url == url


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": ""}, "host is empty"),
        ({"host": "ftp://x"}, "https:// or http://"),
        ({"host": "a b"}, "space"),
        ({"host": "https://me:hunter2hunter2@x"}, "login and password"),
        ({"host": "https://x/#frag"}, "before any '#'"),
        ({"host": "https://x:99999"}, "malformed port"),
        ({"host": "https://"}, "not a host name"),
        ({"host": "https://x..y"}, "not a host name"),
        ({"host": "x", "schema": "api/v1"}, "schema must be"),
        ({"port": "many"}, "port must be|port is"),
        ({"host": "x:80", "port": 81}, "clear one of them"),
        ({"path": "https://evil.example.com"}, "below the host"),
        ({"path": "/../admin"}, "as a step"),
        ({"path": "/%2e%2e/admin"}, "as a step"),
        ({"path": "a\r\nX: 1"}, "percent-encode"),
        ({"path": "a b"}, "percent-encode"),
        ({"path": "100%"}, "percent-encode"),
        ({"path": "a#b"}, "'#'"),
        ({"host": "https://x?a=1", "path": "p?b=2"}, "one of them"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(fields, said):
    told = problem(**fields)
    assert any(option in told for option in said.split("|")), told


class TestCredentials:
    def test_login_and_password_are_basic_authentication(self):
        assert webhook(login="me", password=SECRET).auth == ("me", SECRET)
        assert webhook(login="me").auth == ("me", "")

    def test_a_password_without_login_is_not_used(self):
        assert webhook(password=SECRET).auth is None

    def test_a_stored_mask_is_refused(self):
        assert "mask" in problem(login="me", password="***")
        assert "mask" in problem(extra={"headers": {"X-Token": "***"}})

    def test_nothing_secret_is_shown(self):
        made = webhook(
            path=f"/{SECRET}?token={SECRET}",
            login="me",
            password=SECRET,
            extra={"X-Token": SECRET, "proxy": f"http://me:{SECRET}@proxy:3128"},
        )
        assert SECRET not in repr(made)
        assert made.origin == "https://hooks.example.com"

    def test_what_has_to_be_masked_is_known_and_common_words_are_not_part_of_it(self):
        made = webhook(
            path="/p?token=tok-in-query&page=seventeen",
            extra={
                "headers": {"Authorization": "Bearer tok-in-header", "Content-Type": "application/json"},
                "X-Other": "plain-secret",
                "proxy": "http://me:p%40ss-proxy@proxy:3128",
            },
        )
        assert set(made.secrets()) == {
            "Bearer tok-in-header",
            "tok-in-header",
            "plain-secret",
            "tok-in-query",
            "p%40ss-proxy",
            "p@ss-proxy",
        }

    def test_two_ways_of_authentication_contradict_each_other(self):
        assert "contradict" in problem(login="me", extra={"headers": {"authorization": SECRET}})


class TestHeaders:
    def test_they_come_from_headers_and_in_the_older_form_from_other_keys(self):
        made = webhook(extra={"headers": {"X-One": " 1 "}, "X-Two": "2", "X-Three": None})
        assert made.headers == {"X-One": "1", "X-Two": "2"}

    def test_options_of_the_http_provider_are_no_headers(self):
        made = webhook(
            extra={
                "timeout": 5,
                "allow_redirects": True,
                "max_redirects": 3,
                "stream": True,
                "check_response": False,
                "trust_env": False,
                "auth_type": "HTTPBasicAuth",
                "srv_lookup": False,
                "session_conf": {},
                "verify_ssl": True,
            }
        )
        assert made.headers == {}
        assert made.trust_env is False

    @pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "ä"])
    def test_header_injection_is_refused(self, value):
        assert "line break" in problem(extra={"headers": {"X-A": value}})
        assert "line break" in problem(extra={"X-A": value})

    @pytest.mark.parametrize("name", ["X A", "X:A", "X\r\nY", ""])
    def test_a_name_that_is_none_is_refused(self, name):
        assert "name of a header" in problem(extra={"headers": {name: "1"}})

    @pytest.mark.parametrize("name", ["Host", "Content-Length", "transfer-encoding", "Idempotency-Key"])
    def test_headers_of_the_single_post_cannot_be_given(self, name):
        assert "each POST" in problem(extra={"headers": {name: "1"}})

    def test_what_is_neither_option_nor_text_is_refused(self):
        assert "'retries'" in problem(extra={"retries": 3})
        assert "map" in problem(extra={"headers": "X-A: 1"})


class TestOptions:
    @pytest.mark.parametrize(
        ("extra", "seconds"), [({}, 10), ({"timeout": 3}, 3), ({"timeout": "2.5"}, 2.5), ({"timeout": 600}, 60)]
    )
    def test_timeout(self, extra, seconds):
        assert webhook(extra=extra).timeout == seconds

    @pytest.mark.parametrize("value", [True, "soon", -1, [5, 30], float("nan")])
    def test_a_timeout_that_is_none(self, value):
        assert "'timeout'" in problem(extra={"timeout": value})

    @pytest.mark.parametrize(
        ("extra", "verify"),
        [({}, True), ({"verify": False}, False), ({"verify": "False"}, False), ({"verify_ssl": "/ca.pem"}, "/ca.pem")],
    )
    def test_verify(self, extra, verify):
        assert webhook(extra=extra).verify == verify

    @pytest.mark.parametrize(
        "extra",
        [
            {"proxy": "http://p:1"},
            {"proxies": {"https": "http://p:1", "http": "http://q:1"}},
            {"proxies": {"all": "http://p:1"}},
        ],
    )
    def test_proxy(self, extra):
        assert webhook(extra=extra).proxy == "http://p:1"

    def test_a_proxy_that_is_none_is_told_without_its_credentials(self):
        assert "'proxy'" in problem(extra={"proxy": f"socks5://me:{SECRET}@p"})

    @pytest.mark.parametrize("extra", [{"cert": "/c.pem"}, {"srv_lookup": True}, {"auth_type": "HTTPDigestAuth"}])
    def test_what_cannot_be_done_is_refused_and_not_left_out(self, extra):
        assert f"{next(iter(extra))!r} cannot be used" in problem(extra=extra)


class TestEdges:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"host": "https://x\\y"}, "backslash"),
            ({"host": "https://[fe80::1%eth0]"}, "not a host name"),
            ({"host": "https://[::1"}, "malformed port or IPv6"),
            ({"host": "https://x#"}, "before any '#'"),
            ({"host": "https://x/a b"}, "space"),
            ({"host": "https://x/../y"}, "as a step"),
            ({"path": "a\\b"}, "backslash"),
            ({"path": "a/./b"}, "as a step"),
            ({"path": "%2e"}, "as a step"),
            ({"path": "a?b#c"}, "'#'"),
            ({"path": "a?b=%zz"}, "percent-encode"),
            ({"path": "//https://evil.example.com"}, "below the host"),
            ({"port": 65536}, "port must be"),
            ({"port": -1}, "port must be"),
            ({"host": "https://x:0"}, "port must be"),
            ({"login": "me:you"}, "login must not hold ':'"),
        ],
    )
    def test_what_is_just_beyond_is_refused(self, fields, said):
        assert said in problem(**fields)

    @pytest.mark.parametrize(
        ("fields", "url"),
        [
            ({"port": 65535}, "https://hooks.example.com:65535/"),
            ({"port": ""}, "https://hooks.example.com/"),
            ({"port": "0"}, "https://hooks.example.com/"),
            ({"host": "hooks.example.com.", "schema": "https"}, "https://hooks.example.com./"),
            ({"host": "https://[::1]:8080/a"}, "https://[::1]:8080/a"),
            ({"path": " /a..b/c. "}, "https://hooks.example.com/a..b/c."),
            ({"path": "a%20b?c=%2F"}, "https://hooks.example.com/a%20b?c=%2F"),
            ({"host": "hooks.example.com?to=https://x"}, "http://hooks.example.com/?to=https://x"),
        ],
    )
    def test_what_is_just_within_is_taken(self, fields, url):
        assert webhook(**fields).url == url

    @pytest.mark.parametrize("name", ["Connection", "Content-Length", "Host", "Idempotency-Key", "Transfer-Encoding"])
    def test_the_headers_of_a_single_post_are_ours(self, name):
        assert "each POST" in problem(extra={name: "1"})

    @pytest.mark.parametrize(
        "name", ["Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Type", "User-Agent"]
    )
    def test_headers_that_are_no_secrets_do_not_blind_the_log(self, name):
        assert set(webhook(extra={"headers": {name: "gzip", "X-Token": "t0"}}).secrets()) == {"t0"}

    @pytest.mark.parametrize(
        "name",
        [
            "allow_redirects",
            "check_response",
            "max_redirects",
            "session_conf",
            "stream",
            "tcp_keep_alive",
            "tcp_keep_alive_count",
            "tcp_keep_alive_idle",
            "tcp_keep_alive_interval",
        ],
    )
    def test_options_that_mean_nothing_for_a_webhook_are_no_headers(self, name):
        assert webhook(extra={name: "5"}).headers == {}

    @pytest.mark.parametrize(
        ("extra", "fine"),
        [
            ({"cert": "x"}, False),
            ({"srv_lookup": "true"}, False),
            ({"auth_type": "airflow.auth.HTTPDigestAuth"}, False),
            ({"auth_type": 5}, False),
            ({"auth_kwargs": {"a": 1}}, False),
            ({"cert": False}, True),
            ({"auth_type": "requests.auth.HTTPBasicAuth"}, True),
            ({"auth_type": "basic"}, True),
        ],
    )
    def test_options_that_a_webhook_lacks_are_refused_where_they_are_used(self, extra, fine):
        if fine:
            assert webhook(extra=extra).headers == {}
        else:
            assert "cannot be used for a webhook" in problem(extra=extra)

    @pytest.mark.parametrize(("value", "seconds"), [(0.001, 0.001), (60, 60), (60.5, 60), (" 7 ", 7)])
    def test_a_timeout_is_more_than_nothing_and_at_most_a_minute(self, value, seconds):
        assert webhook(extra={"timeout": value}).timeout == seconds

    def test_a_timeout_of_nothing_is_none(self):
        assert "'timeout'" in problem(extra={"timeout": 0})

    @pytest.mark.parametrize(("value", "flag"), [(None, True), (True, True), ("True", True), (False, False)])
    def test_the_environment_counts_unless_it_is_said_not_to(self, value, flag):
        assert webhook(extra={"trust_env": value}).trust_env is flag

    def test_a_flag_that_is_none(self):
        assert "'trust_env'" in problem(extra={"trust_env": "perhaps"})

    @pytest.mark.parametrize(
        ("extra", "verify"),
        [({"verify": True}, True), ({"verify": " True "}, True), ({"verify": " /ca.pem "}, "/ca.pem")],
    )
    def test_certificates(self, extra, verify):
        assert webhook(extra=extra).verify == verify

    def test_certificates_that_are_neither_flag_nor_path(self):
        assert "'verify'" in problem(extra={"verify": 5})

    @pytest.mark.parametrize(
        "value", ["http://", "http://p:0", "http://p:x", "p:3128", "http://p q", 5, {"all": 5}, "ftp://p:1"]
    )
    def test_a_proxy_that_cannot_be_used_is_refused(self, value):
        assert "'proxy'" in problem(extra={"proxy": value})

    def test_a_map_of_proxies_may_have_none_for_the_webhook(self):
        assert webhook(extra={"proxies": {"http": "http://p:1"}}).proxy is None
        assert webhook(host="x.example.com", extra={"proxies": {"http": "http://p:1"}}).proxy == "http://p:1"
