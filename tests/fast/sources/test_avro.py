"""Avro: every value as the file has it, read block by block, and a file that cannot be read says why."""

import io
import sys
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest

from airflow_provider_lago.sources.avro import read_avro
from airflow_provider_lago.sources.rows import BEGINNING, Row, SourceError, Start, Unreadable

fastavro = pytest.importorskip("fastavro")

NUMBERS = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]}


def file(schema, records, **settings):
    stream = io.BytesIO()
    fastavro.writer(stream, fastavro.parse_schema(schema), records, **settings)
    stream.seek(0)
    return stream


def of(kind, *values):
    schema = {"type": "record", "name": "R", "fields": [{"name": "v", "type": kind}, {"name": "n", "type": "int"}]}
    return file(schema, [{"v": value, "n": number} for number, value in enumerate(values, 1)])


def logical(kind, name, **more):
    return {"type": kind, "logicalType": name, **more}


def raw(kind, *values):
    """Write values of a logical type as they are stored, also those that the writer would refuse."""
    plain = {key: value for key, value in kind.items() if key != "logicalType"}
    content = of(plain, *values).getvalue()
    (block,) = fastavro.block_reader(io.BytesIO(content))
    head = of(kind).getvalue()
    return io.BytesIO(head[:-16] + content[-16:] + content[block.offset :])


def read(stream, start=BEGINNING, marks=None, rows=None):
    rows = [] if rows is None else rows
    take = marks.append if marks is not None else lambda mark: None
    ends = []

    def ending():
        ends.append((yield from read_avro(stream, "usage.avro", start, take)))

    rows.extend(ending())
    assert ends == [start.position + len(rows)]
    return rows


def values(stream):
    return [row.data["v"] for row in read(stream)]


MOMENT = datetime(2026, 3, 29, 21, 0, 42, 203693)
AWARE = MOMENT.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (logical("bytes", "decimal", precision=18, scale=4), Decimal("12.3400")),
        (logical("bytes", "decimal", precision=60, scale=0), Decimal(-(10**59))),
        ({**logical("fixed", "decimal", precision=18, scale=9), "name": "F", "size": 8}, Decimal("-0.000000001")),
        (logical("int", "date"), date(2026, 11, 22)),
        (logical("int", "time-millis"), time(23, 59, 59, 999000)),
        (logical("long", "time-micros"), time(0, 0, 0, 1)),
        (logical("long", "timestamp-millis"), AWARE.replace(microsecond=203000)),
        (logical("long", "timestamp-micros"), AWARE),
        (logical("long", "timestamp-micros"), datetime(1, 1, 1, tzinfo=UTC)),
        (logical("long", "local-timestamp-millis"), MOMENT.replace(microsecond=203000)),
        (logical("long", "local-timestamp-micros"), MOMENT),
        (logical("string", "uuid"), uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")),
        (logical("string", "of another program"), "as it is"),
        (["null", logical("long", "timestamp-micros")], AWARE),
        (["null", "string", "long"], None),
        (["null", "string", "long"], 5),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B"),
        ({"type": "fixed", "name": "F", "size": 3}, b"\x00\xff\x01"),
        ("bytes", b"\xff"),
        ("string", "Zürich 🚀"),
        ("double", 0.1),
        ("float", 0.10000000149011612),
        ("long", -(2**63)),
        ("boolean", True),
        ({"type": "array", "items": logical("bytes", "decimal", precision=5, scale=2)}, [Decimal("1.10")]),
        ({"type": "map", "values": ["null", logical("int", "date")]}, {"a": date(2026, 1, 1), "b": None}),
        (
            {"type": "record", "name": "In", "fields": [{"name": "d", "type": logical("int", "date")}, {"name": "more", "type": ["null", "In"]}]},
            {"d": date(2026, 1, 1), "more": {"d": date(2026, 1, 2), "more": None}},
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_is_what_the_file_says(kind, value):
    found = values(of(kind, value, value))
    assert found == [value, value]
    assert str(found[0]) == str(value)
    assert type(found[0]) is type(value)


def test_a_named_type_is_the_same_wherever_it_is_used():
    money = {**logical("fixed", "decimal", precision=40, scale=2), "name": "Money", "size": 20}
    fields = [{"name": "a", "type": money}, {"name": "b", "type": ["null", "Money"]}]
    record = {"a": Decimal("1.10"), "b": Decimal(f"{10**37}.01")}
    (row,) = read(file({"type": "record", "name": "R", "fields": fields}, [record]))
    assert row.data == record
    assert str(row.data["b"]) == f"{10**37}.01"


def test_times_of_nanoseconds_lose_no_digit():
    counts = 1_700_000_000_123_456_789, 1_700_000_000_123_456_000
    moment = datetime(2023, 11, 14, 22, 13, 20, 123456)
    aware, naive = (values(raw(logical("long", f"{zone}timestamp-nanos"), *counts)) for zone in ("", "local-"))
    assert aware == ["2023-11-14T22:13:20.123456789Z", moment.replace(tzinfo=UTC)]
    assert naive == ["2023-11-14T22:13:20.123456789", moment]


def test_a_decimal_that_is_longer_than_declared_is_not_rounded():
    kind = logical("bytes", "decimal", precision=4, scale=2)
    assert values(raw(kind, (1_234_567).to_bytes(3, "big"))) == [Decimal("12345.67")]


def test_durations_are_text():
    stored = (14).to_bytes(4, "little") + (3).to_bytes(4, "little") + (4_050).to_bytes(4, "little")
    kind = {**logical("fixed", "duration"), "name": "D", "size": 12}
    assert values(raw(kind, stored, bytes(12))) == ["P14M3DT4.05S", "P0M0DT0S"]


def test_uuids_of_sixteen_bytes_and_those_that_are_none():
    known = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    assert values(raw({**logical("fixed", "uuid"), "name": "U", "size": 16}, known.bytes)) == [known]
    assert values(raw(logical("string", "uuid"), "none of them")) == ["none of them"]


def test_text_that_is_not_utf_8_is_carried_along():
    stream = of("string", "aab", "c")
    found = values(io.BytesIO(stream.getvalue().replace(b"aab", b"a\xffb")))
    assert found == ["a\udcffb", "c"]


@pytest.mark.parametrize(
    ("kind", "good", "bad", "words"),
    [
        (logical("int", "date"), 1, 2_932_897, "2932897 as date"),
        (logical("long", "timestamp-micros"), 1, 2**62, "as timestamp-micros"),
        (logical("long", "timestamp-nanos"), 1, -(2**63), None),
        (logical("int", "time-millis"), 0, 86_400_000, "as time-millis"),
        (logical("long", "time-micros"), 0, -1, "as time-micros"),
    ],
    ids=str,
)
def test_a_value_that_python_does_not_know_costs_its_record_alone(kind, good, bad, words):
    first, second, third = read(raw(kind, good, bad, good))
    assert (first.data["n"], third.data["n"]) == (1, 3)
    if words is None:
        assert second.data["v"] == "1677-09-21T00:12:43.145224192Z"
    else:
        assert isinstance(second.data, Unreadable)
        assert second.data.detail.startswith("column 'v': ")
        assert words in second.data.detail
        assert "'n': 2" in second.data.text


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard", "bzip2", "xz", "lz4"])
def test_every_codec(codec):
    stream = file(NUMBERS, [{"n": n} for n in range(5_000)], codec=codec, sync_interval=1_000)
    assert [row.data["n"] for row in read(stream)] == list(range(5_000))


def test_a_codec_without_its_library_says_what_to_install(monkeypatch):
    from fastavro import _read

    def missing(decoder):
        raise ValueError("snappy codec is supported but you need to install cramjam")

    monkeypatch.setitem(_read.BLOCK_READERS, "snappy", missing)
    with pytest.raises(
        SourceError, match=r"'usage.avro': snappy .*cramjam: pip install 'airflow-provider-lago\[avro\]'"
    ):
        read(file(NUMBERS, [{"n": 1}], codec="snappy"))


def test_a_codec_that_nobody_knows_is_named():
    content = file(NUMBERS, [{"n": 1}], codec="null").getvalue().replace(b"\x08null", b"\x08fast", 1)
    assert b"fast" in content
    with pytest.raises(SourceError, match=r"'usage\.avro'.*fast.*write it with deflate"):
        read(io.BytesIO(content))


def test_rows_say_where_they_stand():
    rows = read(file(NUMBERS, [{"n": 1}, {"n": 2}]), Start(position=10, file=4))
    assert rows == [Row(11, "usage.avro", 1, {"n": 1}), Row(12, "usage.avro", 2, {"n": 2})]


def test_reading_goes_on_where_it_was_left():
    stream = file(NUMBERS, [{"n": n} for n in range(5_000)], sync_interval=1_000)
    marks = []
    whole = read(stream, Start(position=7, file=2), marks)
    assert len(marks) > 5
    for mark in marks:
        more = []
        assert mark.file == 2
        assert read(stream, mark, more) == whole[mark.position - 7 :]
        assert more == marks[marks.index(mark) + 1 :]


def test_a_file_without_records_has_none():
    assert read(file(NUMBERS, [])) == []


def test_values_that_are_no_records_are_refused():
    with pytest.raises(SourceError, match=r"has no records: .*'string'"):
        read(file("string", ["a"]))


def test_records_of_several_kinds():
    other = {**NUMBERS, "name": "S", "fields": [{"name": "t", "type": "string"}]}
    assert [row.data for row in read(file([NUMBERS, other], [{"n": 1}, {"t": "a"}]))] == [{"n": 1}, {"t": "a"}]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"id,n\n", "is not an Avro file"), (b"Obj\x01", "header cannot be read"), (b"Obj\x01" + b"\xff" * 99, "header cannot be read")],
)  # fmt: skip
def test_what_is_no_avro_file_says_so(content, words):
    with pytest.raises(SourceError, match=f"'usage.avro'.*{words}"):
        read(io.BytesIO(content))


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_records_before_damage_are_handed_on(codec):
    content = bytearray(file(NUMBERS, [{"n": n} for n in range(5_000)], codec=codec, sync_interval=1_000).getvalue())
    blocks = list(fastavro.block_reader(io.BytesIO(content)))
    before, hit = sum(block.num_records for block in blocks[:2]), blocks[2]
    content[hit.offset + hit.size - 4] ^= 0xFF  # of the sync marker
    rows = []
    with pytest.raises(SourceError, match=f"'usage.avro': the block at byte {hit.offset:,} .*damaged"):
        read(io.BytesIO(content), rows=rows)
    assert [row.data["n"] for row in rows] == list(range(before))


def test_a_file_that_was_cut_anywhere_says_so():
    content = file(NUMBERS, [{"n": n} for n in range(500)], sync_interval=1_000).getvalue()
    ends = {block.offset + block.size for block in fastavro.block_reader(io.BytesIO(content))}
    begin = min(block.offset for block in fastavro.block_reader(io.BytesIO(content)))
    assert len(content) in ends
    for size in range(1, len(content)):
        if size == begin or size in ends:
            read(io.BytesIO(content[:size]))  # it cannot be known
        else:
            with pytest.raises(SourceError, match=r"'usage\.avro'"):
                read(io.BytesIO(content[:size]))


def test_no_damage_ends_otherwise_than_with_a_word_about_it():
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "t", "type": ["null", "string"]},
            {"name": "d", "type": logical("bytes", "decimal", precision=9, scale=2)},
            {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A"]}},
            {"name": "l", "type": {"type": "array", "items": logical("int", "date")}},
        ],
    }
    records = [{"t": f"text {n}", "d": Decimal(n), "e": "A", "l": [date(2026, 1, 1)] * 3} for n in range(20)]
    content = file(schema, records).getvalue()
    (block,) = fastavro.block_reader(io.BytesIO(content))
    refused = 0
    for place in range(block.offset, len(content)):
        for value in (0x00, 0x01, 0x7F, 0xFF):
            broken = bytearray(content)
            broken[place] = value
            try:
                read(io.BytesIO(broken))
            except SourceError:
                refused += 1
    assert refused > 500


def test_a_store_that_cannot_be_reached_does_not_make_a_file_damaged():
    class Store(io.BytesIO):
        reads = 0
        allowed = 10_000

        def read(self, size=-1):
            self.reads += 1
            if self.reads > self.allowed:
                raise ConnectionError("no route")
            return super().read(size)

    content = file(NUMBERS, [{"n": n} for n in range(100)], sync_interval=100).getvalue()
    counted = Store(content)
    read(counted)
    for allowed in range(counted.reads):
        failing = Store(content)
        failing.allowed = allowed
        with pytest.raises(ConnectionError, match="no route"):
            read(failing)


def test_what_others_read_with_fastavro_stays_as_it_is():
    kind = logical("bytes", "decimal", precision=4, scale=2)
    stream = of(kind, Decimal("1.10"))
    read(stream)
    stream.seek(0)
    reader = fastavro.reader(stream)
    assert next(reader)["v"] == Decimal("1.10")
    assert reader.writer_schema["fields"][0]["type"]["logicalType"] == "decimal"


def test_without_fastavro_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(SourceError, match=r"pip install 'airflow-provider-lago\[avro\]'"):
        read(io.BytesIO(b"Obj\x01"))
