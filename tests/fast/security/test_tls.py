"""Certificates are checked unless the connection itself says otherwise, by the hook and by deliveries alike."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from support.deliveries import usage
from support.scripted import ScriptedServer, as_json, echo
from support.tasks import context
from support.wire import BOTH

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.failures import Cause, Failure
from airflow_provider_lago.exceptions import LagoConnectionError, LagoFatalApiError, LagoFatalDeliveryError
from airflow_provider_lago.operators import LagoIngestEventsOperator

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def bundle(authority, tmp_path):
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


def serving(authority, name="127.0.0.1", newest=ssl.TLSVersion.MAXIMUM_SUPPORTED, **given):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **given).configure_cert(context)
    context.maximum_version = newest
    return ScriptedServer(lambda request: as_json(200, {"events": []}), context)


def refused(result, server):
    assert isinstance(result, Failure)
    assert result.lasts
    assert server.requests == []


@pytest.mark.parametrize("exchange", BOTH)
class TestByDefault:
    def test_a_certificate_of_the_connections_authority_is_trusted(self, hook_for, authority, bundle, exchange):
        with serving(authority) as server:
            assert isinstance(exchange(hook_for(server, extra={"ca_bundle": bundle})), Answer)

    def test_an_unknown_authority_is_not(self, hook_for, authority, exchange):
        with serving(authority) as server:
            result = exchange(hook_for(server))
        refused(result, server)
        assert result.cause is Cause.CERTIFICATE

    def test_another_authority_of_the_same_name_is_not(self, hook_for, bundle, exchange):
        with serving(trustme.CA()) as server:
            refused(exchange(hook_for(server, extra={"ca_bundle": bundle})), server)

    @pytest.mark.parametrize("name", ["lago.example.com", "127.0.0.2", "*.0.0.1"])
    def test_a_certificate_for_another_host_is_not(self, hook_for, authority, bundle, exchange, name):
        with serving(authority, name) as server:
            result = exchange(hook_for(server, extra={"ca_bundle": bundle}))
        refused(result, server)
        assert result.cause is Cause.CERTIFICATE

    def test_an_expired_certificate_is_not(self, hook_for, authority, bundle, exchange):
        with serving(authority, not_before=YESTERDAY - timedelta(days=9), not_after=YESTERDAY) as server:
            result = exchange(hook_for(server, extra={"ca_bundle": bundle}))
        refused(result, server)
        assert "expired" in result.message

    def test_a_certificate_that_is_not_valid_yet_is_not(self, hook_for, authority, bundle, exchange):
        later = datetime.now(UTC) + timedelta(days=9)
        with serving(authority, not_before=later, not_after=later + timedelta(days=9)) as server:
            refused(exchange(hook_for(server, extra={"ca_bundle": bundle})), server)

    def test_a_certificate_that_is_no_servers_is_not(self, hook_for, tmp_path, exchange):
        """One that was made for a client, as mutual TLS hands out to everybody inside a company."""
        authority = trustme.CA()
        file = tmp_path / "leaf.pem"
        authority.create_child_ca().cert_pem.write_to_path(str(file))
        with serving(authority) as server:
            refused(exchange(hook_for(server, extra={"ca_bundle": str(file)})), server)

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
    def test_a_server_that_speaks_only_an_old_tls_gets_nothing(self, hook_for, authority, bundle, exchange):
        with serving(authority, newest=ssl.TLSVersion.TLSv1_1) as server:
            assert isinstance(exchange(hook_for(server, extra={"ca_bundle": bundle})), Failure)
        assert server.requests == []

    @pytest.mark.parametrize("name", ["PYTHONHTTPSVERIFY", "AIRFLOW_VERIFY_TLS", "VERIFY_TLS", "SSL_NO_VERIFY"])
    def test_the_environment_cannot_switch_it_off(self, hook_for, authority, exchange, monkeypatch, name):
        monkeypatch.setenv(name, "0")
        with serving(authority) as server:
            refused(exchange(hook_for(server)), server)

    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    @pytest.mark.parametrize("off", [False, "false", "no", "0", 0])
    def test_the_connections_own_extra_switches_it_off(self, hook_for, authority, exchange, off):
        with serving(authority, "lago.example.com") as server:
            assert isinstance(exchange(hook_for(server, extra={"verify_tls": off})), Answer)

    @pytest.mark.parametrize("on", [None, "", True, "true", 1])
    def test_nothing_else_does(self, hook_for, authority, exchange, on):
        with serving(authority) as server:
            refused(exchange(hook_for(server, extra={"verify_tls": on})), server)


def test_a_delivery_and_the_connection_test_stop_at_a_certificate_that_is_not_trusted(connect, hook_for, authority):
    with serving(authority) as server:
        works, said = hook_for(server).test_connection()
        assert not works
        assert "certificate" in said
        with pytest.raises(LagoFatalApiError, match="certificate"):
            hook_for(server).get("plans")
        connect(server)
        with pytest.raises(LagoFatalDeliveryError, match="certificate"):
            LagoIngestEventsOperator(task_id="t", records=usage(3)).execute(context())
    assert server.requests == []


def test_a_webhooks_certificate_is_checked_too_and_switched_off_by_its_own_connection_alone(connect, authority):
    with ScriptedServer(echo) as lago, serving(authority) as webhook:
        connect(lago, extra={"verify_tls": False})
        for extra, forwarded in (({}, 0), ({"verify": False}, 3)):
            connect(webhook, "hook", "http", password="", schema="https", extra=extra)
            operator = LagoIngestEventsOperator(
                task_id="t", records=usage(3), batch_size=1, response_webhook_conn_id="hook"
            )
            assert operator.execute(context())["responses"]["forwarded"] == forwarded


def test_plain_http_over_the_internet_is_refused_unless_the_connection_allows_it(hook_for):
    with pytest.raises(LagoConnectionError, match="http"):
        _ = hook_for("http://lago.example.com").settings
    assert hook_for("http://lago.example.com", extra={"allow_plain_http": True}).settings.api_url.startswith("http:")
