"""Every fault as a real client meets it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time

import pytest
import requests

BATCH = "/api/v1/events/batch"


def events(*ids):
    items = [
        {"transaction_id": one, "code": "calls", "external_subscription_id": "s1", "timestamp": 1700000000}
        for one in ids
    ]
    return {"events": items}


def send(sandbox, *ids, session=None, path=BATCH):
    post = (session or requests).post
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    return post(sandbox.url + path, json=events(*ids), headers=headers, timeout=5, allow_redirects=False)


def test_a_lost_response_is_stored_and_the_client_sees_a_closed_connection(sandbox):
    rule = sandbox.fault("lost_response", times=1)
    with pytest.raises(requests.ConnectionError, match="closed connection without response"):
        send(sandbox, "a")
    assert (sandbox.count(), rule.fired) == (1, 1)
    assert send(sandbox, "a").status_code == 422
    assert [seen.status for seen in sandbox.requests] == [None, 422]
    assert sandbox.requests[0].fault == "lost_response"


def test_a_reset_comes_before_anything_is_stored(sandbox):
    sandbox.fault("reset", times=1)
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        send(sandbox, "a")
    assert sandbox.count() == 0
    assert send(sandbox, "a").status_code == 200


def test_a_dropped_connection_was_in_use_and_others_live_on(sandbox):
    kept = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=5)
    kept.request("GET", "/health")
    kept.getresponse().read()
    sandbox.fault("lost_response", path="/events", times=1)
    with pytest.raises(requests.ConnectionError):
        send(sandbox, "a")
    kept.request("GET", "/health")
    assert kept.getresponse().status == 200


def test_throttled_with_the_headers_asked_for_and_no_json(sandbox):
    sandbox.fault("rate_limit", times=1, reset=2, retry_after=7)
    answer = send(sandbox, "a")
    assert (answer.status_code, sandbox.count()) == (429, 0)
    assert answer.headers["x-ratelimit-reset"] == "2"
    assert answer.headers["retry-after"] == "7"
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    sandbox.fault("rate_limit", times=1)
    assert "x-ratelimit-reset" not in send(sandbox, "a").headers


def test_errors_before_and_after_the_commit(sandbox):
    sandbox.fault("error", status=503, times=1)
    assert send(sandbox, "a").status_code == 503
    assert sandbox.count() == 0
    sandbox.fault("error_after_commit", times=1)
    answer = send(sandbox, "a")
    assert (answer.status_code, sandbox.count()) == (502, 1)
    assert answer.text.startswith("<html>")


def test_a_body_cut_off_in_the_middle(sandbox):
    sandbox.fault("cut_body", times=1)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        send(sandbox, "a")
    assert sandbox.count() == 1


def test_a_whole_answer_of_broken_json(sandbox):
    sandbox.fault("broken_json", times=1)
    answer = send(sandbox, "a")
    assert (answer.status_code, sandbox.count()) == (200, 1)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


def test_redirects_empty_answers_and_any_answer(sandbox):
    sandbox.fault("redirect", status=302, location="https://login.example.com/", times=1)
    answer = send(sandbox, "a")
    assert (answer.status_code, answer.headers["location"]) == (302, "https://login.example.com/")
    sandbox.fault("empty", times=1)
    answer = send(sandbox, "a")
    assert (answer.status_code, answer.text, sandbox.count()) == (200, "", 1)
    sandbox.fault("answer", status=418, body='{"teapot":true}', headers={"x-pot": "1"}, times=1)
    answer = send(sandbox, "b")
    assert (answer.status_code, answer.json(), answer.headers["x-pot"]) == (418, {"teapot": True}, "1")
    assert sandbox.count() == 1


def test_a_poison_record_spoils_every_batch_it_is_in(sandbox):
    sandbox.fault("poison", contains='"bad"', status=413)
    assert send(sandbox, "a", "bad").status_code == 413
    assert send(sandbox, "bad").status_code == 413
    assert send(sandbox, "a").status_code == 200
    assert sandbox.count() == 1


def test_slow_answers_do_not_hold_up_others(sandbox):
    sandbox.fault("slow", seconds=1.0, contains='"slow"')
    started = time.monotonic()
    waiting = threading.Thread(target=send, args=(sandbox, "slow"))
    waiting.start()
    assert send(sandbox, "quick").status_code == 200
    assert time.monotonic() - started < 0.9
    waiting.join()
    assert time.monotonic() - started >= 1.0
    assert sandbox.count() == 2


def test_slow_and_another_fault_add_up(sandbox):
    sandbox.fault("slow", seconds=0.1)
    sandbox.fault("error", times=1)
    started = time.monotonic()
    assert send(sandbox, "a").status_code == 500
    assert time.monotonic() - started >= 0.1


def test_only_the_first_request_of_each_body(sandbox):
    sandbox.fault("lost_response", path="/events/batch", first_of_each_body=True)
    for ids in (("a", "b"), ("c", "d")):
        with pytest.raises(requests.ConnectionError):
            send(sandbox, *ids)
        assert send(sandbox, *ids).status_code == 422
    assert sandbox.count() == 4


def test_every_so_many_and_after_some(sandbox):
    sandbox.fault("error", every=3, skip=1)
    assert [send(sandbox, str(n)).status_code for n in range(8)] == [200, 200, 200, 500, 200, 200, 500, 200]


def test_a_share_of_the_requests_is_the_same_for_the_same_seed(sandbox):
    def drawn(seed):
        sandbox.reset()
        sandbox.fault("error", probability=0.5, seed=seed)
        return [send(sandbox, str(n)).status_code for n in range(20)]

    first = drawn(1)
    assert drawn(1) == first != drawn(2)
    assert set(first) == {200, 500}


def test_faults_choose_by_method_and_path(sandbox):
    sandbox.fault("error", method="GET", path="/customers")
    sandbox.fault("error", status=501, path="/events", exact=True)
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    assert requests.get(f"{sandbox.url}/api/v1/customers/x", headers=headers, timeout=5).status_code == 500
    assert requests.get(f"{sandbox.url}/api/v1/plans", headers=headers, timeout=5).status_code == 200
    assert send(sandbox, "a").status_code == 200
    assert send(sandbox, "a", path="/api/v1/events").status_code == 501


def test_faults_are_installed_listed_and_cleared_over_http(sandbox):
    control = f"{sandbox.url}/_sandbox/faults"
    rules = [{"kind": "error", "status": 503, "times": 1}, {"kind": "slow", "seconds": 0}]
    assert requests.post(control, json=rules, timeout=5).status_code == 200
    assert send(sandbox, "a").status_code == 503
    listed = requests.get(control, timeout=5).json()["faults"]
    assert [(rule["kind"], rule["fired"]) for rule in listed] == [("error", 1), ("slow", 0)]
    assert requests.delete(control, timeout=5).json() == {"faults": []}
    assert send(sandbox, "a").status_code == 200


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "nope"},
        {"times": 1},
        {"kind": "error", "colour": "red"},
        {"kind": "poison"},
        {"kind": "error", "times": "2"},
        ["x"],
        7,
    ],
)
def test_a_wrong_fault_is_refused_with_a_reason(sandbox, rule):
    answer = requests.post(f"{sandbox.url}/_sandbox/faults", json=rule, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sandbox.state()["faults"] == []


def test_a_request_cut_off_by_the_client_stores_nothing(sandbox):
    body = json.dumps(events("a")).encode()
    head = (
        f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sandbox.api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as client:
        client.sendall(head.encode() + body[:-5])
    time.sleep(0.05)
    assert sandbox.count() == 0


def test_faults_work_under_tls(tls_sandbox):
    context = ssl.create_default_context(cafile=tls_sandbox.certificate)

    def ask():
        client = http.client.HTTPSConnection("localhost", tls_sandbox.port, timeout=5, context=context)
        headers = {"Authorization": f"Bearer {tls_sandbox.api_key}", "Content-Type": "application/json"}
        client.request("POST", BATCH, json.dumps(events("a")), headers)
        answer = client.getresponse()
        return answer.status, answer.read()

    assert tls_sandbox.url.startswith("https://")
    for kind in ("reset", "lost_response", "cut_body"):
        tls_sandbox.fault(kind, times=1)
        with pytest.raises((http.client.HTTPException, OSError)):
            ask()
    assert ask()[0] == 422
    assert tls_sandbox.count() == 1


@pytest.fixture
def tls_sandbox(tmp_path):
    from datetime import UTC, datetime, timedelta

    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from airflow_provider_lago.sandbox import Sandbox

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with Sandbox(ssl_certfile=cert_file, ssl_keyfile=key_file) as sandbox:
        sandbox.certificate = str(cert_file)
        yield sandbox
