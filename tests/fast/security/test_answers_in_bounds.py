"""Answers that would fill the memory: long ones, and short ones that unpack to long ones."""

import asyncio
import gzip
import json
import logging
import tracemalloc
import zlib

import pytest
from support.deliveries import usage
from support.scripted import Reply, ScriptedServer, as_json
from support.tasks import context
from support.wire import BOTH, over_hook

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.failures import Cause, Failure
from airflow_provider_lago.api.unpacking import AnswerTooLong, Body, NotUnpackable
from airflow_provider_lago.api.webhook import Webhook
from airflow_provider_lago.delivery import transport
from airflow_provider_lago.delivery.responses.response import Response
from airflow_provider_lago.delivery.responses.webhook import WebhookResponses
from airflow_provider_lago.exceptions import LagoDeliveryError, LagoFatalApiError, LagoRejectedError
from airflow_provider_lago.hooks import lago
from airflow_provider_lago.operators import LagoExtractOperator, LagoGenericRequestOperator, LagoIngestEventsOperator

BOUND = 1 << 20
#: Far above what a bounded reader needs (the pieces of both ends of the connection are in it), far below the bombs.
MOST = 24 << 20


def bomb(wbits, gibibytes=1):
    """A compressed body of about a mebibyte for each gibibyte: one flushed block, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(16 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    head = {16 + zlib.MAX_WBITS: gzip.compress(b"")[:10], zlib.MAX_WBITS: b"\x78\x9c"}.get(wbits, b"")
    return head + block * (64 * gibibytes)


BOMBS = {
    "gzip": (bomb(16 + zlib.MAX_WBITS), "gzip"),
    "x-gzip": (bomb(16 + zlib.MAX_WBITS), "X-GZIP"),
    "deflate": (bomb(zlib.MAX_WBITS), "deflate"),
    "raw deflate": (bomb(-zlib.MAX_WBITS), "deflate"),
    "gzip in gzip": (gzip.compress(bomb(16 + zlib.MAX_WBITS)), "gzip, gzip"),
    "brotli": (b"\x1b\xff\xff\xff" * 100, "br"),
    "zstd": (b"\x28\xb5\x2f\xfd" * 100, "zstd"),
}


@pytest.fixture
def bounded(monkeypatch):
    monkeypatch.setattr(lago, "LONGEST_ANSWER", BOUND)
    monkeypatch.setattr(transport, "_LONGEST_ANSWER", BOUND)


def packed(body, encoding, status=200):
    return Reply(status, body, {"Content-Type": "application/json", "Content-Encoding": encoding})


def peak(work):
    """Return what work gives, and the most memory that it held beyond what there was before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        given = work()
        return given, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("status", [200, 422])
def test_a_compressed_bomb_is_refused_before_it_is_unpacked(hook_for, bounded, exchange, name, status):
    with ScriptedServer(lambda request: packed(*BOMBS[name], status)) as server:
        hook = hook_for(server)
        result, held = peak(lambda: exchange(hook))
    assert isinstance(result, Failure)
    assert result.cause is (Cause.BROKEN if name in {"gzip in gzip", "brotli", "zstd"} else Cause.TOO_LONG)
    assert held < MOST


@pytest.mark.parametrize("exchange", BOTH)
def test_a_plain_answer_beyond_the_bound_is_refused_whether_it_says_so_or_not(hook_for, bounded, exchange):
    long = Reply(200, b"[" + b" " * (8 * BOUND) + b"]", {"Content-Type": "application/json"})
    unsaid = Reply(200, long.body, {**long.headers, "Content-Length": "1000000000", "Connection": "close"})
    for reply in (long, unsaid):
        with ScriptedServer(lambda request, reply=reply: reply) as server:
            hook = hook_for(server)
            result, held = peak(lambda hook=hook: exchange(hook))
        assert isinstance(result, Failure)
        assert result.cause is Cause.TOO_LONG
        assert result.lasts
        assert held < MOST + 2 * 8 * BOUND  # the server's own buffers of the same process are in it


@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body, wbits=-zlib.MAX_WBITS)),
        ("identity", bytes),
    ],
)
def test_an_honestly_compressed_answer_is_read(hook_for, exchange, encoding, pack):
    body = json.dumps({"plans": [{"code": f"p{n}"} for n in range(20_000)]}).encode()
    with ScriptedServer(lambda request: packed(pack(body), encoding)) as server:
        answer = exchange(hook_for(server))
    assert isinstance(answer, Answer)
    assert answer.body == body


@pytest.mark.parametrize("exchange", BOTH)
def test_only_what_can_be_unpacked_in_bounds_is_asked_for(hook_for, exchange):
    with ScriptedServer(lambda request: as_json(200, {})) as server:
        exchange(hook_for(server))
    assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize(
    "body",
    [b"{}", gzip.compress(b"{}")[:-9], gzip.compress(b"{}") + b"{}", gzip.compress(b"{}") * 2],
    ids=["not compressed", "cut", "followed by more", "two of them"],
)
def test_an_answer_that_is_not_compressed_as_it_says_is_no_answer(hook_for, exchange, body):
    with ScriptedServer(lambda request: packed(body, "gzip")) as server:
        result = exchange(hook_for(server))
    assert isinstance(result, Failure)
    assert "cannot be unpacked" in result.message


@pytest.mark.parametrize("exchange", BOTH)
def test_an_empty_answer_is_empty_whatever_its_encoding(hook_for, exchange):
    with ScriptedServer(lambda request: packed(b"", "gzip")) as server:
        assert exchange(hook_for(server)).body == b""


def test_pieces_of_any_size_make_the_same_body():
    body = bytes(range(256)) * 50
    whole = gzip.compress(body)
    for size in (1, 7, len(whole)):
        held = Body("gzip", len(body))
        for start in range(0, len(whole), size):
            held.add(whole[start : start + size])
        assert held.whole() == body
    short = Body("gzip", len(body) - 1)
    with pytest.raises(AnswerTooLong):
        short.add(whole)
    with pytest.raises(NotUnpackable):
        Body("br", 10)


def test_a_bomb_in_answer_to_events_costs_no_memory_and_no_event_is_called_delivered(connect, bounded, tmp_path):
    with ScriptedServer(lambda request: packed(*BOMBS["gzip"])) as server:
        connect(server)
        operator = LagoIngestEventsOperator(task_id="t", records=usage(300), report_path=str(tmp_path))
        caught, held = peak(lambda: failing(operator))
    assert "1 MiB" in str(caught)
    assert json.loads((tmp_path / "summary.json").read_bytes())["accepted"] == 0
    assert held < MOST


def test_a_bomb_in_answer_to_a_single_request_costs_no_memory(connect, bounded):
    with ScriptedServer(lambda request: packed(*BOMBS["deflate"])) as server:
        connect(server)
        caught, held = peak(
            lambda: failing(LagoGenericRequestOperator(task_id="t", endpoint="plans", root="plan", data={"code": "c"}))
        )
    assert isinstance(caught, (LagoRejectedError, LagoDeliveryError))
    assert held < MOST


def test_a_bomb_for_a_page_ends_an_extraction_and_leaves_no_part(connect, bounded, tmp_path):
    with ScriptedServer(lambda request: packed(*BOMBS["gzip"])) as server:
        connect(server)
        operator = LagoExtractOperator(task_id="t", endpoint="plans", path=str(tmp_path / "out"))
        caught, held = peak(lambda: failing(operator))
    assert isinstance(caught, LagoFatalApiError)
    assert held < MOST
    assert not list(tmp_path.glob("out/part*"))


def test_a_bomb_for_the_connection_test_is_a_sentence(hook_for, bounded):
    with ScriptedServer(lambda request: packed(*BOMBS["gzip"])) as server:
        hook = hook_for(server)
        (works, said), held = peak(hook.test_connection)
    assert not works
    assert "longer than 1 MiB" in said
    assert held < MOST


def test_a_webhook_that_answers_with_a_bomb_has_taken_the_answer_and_costs_no_memory():
    async def main(url):
        responses = WebhookResponses(Webhook("hook", url), unforwarded=None, log=logging.getLogger("test"))
        await responses.put(Response([(1, "a")], "POST", "events", 200, None, b"{}"))
        await responses.close()
        return responses.summary()

    for bomb_and_encoding in BOMBS.values():
        with ScriptedServer(lambda request, answer=bomb_and_encoding: packed(*answer)) as server:
            url = server.url
            summary, held = peak(lambda url=url: asyncio.run(main(url)))
        assert (summary["forwarded"], summary["not_forwarded"]) == (1, 0)
        assert held < MOST


@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize(
    "headers",
    [{"X-Long": "x" * 1_000_000}, {f"X-{n}": "x" * 4_000 for n in range(5_000)}],
    ids=["one long", "very many"],
)
def test_endless_headers_are_no_answer(hook_for, exchange, headers):
    with ScriptedServer(lambda request: Reply(200, b"{}", headers)) as server:
        hook = hook_for(server)
        result, held = peak(lambda: exchange(hook))
    if exchange is over_hook or "X-Long" in headers:
        assert isinstance(result, Failure)
    assert held < MOST + 3 * 20_000_000  # what the server of this test sends is in it


def failing(operator):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the test says which
        operator.execute(context())
    return caught.value
