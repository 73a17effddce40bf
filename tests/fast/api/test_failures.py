"""What an exception of a transport means, however deep its library hides the one that says it."""

import socket
import ssl

import pytest

from airflow_provider_lago.api.failures import Cause, causes_of, read_failure

ORIGIN = "https://lago.example.com"


def read(error, otherwise=Cause.CONNECT):
    return read_failure(error, origin=ORIGIN, conn_id="billing", otherwise=otherwise)


def wrapped(error, how):
    """Return an exception that holds another one as one of the libraries does it."""
    outer = OSError("outer")
    if how == "args":
        return OSError("outer", error)
    if how in ("__cause__", "__context__", "reason", "os_error", "certificate_error"):
        setattr(outer, how, error)
    return outer


def tls(reason, library="SSL"):
    error = ssl.SSLError(1, "said by OpenSSL")
    error.reason, error.library = reason, library
    return error


def untrusted():
    error = ssl.SSLCertVerificationError("no")
    error.verify_message = "self-signed certificate."
    return error


@pytest.mark.parametrize("how", ["args", "__cause__", "__context__", "reason", "os_error", "certificate_error"])
def test_the_exception_that_says_it_is_found_wherever_a_library_puts_it(how):
    assert read(wrapped(socket.gaierror("x"), how)).cause is Cause.DNS
    assert read(wrapped(wrapped(ConnectionRefusedError("x"), how), "args")).cause is Cause.REFUSED
    assert read(wrapped(untrusted(), how)).cause is Cause.CERTIFICATE


def test_exceptions_that_hold_each_other_are_looked_at_once():
    first, second = OSError("a"), OSError("b")
    first.__cause__, second.__cause__ = second, first
    assert list(causes_of(first)) == [first, second]
    assert read(first).cause is Cause.CONNECT


def test_an_untrusted_certificate_is_told_with_the_setting_that_mends_it():
    failure = read(untrusted())
    assert (failure.lasts, failure.never_arrived) == (True, False)
    assert "(self-signed certificate)" in failure.message
    assert ORIGIN in failure.message
    assert "'ca_bundle' of connection 'billing'" in failure.message


def test_an_untrusted_certificate_is_told_before_any_other_trouble():
    assert read(wrapped(untrusted(), "__cause__")).cause is Cause.CERTIFICATE
    refused = ConnectionRefusedError("x")
    refused.__cause__ = untrusted()
    assert read(refused).cause is Cause.CERTIFICATE


@pytest.mark.parametrize(
    "reason", ["WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"]
)
def test_a_server_that_speaks_plain_http_is_told_so(reason):
    failure = read(tls(reason))
    assert (failure.cause, failure.lasts) == (Cause.TLS, True)
    assert f"{ORIGIN} does not speak TLS" in failure.message
    assert "plain http" in failure.message


@pytest.mark.parametrize("library", ["X509", "PEM"])
def test_a_ca_bundle_without_a_certificate_is_not_the_servers_fault(library):
    failure = read(tls("NO_CERTIFICATE_OR_CRL_FOUND", library))
    assert failure.cause is Cause.TLS
    assert "CA bundle of connection 'billing'" in failure.message
    assert ORIGIN not in failure.message


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("TLSV1_ALERT_INTERNAL_ERROR", "(tlsv1 alert internal error)"),
        ("UNSUPPORTED_PROTOCOL", "(unsupported protocol)"),
    ],
)
def test_a_handshake_that_fails_is_told_in_openssls_words(reason, said):
    failure = read(tls(reason))
    assert failure.cause is Cause.TLS
    assert said in failure.message


@pytest.mark.parametrize("reason", ["UNEXPECTED_EOF_WHILE_READING", None])
def test_tls_that_ends_in_the_middle_is_a_broken_connection_and_may_pass(reason):
    failure = read(tls(reason), Cause.BROKEN)
    assert (failure.cause, failure.lasts, failure.never_arrived) == (Cause.BROKEN, False, False)


def test_an_error_of_tls_behind_one_that_says_nothing_is_still_found():
    silent = tls("UNEXPECTED_EOF_WHILE_READING")
    silent.__cause__ = tls("WRONG_VERSION_NUMBER")
    assert read(silent).cause is Cause.TLS


def test_what_does_not_resolve_or_refuses_behind_a_proxy_is_the_proxys():
    for error in (socket.gaierror("x"), ConnectionRefusedError("x")):
        failure = read(error, Cause.PROXY)
        assert (failure.cause, failure.never_arrived) == (Cause.PROXY, True)
        assert "cannot be reached" in failure.message
        assert "'proxy' of connection 'billing'" in failure.message


def test_what_a_proxy_answers_is_told():
    failure = read(wrapped(OSError("Tunnel connection failed: 407 Proxy Authentication Required"), "args"), Cause.PROXY)
    assert "answered HTTP 407" in failure.message


@pytest.mark.parametrize(
    ("cause", "arrived", "lasts", "told"),
    [
        (Cause.CONNECT, False, False, "no connection to https://lago.example.com; check host and port"),
        (Cause.CONNECT_TIMEOUT, False, False, "no connection to https://lago.example.com in time"),
        (Cause.READ_TIMEOUT, True, False, "no answer from https://lago.example.com in time; extra 'timeout'"),
        (Cause.BROKEN, True, False, "the connection to https://lago.example.com broke"),
    ],
)
def test_what_says_nothing_is_what_the_transport_was_doing(cause, arrived, lasts, told):
    failure = read(OSError("x"), cause)
    assert (failure.cause, not failure.never_arrived, failure.lasts) == (cause, arrived, lasts)
    assert told in failure.message


def test_a_name_that_does_not_resolve_and_a_closed_port_never_reached_lago():
    for error in (socket.gaierror("x"), ConnectionRefusedError("x")):
        failure = read(error, Cause.BROKEN)
        assert failure.never_arrived
        assert not failure.lasts
        assert "connection 'billing'" in failure.message
