"""What the fields of an Airflow connection mean, and how mistakes are told."""

from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_lago.api.addresses import is_inner_host, origin_of
from airflow_provider_lago.api.connection import (
    EXTRA_KEYS,
    ConnectionSettings,
    ConnectionSettingsError,
    parse_connection,
)

KEY = "9f8b7a6c-5d4e-4f3a-8b2c-1d0e9f8a7b6c"


def settings(**fields) -> ConnectionSettings:
    given = {"host": None, "schema": None, "port": None, "login": None, "password": KEY, "extra": {}}
    return parse_connection(conn_id="billing", **{**given, **fields})


def problem(**fields) -> str:
    with pytest.raises(ConnectionSettingsError) as caught:
        settings(**fields)
    told = str(caught.value)
    assert told.startswith("Connection 'billing': ")
    assert KEY not in told + repr(caught.value)
    assert "\n" not in told
    return told


def test_nothing_but_a_key_means_lago_cloud_us_with_checked_certificates():
    made = settings()
    assert made == ConnectionSettings(
        conn_id="billing",
        api_url="https://api.getlago.com/api/v1",
        api_key=KEY,
        ingest_url=None,
        connect_timeout=10.0,
        read_timeout=30.0,
        verify=True,
        proxy=None,
        requests_per_second=None,
    )


def test_settings_do_not_show_the_key_or_the_proxy():
    shown = repr(settings(extra={"proxy": "http://me:hunter2@proxy:3128"}))
    assert KEY not in shown
    assert "hunter2" not in shown


class TestAddress:
    @pytest.mark.parametrize(
        ("fields", "url"),
        [
            ({"host": ""}, "https://api.getlago.com/api/v1"),
            ({"host": "  "}, "https://api.getlago.com/api/v1"),
            ({"extra": {"region": "us"}}, "https://api.getlago.com/api/v1"),
            ({"extra": {"region": "EU"}}, "https://api.eu.getlago.com/api/v1"),
            ({"extra": {"region": None}}, "https://api.getlago.com/api/v1"),
            ({"port": 443}, "https://api.getlago.com/api/v1"),
            ({"port": 0}, "https://api.getlago.com/api/v1"),
            ({"schema": "https"}, "https://api.getlago.com/api/v1"),
            (
                {"host": "https://api.eu.getlago.com", "extra": {"region": "eu"}},
                "https://api.eu.getlago.com/api/v1",
            ),
            ({"host": "lago.example.com"}, "https://lago.example.com/api/v1"),
            ({"host": "lago.example.com."}, "https://lago.example.com/api/v1"),
            ({"host": "https://Lago.Example.COM/"}, "https://lago.example.com/api/v1"),
            ({"host": "HTTPS://lago.example.com"}, "https://lago.example.com/api/v1"),
            ({"host": "https://lago.example.com/api/v1"}, "https://lago.example.com/api/v1"),
            ({"host": "https://lago.example.com/api/v1/"}, "https://lago.example.com/api/v1"),
            ({"host": "https://lago.example.com/api/v1/api/v1//"}, "https://lago.example.com/api/v1"),
            ({"host": "https://lago.example.com/billing/api/v1"}, "https://lago.example.com/billing/api/v1"),
            ({"host": "lago.example.com:8443/billing/"}, "https://lago.example.com:8443/billing/api/v1"),
            ({"host": "lago.example.com/billing", "port": 8443}, "https://lago.example.com:8443/billing/api/v1"),
            ({"host": "lago.example.com:8443", "port": "8443"}, "https://lago.example.com:8443/api/v1"),
            ({"host": "https://lago.example.com:443"}, "https://lago.example.com/api/v1"),
            ({"host": "http://localhost:3000"}, "http://localhost:3000/api/v1"),
            ({"host": "http://localhost:80"}, "http://localhost/api/v1"),
            ({"host": "localhost", "schema": "http", "port": 3000}, "http://localhost:3000/api/v1"),
            ({"host": "localhost", "schema": "HTTP", "port": "3000"}, "http://localhost:3000/api/v1"),
            ({"host": "https://lago", "schema": "api/v1", "port": 3000}, "https://lago:3000/api/v1"),
            ({"host": "https://lago", "schema": "/billing/api/v1/"}, "https://lago/billing/api/v1"),
            ({"host": "https://lago/api/v1", "schema": "api/v1"}, "https://lago/api/v1"),
            ({"host": "::1", "port": 3000}, "https://[::1]:3000/api/v1"),
            ({"host": "[::1]:3000", "schema": "http"}, "http://[::1]:3000/api/v1"),
            ({"host": "http://[0:0:0:0:0:0:0:1]:3000/"}, "http://[::1]:3000/api/v1"),
            ({"host": "http://192.168.0.7:3000"}, "http://192.168.0.7:3000/api/v1"),
            ({"host": "http://lago_api:3000"}, "http://lago_api:3000/api/v1"),
            ({"host": "https://app.example.com/api/v1"}, "https://app.example.com/api/v1"),
        ],
    )
    def test_every_usual_way_to_write_the_address_leads_to_one_url(self, fields, url):
        assert settings(**fields).api_url == url

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"host": "https://app.getlago.com"}, "https://api.getlago.com"),
            ({"host": "https://app.getlago.com/api/v1"}, "https://api.getlago.com"),
            ({"host": "app.eu.getlago.com"}, "https://api.eu.getlago.com"),
            ({"host": "app.example.com"}, "https://api.example.com"),
            ({"host": "www.getlago.com"}, "https://api.getlago.com"),
            ({"host": "https://user:pw@lago.example.com"}, "user or password"),
            ({"host": "https://lago.example.com?x=1"}, "'?'"),
            ({"host": "https://lago.example.com?"}, "'?'"),
            ({"host": "https://lago.example.com/#top"}, "'#'"),
            ({"host": "https://lago.example.com#"}, "'#'"),
            ({"host": "ftp://lago.example.com"}, "https://"),
            ({"host": "https:/lago.example.com"}, "not a URL"),
            ({"host": "https:lago.example.com"}, "not a URL"),
            ({"host": "https://"}, "no host name"),
            ({"host": "//lago.example.com"}, "no host name"),
            ({"host": "lago example.com"}, "space"),
            ({"host": "lago.example.com\n.evil.com"}, "space"),
            ({"host": "https://lago.example.com\\@evil.com"}, "backslash"),
            ({"host": "läger.example.com"}, "xn--"),
            ({"host": "lago..example.com"}, "not a host name"),
            ({"host": "https://lago.example.com:99999"}, "port"),
            ({"host": "https://lago.example.com:0"}, "port"),
            ({"host": "https://lago.example.com:x"}, "port"),
            ({"host": "https://[::1"}, "IPv6"),
            ({"host": "https://[fe80::1%25eth0]"}, "IPv6"),
            ({"host": "http://2130706433"}, "IPv4"),
            ({"host": "http://0x7f.1"}, "IPv4"),
            ({"host": "http://127.1"}, "IPv4"),
            ({"host": "https://lago.example.com/../x"}, "path"),
            ({"host": "https://lago.example.com/a%2Fb"}, "path"),
            ({"host": "https://lago.example.com/api/v1/customers"}, "/api/v1"),
            ({"host": "https://lago.example.com/api/v2"}, "/api/v1"),
            ({"host": "lago.example.com:8443", "port": 443}, "port is 443"),
            ({"host": "http://localhost", "schema": "https"}, "schema is https"),
            ({"host": "localhost", "schema": "mysql"}, "schema"),
            ({"host": "localhost", "port": "abc"}, "port"),
            ({"host": "localhost", "port": 65536}, "port"),
            ({"host": "localhost", "port": -1}, "port"),
            ({"port": 3000}, "host is empty"),
            ({"schema": "http"}, "host is empty"),
            ({"extra": {"region": "asia"}}, "'region'"),
            ({"extra": {"region": 7}}, "'region'"),
            ({"host": "https://api.getlago.com", "extra": {"region": "eu"}}, "api.eu.getlago.com"),
            ({"host": "https://lago.example.com", "extra": {"region": "us"}}, "region"),
        ],
    )
    def test_an_address_that_cannot_be_the_api_is_refused_with_the_fix(self, fields, told):
        assert told in problem(**fields)

    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "lago.localhost",
            "lago-api",
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "[::1]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
            "lago.local",
            "lago.corp.internal",
            "host.docker.internal",
            "lago.billing.svc",
            "lago.billing.svc.cluster.local",
            "lago.lan",
            "lago.home.arpa",
            "lago.corp",
            "lago.home",
            "lago.intranet",
            "lago.localdomain",
            "lago.private",
            "lago.test",
        ],
    )
    def test_plain_http_is_fine_inside_a_network(self, host):
        assert settings(host=f"http://{host}:3000").api_url == f"http://{host}:3000/api/v1".replace(
            "[::ffff:10.0.0.1]", "[::ffff:a00:1]"
        )

    @pytest.mark.parametrize(
        "host", ["lago.example.com", "8.8.8.8", "172.32.0.1", "[2001:4860:4860::8888]", "[::ffff:8.8.8.8]", "1.0.0.0"]
    )
    def test_plain_http_to_a_public_address_needs_a_word(self, host):
        assert "allow_plain_http" in problem(host=f"http://{host}")
        assert settings(host=f"http://{host}", extra={"allow_plain_http": "true"}).api_url.startswith("http://")

    def test_lago_cloud_is_never_called_over_plain_http(self):
        assert "https://" in problem(host="http://api.getlago.com", extra={"allow_plain_http": True})

    def test_the_ingest_address_is_read_like_the_host(self):
        made = settings(extra={"ingest_host": "https://ingest.getlago.com/api/v1/"})
        assert made.ingest_url == "https://ingest.getlago.com/api/v1"
        assert "'ingest_host'" in problem(extra={"ingest_host": "http://ingest.getlago.com"})
        assert "'ingest_host'" in problem(extra={"ingest_host": 7})
        made = settings(extra={"ingest_host": "http://ingest.example.com", "allow_plain_http": True})
        assert made.ingest_url == "http://ingest.example.com/api/v1"

    def test_a_public_looking_suffix_does_not_pass_for_an_inner_one(self):
        assert not is_inner_host("evil-local.com")
        assert not is_inner_host("mylocal.example")
        assert is_inner_host("lago.local.")

    def test_origins_are_equal_when_servers_are(self):
        assert origin_of("https://x.com/a") == origin_of("HTTPS://X.com:443/b?c")
        assert origin_of("https://x.com") != origin_of("http://x.com")
        assert origin_of("https://x.com") != origin_of("https://x.com:8443")
        assert origin_of("https://x.com") != origin_of("https://x.com@evil.com")
        assert origin_of("https://x.com./a") == origin_of("https://x.com")
        assert origin_of("HTTP://x.com") == ("http", "x.com", 80)
        assert origin_of("http:///a") == ("http", "", 80)


class TestKey:
    @pytest.mark.parametrize("password", [None, "", "  \n"])
    def test_a_missing_key_is_said_to_belong_in_the_password(self, password):
        assert "password is empty" in problem(password=password)

    def test_space_around_the_key_is_a_copying_accident_and_dropped(self):
        assert settings(password=f" {KEY}\n").api_key == KEY

    @pytest.mark.parametrize(
        "password", ["ab cd", "ab\ncd", "ab\tcd", "ab\x00cd", "schlüssel", "ab\u200bcd", "ab\x7fcd"]
    )
    def test_a_key_with_characters_that_no_key_has_is_refused_unseen(self, password):
        told = problem(password=password)
        assert "password" in told
        assert password not in told

    @pytest.mark.parametrize("password", ["!~", "a!b~c"])
    def test_a_key_may_hold_every_character_that_is_no_space(self, password):
        assert settings(password=password).api_key == password

    def test_the_mask_has_a_sentence_of_its_own(self):
        assert "***" in problem(password="***")

    def test_a_pasted_header_is_refused(self):
        assert "Bearer" in problem(password=f"Bearer {KEY}")

    def test_a_key_in_the_login_is_told_its_place(self):
        assert "password field" in problem(login=KEY)

    @pytest.mark.parametrize(
        "name", ["api_key", "apikey", "API-Key", "token", "key", "password", "secret", "Authorization"]
    )
    def test_a_key_in_the_extra_is_told_its_place(self, name):
        told = problem(extra={name: KEY})
        assert "password field" in told
        assert repr(name) in told

    @pytest.mark.parametrize("field", [{"host": KEY}, {"host": f"https://{KEY}"}, {"extra": {"ingest_host": KEY}}])
    def test_a_key_in_an_address_is_not_shown(self, field):
        assert "password field" in problem(**field)


class TestExtra:
    def test_null_and_empty_text_mean_not_set(self):
        assert settings(extra=dict.fromkeys(EXTRA_KEYS)) == settings()
        assert settings(extra=dict.fromkeys(EXTRA_KEYS, "")) == settings()

    def test_an_unknown_key_is_named_with_its_nearest_match_and_all_allowed_ones(self):
        told = problem(extra={"time_out": 30})
        assert "'time_out'" in told
        assert "did you mean 'timeout'" in told
        assert all(key in told for key in EXTRA_KEYS)

    def test_an_unknown_key_is_refused_also_when_empty(self):
        assert "'colour'" in problem(extra={"colour": None})

    @pytest.mark.parametrize("value", [5, 5.0, "5", " 5 "])
    def test_timeout_is_seconds_as_number_or_text(self, value):
        made = settings(extra={"timeout": value})
        assert (made.connect_timeout, made.read_timeout) == (5.0, 5.0)

    def test_a_long_timeout_does_not_lengthen_the_connect_timeout(self):
        made = settings(extra={"timeout": 120})
        assert (made.connect_timeout, made.read_timeout) == (10.0, 120.0)

    @pytest.mark.parametrize("key", ["timeout", "requests_per_second"])
    @pytest.mark.parametrize("value", [0, -1, "abc", "nan", "inf", float("nan"), float("inf"), True, [1], 1e9, {}])
    def test_a_number_that_is_none_is_refused_without_showing_it(self, key, value):
        told = problem(extra={key: value})
        assert repr(key) in told
        assert "abc" not in told

    @pytest.mark.parametrize(("key", "most"), [("timeout", 3600), ("requests_per_second", 1_000_000)])
    def test_a_number_may_be_as_large_as_the_message_says(self, key, most):
        assert settings(extra={key: most})
        told = problem(extra={key: most + 1})
        assert f"at most {most:g}" in told
        assert {"timeout": "seconds", "requests_per_second": "requests"}[key] in told

    def test_pace(self):
        assert settings(extra={"requests_per_second": "2.5"}).requests_per_second == 2.5

    @pytest.mark.parametrize(
        ("value", "verify"),
        [
            *((value, True) for value in (True, 1, "true", "1", "YES", "on")),
            *((value, False) for value in (False, 0, "False", "0", "no", "off")),
        ],
    )
    def test_verify_tls_as_bool_or_text(self, value, verify):
        assert settings(extra={"verify_tls": value}).verify is verify

    def test_a_flag_that_is_none_is_refused(self):
        assert "'verify_tls'" in problem(extra={"verify_tls": "perhaps"})
        assert "'allow_plain_http'" in problem(extra={"allow_plain_http": 7})

    def test_ca_bundle(self):
        assert settings(extra={"ca_bundle": "/etc/ca.pem", "verify_tls": True}).verify == "/etc/ca.pem"
        assert "contradict" in problem(extra={"ca_bundle": "/etc/ca.pem", "verify_tls": False})
        assert "'ca_bundle'" in problem(extra={"ca_bundle": True})

    def test_proxy(self):
        assert settings(extra={"proxy": "http://proxy:3128/"}).proxy == "http://proxy:3128"
        assert settings(extra={"proxy": "https://a:b@proxy:3128"}).proxy == "https://a:b@proxy:3128"
        assert settings(extra={"proxy": "http://a!~:b@proxy"}).proxy == "http://a!~:b@proxy"

    @pytest.mark.parametrize(
        "proxy",
        [
            "socks5://me:hunter2@proxy:1080",
            "me:hunter2@proxy:3128",
            "http://me:hunter2@",
            "http://me:hunter2@proxy:99999",
            "http://me:hunter2@proxy/path",
            "http://me:hun ter2@proxy",
            "http://me:hunter2@proxy?x=1",
            "http://me:hunter2@proxy#x",
            "http://me:hunter2@proxy:0",
            "http://me:hunter2@pröxy",
            7,
        ],
    )
    def test_a_malformed_proxy_is_refused_without_its_credentials(self, proxy):
        told = problem(extra={"proxy": proxy})
        assert "'proxy'" in told
        assert "hunter2" not in told
        assert "ter2" not in told


def test_the_error_survives_pickling():
    with pytest.raises(ConnectionSettingsError) as caught:
        settings(password="")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert (again.conn_id, again.problem) == (caught.value.conn_id, caught.value.problem)


def connection_classes() -> list[type]:
    from airflow.models.connection import Connection

    try:
        from airflow.sdk import Connection as TaskConnection
    except ImportError:
        return [Connection]
    return [Connection, TaskConnection]


def through_uri(fields: dict, made_by: type):
    extra = fields.get("extra")
    connection = made_by(
        conn_id="billing", conn_type="lago", **{**fields, "extra": json.dumps(extra) if extra else None}
    )
    uri = connection.get_uri()
    return made_by.from_uri(uri, conn_id="billing") if hasattr(made_by, "from_uri") else made_by("billing", uri=uri)


@pytest.mark.parametrize("made_by", connection_classes(), ids=lambda found: found.__module__)
@pytest.mark.parametrize("password", [KEY, "a/b:c@d?e#f%25&=+"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"host": "https://api.getlago.com"},
        {"host": "https://api.getlago.com/", "port": 443},
        {"host": "http://localhost:3000"},
        {"host": "localhost", "port": 3000, "schema": "http"},
        {"host": "https://lago.example.com:8443/billing/api/v1"},
        {"host": "lago.example.com/billing", "port": 8443},
        {"host": "::1", "port": 3000, "schema": "http"},
        {"host": "http://[::1]:3000"},
        {"extra": {"region": "eu", "timeout": 5, "verify_tls": False, "proxy": "http://a:b@p:3128"}},
        {"extra": {"region": None, "timeout": None, "verify_tls": True, "ca_bundle": None}},
    ],
    ids=str,
)
def test_a_connection_means_the_same_after_airflow_made_a_uri_of_it(fields, password, made_by):
    again = through_uri({**fields, "password": password}, made_by)
    assert settings(
        host=again.host,
        schema=again.schema,
        port=again.port,
        login=again.login,
        password=again.password,
        extra=again.extra_dejson,
    ) == settings(**{**fields, "password": password})


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (f"lago://:{KEY}@", "https://api.getlago.com/api/v1"),
        (f"lago://:{KEY}@/?region=eu&timeout=30&verify_tls=true", "https://api.eu.getlago.com/api/v1"),
        (f"lago://:{KEY}@lago.example.com", "https://lago.example.com/api/v1"),
        (f"lago://:{KEY}@localhost:3000/http", "http://localhost:3000/api/v1"),
        (f"lago://http://:{KEY}@localhost:3000", "http://localhost:3000/api/v1"),
        (f"lago://https://:{KEY}@lago.example.com:8443/api/v1", "https://lago.example.com:8443/api/v1"),
        (f"lago://:{KEY}@http%3A%2F%2Flocalhost%3A3000", "http://localhost:3000/api/v1"),
    ],
)
def test_hand_written_uris(uri, url):
    from airflow.models.connection import Connection

    read = Connection("billing", uri=uri)
    made = settings(
        host=read.host,
        schema=read.schema,
        port=read.port,
        login=read.login,
        password=read.password,
        extra=read.extra_dejson,
    )
    assert made.api_url == url
    assert made.api_key == KEY


@pytest.mark.parametrize(
    "suffix", ["cluster.local", "corp", "home", "home.arpa", "internal", "intranet", "lan", "local"]
)
def test_hosts_of_inner_networks_are_told_by_their_endings(suffix):
    assert is_inner_host(f"lago.{suffix}")
    assert not is_inner_host(f"lago{suffix}.com")


@pytest.mark.parametrize(
    ("url", "other"), [("HTTPS://Lago.example", "https://lago.example:443/"), ("Http://a", "http://a.:80")]
)
def test_the_origin_of_a_url_is_the_same_however_it_is_written(url, other):
    assert origin_of(url) == origin_of(other)
    assert origin_of(url)[0] in {"http", "https"}


@pytest.mark.parametrize("host", ["HTTPS://lago.example.com", "hTTps://lago.example.com"])
def test_a_scheme_may_be_written_in_capitals_also_beside_the_same_schema(host):
    assert settings(host=host, schema="https").api_url.lower() == "https://lago.example.com/api/v1"


def test_a_key_may_hold_any_printable_character_of_ascii():
    key = "".join(map(chr, range(ord("!"), ord("~") + 1)))
    assert settings(password=key).api_key == key


@pytest.mark.parametrize("character", ["\x7f", "é", " ", "\t"])
def test_a_key_holds_no_other(character):
    assert "character that no API key has" in problem(password=f"{KEY[:9]}{character}{KEY[9:]}")


def test_a_pace_that_cannot_be_is_refused_in_its_unit():
    assert "requests" in problem(extra={"requests_per_second": 2_000_000})
