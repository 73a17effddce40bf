"""Broken and odd records, over real HTTP."""

import json
import types
from collections.abc import Mapping
from datetime import datetime, tzinfo
from decimal import Decimal

import pendulum
import pytest
from support.deliveries import usage
from support.scripted import ScriptedServer, echo

from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.sources.files import FileSource


class NoOffset(tzinfo):
    def utcoffset(self, moment):
        return None

    def dst(self, moment):
        return None

    def tzname(self, moment):
        return None


class Odd:
    def __str__(self):
        raise RuntimeError("no text")


class Text(str):
    pass


class TestSource:
    def test_nothing_mapped_sends_the_lines_of_the_file_byte_for_byte(self, deliver, tmp_path):
        lines = [json.dumps(event, separators=(", ", ": ")).encode() for event in usage(3)]
        (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
        with ScriptedServer(echo) as server:
            deliver(server, FileSource(str(tmp_path / "a.jsonl")))
        assert server.bodies == [b'{"events":[' + b",".join(lines) + b"]}"]

    def test_broken_lines_are_rejected_with_their_line_and_the_others_delivered(self, deliver, tmp_path):
        good = json.dumps(usage(1)[0]).encode()
        (tmp_path / "a.jsonl").write_bytes(
            good + b'\n{"broken": \n[1]\n"text"\n{"a":"\xff"}\nnull\n' + b'{"a":' * 5000 + b"\n"
        )
        with ScriptedServer(echo) as server:
            run = deliver(server, FileSource(str(tmp_path / "a.jsonl")))
        assert run.counts == (7, 1, 0, 6, 0)
        report = [json.loads(line) for line in (run.folder / "rejected.jsonl").read_text().splitlines()]
        assert [line["line"] for line in report] == [2, 3, 4, 5, 6, 7]
        assert report[0]["record"] == '{"broken":'
        assert report[1]["record"] == [1]
        assert [line["reason"] for line in report[:4]] == ["not JSON", "not an object", "not an object", "not UTF-8"]

    def test_csv_with_holes_sends_what_is_whole_and_reports_the_rest(self, deliver, tmp_path):
        (tmp_path / "a.csv").write_bytes(
            b"id,who,at,bytes\n1,s,2023-11-14 22:13:20,5\n2,s,1700000000,\n3,s,1700000000\n4,caf\xe9,1700000000,7\n5,s,never,7\n"
        )
        shaping = EventShaping(
            fields={"transaction_id": "id", "external_subscription_id": "who", "timestamp": "at"},
            constants={"code": "traffic"},
            properties=["bytes"],
        )
        with ScriptedServer(echo) as server:
            run = deliver(server, FileSource(str(tmp_path / "a.csv")), shaping=shaping)
        assert run.counts == (5, 1, 0, 4, 0)
        assert dict(run.tally.reasons) == {
            "property missing: bytes": 1,
            "wrong number of cells": 1,
            "not UTF-8": 1,
            "timestamp: not a time": 1,
        }
        report = [json.loads(line) for line in (run.folder / "rejected.jsonl").read_text().splitlines()]
        assert report[2]["record"]["who"] == "caf\\udce9"

    def test_records_that_json_cannot_hold_are_reported_nevertheless(self, deliver):
        records = usage(2)
        records[0]["properties"] = {"x": float("nan")}
        records[1]["properties"] = {"x": {1, 2}}
        with ScriptedServer(echo) as server:
            run = deliver(server, records)
        assert run.counts == (2, 0, 0, 2, 0)
        report = [json.loads(line) for line in (run.folder / "rejected.jsonl").read_text().splitlines()]
        assert report[0]["record"]["properties"] == {"x": "nan"}
        assert server.requests == []

    def test_skipped_records_are_counted_and_not_sent(self, deliver):
        shaping = EventShaping(transform=lambda record: record if record["properties"]["n"] % 2 else None)
        with ScriptedServer(echo) as server:
            run = deliver(server, usage(10), shaping=shaping)
        assert run.counts == (10, 5, 0, 0, 5)


class TestOddRecords:
    """One odd record must never end a delivery: every retry would end at it again."""

    @pytest.mark.parametrize(
        "odd",
        [
            {"timestamp": "1e99999999999999999999"},
            {"timestamp": Decimal("1e999999999")},
            {"timestamp": datetime(2024, 1, 1, tzinfo=NoOffset())},
            {"transaction_id": 10**5000},
            {"precise_total_amount_cents": Decimal("1e100000000")},
            {"precise_total_amount_cents": "١٢٣"},
            {"properties": {"x": Odd()}},
            {"properties": {"x": {"y": Decimal("NaN")}}},
            {"properties": Odd()},
            {"code": Odd()},
        ],
    )
    def test_it_is_rejected_and_reported_and_the_others_delivered(self, deliver, odd):
        records = usage(3)
        records[1].update(odd)
        if isinstance(odd.get("timestamp"), datetime):
            odd = None  # a zone without an offset is no zone: the time is taken in the given one
        with ScriptedServer(echo) as server:
            run = deliver(server, records)
        assert run.counts == ((3, 3, 0, 0, 0) if odd is None else (3, 2, 0, 1, 0))

    def test_lines_that_are_odd_are_rejected_and_reported(self, deliver, tmp_path):
        good = json.dumps(usage(1)[0]).encode()
        odd = [
            b'{"a":' * 100_000,
            b'{"transaction_id":"x","n":1e99999999999999999999}',
            b'{"transaction_id":"' + b"9" * 10 + b'","timestamp":1e400}',
            b"[" * 3_000 + b"]" * 3_000,
            b'{"transaction_id":"deep","properties":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_001,
        ]
        path = tmp_path / "od\udcffd.jsonl"
        with open(path, "wb") as stream:
            stream.write(b"\n".join([good, *odd]))
        with ScriptedServer(echo) as server:
            run = deliver(server, FileSource(str(path)))
        assert run.counts == (6, 1, 0, 5, 0)

    def test_plain_types_in_disguise_are_sent_as_what_they_are(self, deliver):
        records = usage(1)
        records[0]["properties"] = {
            "text": Text("x"),
            "when": pendulum.datetime(2024, 1, 1),
            "map": types.MappingProxyType({"a": 1}),
        }
        with ScriptedServer(echo) as server:
            deliver(server, records)
        sent = server.requests[0].events[0]["properties"]
        assert (sent["text"], sent["map"]) == ("x", {"a": 1})
        assert sent["when"].startswith("2024-01-01T00:00:00")

    def test_twins_that_differ_by_type_are_a_conflict(self, deliver):
        records = [*usage(1, properties={"n": 1}), *usage(1, properties={"n": True})]
        with ScriptedServer(echo) as server:
            run = deliver(server, records)
        assert run.counts == (2, 1, 0, 1, 0)

    def test_a_transform_cannot_change_the_record_that_is_reported(self, deliver):
        def spoil(record):
            record["properties"]["n"] = "changed"
            raise KeyError("x")

        with ScriptedServer(echo) as server:
            run = deliver(server, usage(1), shaping=EventShaping(transform=spoil))
        assert json.loads((run.folder / "rejected.jsonl").read_text())["record"]["properties"] == {"n": 0}


def test_a_record_whose_own_code_fails_is_rejected_with_what_it_says(deliver):
    class Odd(Mapping):
        def __getitem__(self, name):
            raise RuntimeError("y" * 500)

        def __iter__(self):
            return iter(["code"])

        def __len__(self):
            return 1

    with ScriptedServer(echo) as server:
        run = deliver(server, [*usage(1), Odd()])
    assert run.counts == (2, 1, 0, 1, 0)
    (line,) = (json.loads(line) for line in (run.folder / "rejected.jsonl").read_bytes().splitlines())
    assert (line["position"], line["reason"]) == (2, "cannot be shaped")
    assert line["detail"] == ("RuntimeError: " + "y" * 500)[:200]
