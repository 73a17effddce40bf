"""Files in an object store as a source, through Airflow's own paths and Amazon's provider, against S3's API here."""

import gzip
import json
from collections import Counter
from functools import partial

import pytest
from support import tasks
from support.deliveries import usage
from support.states import State

from airflow_provider_lago.exceptions import LagoDeliveryError, LagoInputError
from airflow_provider_lago.operators import LagoIngestEventsOperator
from airflow_provider_lago.sharding import plan_shards, sum_summaries
from airflow_provider_lago.sources import read_ahead

context = partial(tasks.context, task_id="deliver", max_tries=3)


@pytest.fixture(autouse=True)
def lago(lago_sandbox, lago_sandbox_connection, monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.__init__.__defaults__", (3, 0.01, 0.02))
    return lago_sandbox


@pytest.fixture
def chunks(monkeypatch):
    """Small chunks, so that small objects take many requests."""
    monkeypatch.setattr(read_ahead.ReadAhead.__init__, "__defaults__", (2_000,))


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def deliver(tries=1, state=None, **arguments):
    more = {} if state is None else {"task_state_store": state}
    return LagoIngestEventsOperator(task_id="deliver", **arguments).execute(context(more, try_number=tries))


def ids(lago):
    return Counter(event["transaction_id"] for event in lago.events())


def once(count):
    return Counter(f"t{n}" for n in range(count))


def test_the_objects_of_a_glob_come_in_name_order_whatever_they_are_packed_with(bucket, lago, tmp_path, chunks):
    records = usage(900)
    bucket.put("usage/2.jsonl.gz", gzip.compress(lines(records[300:600])))
    bucket.put("usage/1.jsonl", lines(records[:300]))
    bucket.put("usage/3.json", json.dumps(records[600:]).encode())
    bucket.put("usage/readme.txt", b"no records")
    summary = deliver(files=bucket.uri("usage/*.json*"), report_path=str(tmp_path), receipts=True, concurrency=1)
    assert summary["accepted"] == 900
    assert ids(lago) == once(900)
    receipts = [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_text().splitlines()]
    assert [line["id"] for line in receipts] == [f"t{n}" for n in range(900)]
    assert receipts[0]["origin"] == bucket.uri("usage/1.jsonl")


def test_csv_and_tables_with_their_decimals(bucket, lago):
    rows = "".join(f"t{n},s{n % 3},storage,170000000{n % 10},{n}.10\n" for n in range(300))
    bucket.put("a b+c=1.csv", b"transaction_id,external_subscription_id,code,timestamp,gb\n" + rows.encode())
    deliver(files=bucket.uri("a b+c=1.csv"), properties=["gb"])
    assert ids(lago) == once(300)


def test_an_object_with_the_signs_of_a_glob_in_its_name_is_that_object(bucket, lago):
    bucket.put("usage[1].jsonl", lines(usage(3)))
    assert deliver(files=bucket.uri("usage[1].jsonl"))["accepted"] == 3


@pytest.mark.parametrize(
    ("key", "says"),
    [("missing.jsonl", "does not exist"), ("usage", r"is a folder.*/usage/\*\.jsonl"), ("a?.jsonl", "no file matches")],
)
def test_what_is_not_there_is_an_error_that_names_it(bucket, key, says):
    bucket.put("usage/1.jsonl", b"{}\n")
    with pytest.raises(LagoInputError, match=says):
        deliver(files=bucket.uri(key))


def test_an_unknown_connection_is_an_error_that_names_it(bucket):
    with pytest.raises(LagoInputError, match="nobody_knows"):
        deliver(files="s3://nobody_knows@bucket/usage.jsonl")


def test_a_store_that_refuses_is_an_error_of_the_source(bucket):
    bucket.put("usage.jsonl", lines(usage(3)))
    bucket.refuse = lambda request: (403, "AccessDenied")
    with pytest.raises(LagoInputError, match=r"cannot be read: s3://.*usage\.jsonl: Forbidden"):
        deliver(files=bucket.uri("usage.jsonl"))


def test_a_store_that_fails_midway_ends_the_try_and_the_next_goes_on_behind_it(bucket, lago, chunks, monkeypatch):
    bucket.put("usage.jsonl", lines(usage(5_000)))
    state = State()
    reads = []

    def refuse(request):
        reads.append(request)
        return (503, "SlowDown") if request.method == "GET" and len(reads) > 200 else None

    bucket.refuse = refuse
    with pytest.raises(LagoDeliveryError, match="reading failed"):
        deliver(files=bucket.uri("usage.jsonl"), state=state)
    came = len(lago.events())
    assert 0 < came < 5_000
    bucket.refuse = lambda request: None
    summary = deliver(files=bucket.uri("usage.jsonl"), state=state, tries=2)
    assert (summary["read"], summary["accepted"]) == (5_000, 5_000)
    assert ids(lago) == once(5_000)


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed_in_silence(bucket, lago, chunks):
    bucket.put("usage.jsonl", lines(usage(2_000)))
    reads = []

    def replace(request):
        reads.append(request)
        if request.method == "GET" and len(reads) == 50:
            bucket.put("usage.jsonl", lines(usage(2_000, code="other")))

    bucket.refuse = replace
    with pytest.raises(LagoDeliveryError, match="was replaced while it was read"):
        deliver(files=bucket.uri("usage.jsonl"))


def test_shards_of_objects_are_delivered_once_each(bucket, lago, chunks):
    records = usage(3_000)
    bucket.put("usage/a.jsonl", lines(records[:2_000]))
    bucket.put("usage/b.jsonl.gz", gzip.compress(lines(records[2_000:])))
    plan = plan_shards(bucket.uri("usage/*"), 4, requests_per_second=400)
    assert len(plan) == 4
    assert {shard["requests_per_second"] for shard in plan} == {100}
    whole = sum_summaries([deliver(**json.loads(json.dumps(shard))) for shard in plan])
    assert (whole["read"], whole["accepted"], whole["shards"]) == (3_000, 3_000, 4)
    assert ids(lago) == once(3_000)
