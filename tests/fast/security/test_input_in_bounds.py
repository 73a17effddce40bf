"""Source files made to exhaust a worker: each record that cannot be is rejected, and the others are delivered."""

import gzip
import json
import time
import tracemalloc

import pytest
from support.deliveries import usage
from support.scripted import ScriptedServer, echo
from support.tasks import context

from airflow_provider_lago.exceptions import LagoInputError
from airflow_provider_lago.operators import LagoIngestEventsOperator

EVENT = json.dumps(usage(1)[0])
ENDING = ',"transaction_id":"t","external_subscription_id":"s","code":"c","timestamp":1700000000}'

BOMBS = {
    "arrays": "[" * 1_000_000,
    "arrays closed": "[" * 500_000 + "]" * 500_000,
    "objects": '{"a":' * 500_000,
    "deep in properties": '{"properties":{"a":' + "[" * 100_000 + "]" * 100_000 + "}" + ENDING,
    "a huge exponent": '{"properties":{"a":1e999999999}' + ENDING.replace('1700000000', "1e999999999"),
    "a million digits": '{"properties":{"a":1' + "0" * 1_000_000 + "}" + ENDING.replace("1700000000", "1" + "0" * 1_000_000),
    "a million decimals": '{"properties":{"a":1}' + ENDING.replace("1700000000", "0." + "1" * 1_000_000),
    "a long line": '{"properties":{"a":"' + "x" * (6 << 20) + '"}' + ENDING,
    "no line end": "x" * (6 << 20),
    "NULs": "\0" * 1_000_000,
}  # fmt: skip
MOST = 120 << 20
SECONDS = 60.0


def deliver(connect, files, tmp_path, **arguments):
    """Deliver; return summary, most memory held and seconds."""
    with ScriptedServer(echo) as server:
        connect(server)
        operator = LagoIngestEventsOperator(
            task_id="t", files=str(files), report_path=str(tmp_path / "report"), max_rejected=1_000_000, **arguments
        )
        began = time.monotonic()
        tracemalloc.start()
        try:
            summary = operator.execute(context())
            return summary, tracemalloc.get_traced_memory()[1], time.monotonic() - began
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("shaped", [False, True], ids=["as it is", "shaped"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_line_that_is_a_bomb_is_rejected_alone(connect, tmp_path, name, shaped):
    file = tmp_path / "usage.jsonl"
    first, last = (json.dumps(event) for event in usage(2))
    file.write_text(f"{first}\n{BOMBS[name]}\n{last}\n")
    arguments = {"constants": {"properties.more": 1}} if shaped else {}
    summary, held, seconds = deliver(connect, file, tmp_path, **arguments)
    assert (summary["read"], summary["accepted"], summary["rejected"]) == (3, 2, 1)
    assert held < MOST
    assert seconds < SECONDS
    (rejected,) = map(json.loads, (tmp_path / "report" / "rejected.jsonl").read_bytes().splitlines())
    assert rejected["line"] == 2
    assert rejected["reason"]


def test_cells_and_lines_of_csv_are_bounded_too(connect, tmp_path):
    file = tmp_path / "usage.csv"
    head = "transaction_id,external_subscription_id,code,timestamp\n"
    lines = ["t1,s,c,1700000000", "x" * (6 << 20), "," * 1_000_000, "t2,s,c," + "9" * 1_000_000, "t3,s,c,1700000001"]
    file.write_text(head + "\n".join(lines) + "\n")
    summary, held, seconds = deliver(connect, file, tmp_path)
    assert (summary["read"], summary["accepted"], summary["rejected"]) == (5, 2, 3)
    assert held < MOST
    assert seconds < SECONDS


@pytest.mark.parametrize("name", ["usage.gz", "usage.zip"])
def test_packed_files_that_do_not_say_what_is_in_them_are_refused_clearly(connect, tmp_path, name):
    file = tmp_path / name
    file.write_bytes(gzip.compress(EVENT.encode()))
    connect("https://lago.example.com")
    with pytest.raises(LagoInputError, match="must end in one of"):
        LagoIngestEventsOperator(task_id="t", files=str(file)).execute(context())


@pytest.mark.parametrize("name", ["usage.jsonl.gz", "usage.jsonl"])
def test_a_small_file_that_unpacks_to_one_huge_line_costs_that_line_only(connect, tmp_path, name):
    file = tmp_path / name
    file.write_bytes(gzip.compress(b"x" * (300 << 20) + b"\n" + EVENT.encode()))
    assert file.stat().st_size < 1 << 20
    summary, held, _ = deliver(connect, file, tmp_path)
    assert (summary["read"], summary["accepted"], summary["rejected"]) == (2, 1, 1)
    assert held < MOST
