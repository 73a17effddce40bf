"""Records of Parquet and Avro on their way to Lago: what each type becomes in the body, in an id and in a report."""

import io
import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from support.deliveries import KEY, connection
from support.scripted import ScriptedServer, echo, refused

from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.sandbox import Sandbox
from airflow_provider_lago.sources.avro import read_avro
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.parquet import read_parquet
from airflow_provider_lago.sources.rows import BEGINNING

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
fastavro = pytest.importorskip("fastavro")

EVENT = {"external_subscription_id": "s", "code": "c", "timestamp": datetime(2026, 11, 22, 10, 0, 0, 250_000, UTC)}
MOMENT = datetime(2026, 3, 29, 21, 0, 42, 203693)
ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


class Once:
    """A source of what a reader yields."""

    is_foreign = False

    def __init__(self, rows):
        self._rows = rows

    def rows(self, start=BEGINNING):
        return self._rows

    def start_after(self, position):
        return BEGINNING

    def fingerprint(self):
        return None

    def share_done(self):
        return None


def parquet(columns, count=1):
    table = pa.table(
        {
            "transaction_id": [f"t{n}" for n in range(count)],
            **{name: [value] * count for name, value in EVENT.items()},
            **columns,
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream)
    stream.seek(0)
    return Once(read_parquet(stream, "usage.parquet", BEGINNING, lambda mark: None))


def avro(kind, *values):
    fields = [{"name": name, "type": "string"} for name in ("transaction_id", "external_subscription_id", "code")]
    fields += [{"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}}]
    schema = {"type": "record", "name": "R", "fields": [*fields, {"name": "v", "type": kind}]}
    stream = io.BytesIO()
    records = [{"transaction_id": f"t{n}", **EVENT, "v": value} for n, value in enumerate(values)]
    fastavro.writer(stream, fastavro.parse_schema(schema), records)
    stream.seek(0)
    return Once(read_avro(stream, "usage.avro", BEGINNING, lambda mark: None))


def rejected(run):
    return [json.loads(line) for line in (run.folder / "rejected.jsonl").read_bytes().splitlines()]


MAPPED = EventShaping(properties=["v"])
HASHED = EventShaping(properties=["v"], transaction_id="hash", exclude=["transaction_id"])

VALUES = [
    (pa.decimal128(38, 4), Decimal("1234567890123456789012345678901234.5000"), "1234567890123456789012345678901234.5000"),
    (pa.decimal128(10, 10), Decimal("0E-10"), "0E-10"),
    (pa.decimal256(60, 2), Decimal("0.10"), "0.10"),
    (pa.date32(), date(2026, 11, 22), '"2026-11-22"'),
    (pa.timestamp("us"), MOMENT, '"2026-03-29T21:00:42.203693"'),
    (pa.timestamp("us", "UTC"), MOMENT.replace(tzinfo=UTC), '"2026-03-29T21:00:42.203693Z"'),
    (pa.timestamp("ms", "Asia/Tokyo"), MOMENT.replace(microsecond=0, tzinfo=UTC), '"2026-03-29T21:00:42Z"'),
    (pa.timestamp("ns", "UTC"), 1_700_000_000_123_456_789, '"2023-11-14T22:13:20.123456789Z"'),
    (pa.time64("us"), time(1, 2, 3, 4), '"01:02:03.000004"'),
    (pa.uint64(), 2**64 - 1, "18446744073709551615"),
    (pa.float64(), 0.1, "0.1"),
    (pa.float32(), 0.1, "0.10000000149011612"),
    (pa.bool_(), True, "true"),
    (pa.string(), "é", '"é"'),
    (pa.binary(), b"text", '"text"'),
    (pa.list_(pa.decimal128(5, 2)), [Decimal("1.10"), None], "[1.10,null]"),
    (pa.map_(pa.string(), pa.date32()), [("a", date(2026, 1, 1))], '{"a":"2026-01-01"}'),
    (
        pa.struct([("a", pa.struct([("b", pa.decimal128(5, 2)), ("d", pa.date32())])), ("l", pa.list_(pa.int8()))]),
        {"a": {"b": Decimal("1.10"), "d": date(2026, 1, 1)}, "l": [1, 2]},
        '{"a":{"b":1.10,"d":"2026-01-01"},"l":[1,2]}',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "text"), VALUES, ids=[str(kind) for kind, _, _ in VALUES])
def test_a_value_is_sent_as_it_is(deliver, kind, value, text):
    with ScriptedServer(echo) as server:
        run = deliver(server, parquet({"v": pa.array([value], kind)}), shaping=MAPPED)
        (request,) = server.requests
    assert run.counts == (1, 1, 0, 0, 0)
    assert f'"properties":{{"v":{text}}}' in request.body.decode()
    assert '"timestamp":"1795341600.25"' in request.body.decode()


@pytest.mark.parametrize(("kind", "value", "text"), VALUES, ids=[str(kind) for kind, _, _ in VALUES])
def test_a_hashed_id_is_the_same_when_the_record_comes_from_the_rejects(deliver, tmp_path, kind, value, text):
    with ScriptedServer(lambda request: refused({"0": {"code": ["invalid"]}})) as server:
        run = deliver(server, parquet({"v": pa.array([value], kind)}), shaping=HASHED)
        (first,) = server.requests
    assert run.counts == (1, 0, 0, 1, 0)
    kept = tmp_path / "rejected.jsonl"
    kept.write_bytes((run.folder / "rejected.jsonl").read_bytes())
    with ScriptedServer(echo) as server:
        again = deliver(server, FileSource(kept), shaping=HASHED)
        (second,) = server.requests
    assert again.counts == (1, 1, 0, 0, 0)
    assert "transaction_id" in first.events[0]
    assert len(first.events[0]["transaction_id"]) == 40
    assert second.body == first.body


@pytest.mark.parametrize(
    ("array", "reason", "detail"),
    [
        (pa.array([b"abc", None], pa.binary(3)), "properties: not JSON", "properties.v is a builtins.bytes"),
        (pa.array([[b"abc"], None], pa.list_(pa.binary(3))), "properties: not JSON", "properties.v.0 is a builtins.bytes"),
        (pa.array([timedelta(1), None]), "properties: not JSON", "properties.v is a datetime.timedelta"),
        (pa.array([[(1, "a")], None], pa.map_(pa.int8(), pa.string())), "properties: key is not text", "properties.v.1"),
        (pa.array([b"\xff", None]), "not UTF-8", "not UTF-8"),
        (pa.array([float("nan"), None]), "properties: NaN or infinity", "properties.v is nan"),
        (pa.array([86_400_000, None], pa.time32("ms")), "a value cannot be read", "column 'v'"),
    ],
    ids=["bytes", "bytes in a list", "duration", "map of numbers", "no text", "nan", "no time"],
)  # fmt: skip
def test_what_json_does_not_have_costs_its_record_and_stays_rejected(deliver, tmp_path, array, reason, detail):
    shaping = EventShaping(properties=["v?"])
    with ScriptedServer(echo) as server:
        run = deliver(server, parquet({"v": array}, 2), shaping=shaping)
        assert run.counts == (2, 1, 0, 1, 0)
        (line,) = rejected(run)
        assert line["reason"] == reason
        assert detail in line["detail"]
        assert (line["origin"], line["line"], line["position"]) == ("usage.parquet", 1, 1)
        kept = tmp_path / "rejected.jsonl"
        kept.write_bytes((run.folder / "rejected.jsonl").read_bytes())
        again = deliver(server, FileSource(kept), shaping=shaping)
    assert again.counts == (1, 0, 0, 1, 0)
    assert (rejected(again)[0]["reason"], rejected(again)[0]["detail"]) == (line["reason"], line["detail"])


def test_money_of_a_decimal_column_is_sent_to_its_last_digit(deliver):
    money = pa.array([Decimal("12345678901234567890.123450000000000")], pa.decimal128(38, 15))
    with ScriptedServer(echo) as server:
        deliver(server, parquet({"precise_total_amount_cents": money}))
        (request,) = server.requests
    assert '"precise_total_amount_cents":"12345678901234567890.123450000000000"' in request.body.decode()


def test_lago_holds_what_the_file_says(deliver):
    with Sandbox(store="postgres", api_keys=[KEY]) as server:
        source = parquet({"v": pa.array([Decimal("1.50")] * 300, pa.decimal128(5, 2))}, 300)
        run = deliver(server, source, shaping=MAPPED, settings=connection(server.url))
        assert run.counts == (300, 300, 0, 0, 0)
        held = server.events()
    assert {event["transaction_id"] for event in held} == {f"t{n}" for n in range(300)}
    assert {event["properties"]["v"] for event in held} == {1.5}


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ({"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 2}, Decimal("12345678901234567890.10"), "12345678901234567890.10"),
        ({"type": "int", "logicalType": "date"}, date(2026, 11, 22), '"2026-11-22"'),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, MOMENT, '"2026-03-29T21:00:42.203693"'),
        ({"type": "string", "logicalType": "uuid"}, ID, f'"{ID}"'),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "A", '"A"'),
        ({"type": "map", "values": ["null", "long"]}, {"a": 1, "b": None}, '{"a":1,"b":null}'),
    ],
    ids=["decimal", "date", "local timestamp", "uuid", "enum", "map"],
)  # fmt: skip
def test_a_value_of_avro_is_sent_as_it_is(deliver, kind, value, text):
    with ScriptedServer(echo) as server:
        run = deliver(server, avro(kind, value), shaping=MAPPED)
        (request,) = server.requests
    assert run.counts == (1, 1, 0, 0, 0)
    assert f'"properties":{{"v":{text}}}' in request.body.decode()


def test_bytes_of_avro_are_refused_with_their_place(deliver):
    with ScriptedServer(echo) as server:
        run = deliver(server, avro(["bytes", "string"], b"abc", "abc"), shaping=MAPPED)
    assert run.counts == (2, 1, 0, 1, 0)
    assert rejected(run)[0]["detail"] == "properties.v is a builtins.bytes: convert it first"
    assert rejected(run)[0]["altered"] is True


def test_ids_of_uuids_and_numbers(deliver):
    with ScriptedServer(echo) as server:
        shaping = EventShaping(properties=["v"], transaction_id=["v", "timestamp"], exclude=["transaction_id"])
        deliver(server, avro({"type": "string", "logicalType": "uuid"}, ID), shaping=shaping)
        (request,) = server.requests
    assert request.events[0]["transaction_id"] == f"{ID}:2026-11-22T10%3A00%3A00.250000Z"
