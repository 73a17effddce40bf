"""Parquet: every value as the file has it, read in parts, and a file that cannot be read says why."""

import io
import random
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest

from airflow_provider_lago.sources import parquet as reader
from airflow_provider_lago.sources.parquet import read_parquet, row_group_sizes
from airflow_provider_lago.sources.rows import BEGINNING, Row, SourceError, Start, Unreadable

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def file(table, **settings):
    stream = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), stream, **settings)
    stream.seek(0)
    return stream


def read(stream, start=BEGINNING, marks=None, rows=None, **settings):
    rows = [] if rows is None else rows
    take = marks.append if marks is not None else lambda mark: None

    ends = []

    def ending():
        ends.append((yield from read_parquet(stream, "usage.parquet", start, take, **settings)))

    rows.extend(ending())
    assert ends == [start.position + len(rows)]
    return rows


def values(array, **settings):
    return [row.data["v"] for row in read(file({"v": array}, **settings))]


MOMENT = datetime(2026, 3, 29, 21, 0, 42, 203693)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.decimal128(18, 4), Decimal("12.3400")),
        (pa.decimal128(38, 0), Decimal("-12345678901234567890123456789012345678")),
        (pa.decimal128(10, 10), Decimal("0E-10")),
        (pa.decimal256(60, 5), Decimal("1234567890123456789012345678901234567890.10000")),
        (pa.date32(), date(2026, 11, 22)),
        (pa.date64(), date(1, 1, 1)),
        (pa.time32("ms"), time(23, 59, 59, 999000)),
        (pa.time64("us"), time(0, 0, 0, 1)),
        (pa.time64("ns"), time(0, 0, 0, 1)),
        (pa.timestamp("us"), MOMENT),
        (pa.timestamp("ns"), MOMENT),
        (pa.timestamp("ms"), MOMENT.replace(microsecond=203000)),
        (pa.timestamp("s"), MOMENT.replace(microsecond=0)),
        (pa.timestamp("us"), datetime(1, 1, 1)),
        (pa.timestamp("us"), datetime(9999, 12, 31, 23, 59, 59, 999999)),
        (pa.timestamp("us", "UTC"), MOMENT.replace(tzinfo=UTC)),
        (pa.timestamp("ns", "UTC"), MOMENT.replace(tzinfo=UTC)),
        (pa.timestamp("ms", "America/New_York"), MOMENT.replace(microsecond=203000, tzinfo=UTC)),
        (pa.timestamp("us", "+05:30"), MOMENT.replace(tzinfo=UTC)),
        (pa.duration("us"), timedelta(days=-1, microseconds=1)),
        (pa.duration("ns"), timedelta(seconds=5)),
        (pa.uint64(), 2**64 - 1),
        (pa.int64(), -(2**63)),
        (pa.int8(), -128),
        (pa.float64(), 0.1),
        (pa.float32(), 0.10000000149011612),
        (pa.float16(), 1.5),
        (pa.bool_(), True),
        (pa.string(), "Zürich 🚀"),
        (pa.string(), ""),
        (pa.large_string(), "a"),
        (pa.string_view(), "a"),
        (pa.binary(), "Zürich"),
        (pa.large_binary(), ""),
        (pa.binary(3), b"abc"),
        (pa.list_(pa.decimal128(5, 2)), [Decimal("1.10"), None]),
        (pa.large_list(pa.timestamp("ns", "UTC")), [MOMENT.replace(tzinfo=UTC)]),
        (pa.list_(pa.int8(), 2), [1, 2]),
        (pa.list_view(pa.date32()), [date(2026, 1, 1)]),
        (pa.list_(pa.list_(pa.string())), [["a"], [], None]),
        (pa.struct([("a", pa.struct([("b", pa.decimal128(5, 2))])), ("d", pa.date32())]), {"a": {"b": Decimal("1.10")}, "d": None}),
        (pa.map_(pa.string(), pa.decimal128(5, 2)), {"b": Decimal("1.10"), "a": None}),
        (pa.map_(pa.string(), pa.list_(pa.struct([("x", pa.uint64())]))), {"b": [{"x": 2**64 - 1}]}),
        (pa.map_(pa.int32(), pa.string()), {1: "a"}),
        (pa.json_(), '{"a": 1}'),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)  # fmt: skip
@pytest.mark.parametrize("store_schema", [True, False], ids=["arrow's types", "parquet's types"])
def test_a_value_is_what_the_file_says(kind, value, store_schema):
    stored = list(value.items()) if pa.types.is_map(kind) else value
    if isinstance(value, str) and pa.types.is_binary(kind):
        stored = value.encode()
    if pa.types.is_duration(kind):
        store_schema = True  # Parquet has none: without Arrow's schema they are whole numbers
    found = values(pa.array([stored, None, stored], kind), store_schema=store_schema)
    assert found == [value, None, value]
    assert str(found[0]) == str(value)  # the scale of decimals, the zone of times
    assert type(found[0]) is type(value)


def test_dictionaries_nulls_and_uuids():
    texts = pa.array(["a", None, "a"]).dictionary_encode()
    assert values(texts) == ["a", None, "a"]
    assert values(pa.array([None, None])) == [None, None]
    known = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    if hasattr(pa, "uuid"):
        assert values(pa.array([known.bytes, None], pa.uuid())) == [known, None]


def test_a_struct_that_is_null_is_not_one_of_nulls():
    kind = pa.struct([("a", pa.int8())])
    assert values(pa.array([None, {"a": None}, {"a": 1}], kind)) == [None, {"a": None}, {"a": 1}]


def test_times_of_nanoseconds_lose_no_digit():
    count = 1_700_000_000_123_456_789
    aware, naive = (pa.array([count, None, count - 789], pa.timestamp("ns", zone)) for zone in ("Asia/Tokyo", None))
    assert values(aware) == [
        "2023-11-14T22:13:20.123456789Z",
        None,
        datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC),
    ]
    assert values(naive)[0] == "2023-11-14T22:13:20.123456789"
    assert values(pa.array([-1], pa.timestamp("ns")))[0] == "1969-12-31T23:59:59.999999999"
    assert values(pa.array([1_001, 2_000], pa.time64("ns"))) == ["00:00:00.000001001", time(0, 0, 0, 2)]


def test_times_that_python_does_not_know_are_text():
    day = pa.array([2_932_897, 0, None], pa.date32())
    assert values(day) == ["10000-01-01", date(1970, 1, 1), None]
    moment = pa.array([2_932_897 * 86_400_000, 0], pa.timestamp("ms", "UTC"))
    assert values(moment) == ["10000-01-01T00:00:00.000Z", datetime(1970, 1, 1, tzinfo=UTC)]


def test_old_times_of_spark_keep_their_year():
    far = datetime(9999, 12, 31, 23, 59, 59)
    stream = file({"v": pa.array([far, MOMENT], pa.timestamp("us"))}, use_deprecated_int96_timestamps=True)
    assert [row.data["v"] for row in read(stream)] == [far, MOMENT]


def test_bytes_that_are_not_text_are_carried_along():
    assert values(pa.array([b"a", b"\xff", None])) == ["a", "\udcff", None]
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"]).buffers())
    assert values(broken) == ["a", "\udcff"]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (pa.array([[("a", 1)], [("a", 1), ("a", 2)], [("a", 3)]], pa.map_(pa.string(), pa.int8())), "key twice"),
        (pa.array([1_000, 1_001, 3_000], pa.duration("ns")), "duration"),
        (pa.array([0, 86_400_000, 0], pa.time32("ms")), "time32"),
    ],
    ids=["map", "duration", "time"],
)
def test_a_value_that_cannot_be_had_costs_its_record_alone(array, words):
    nested = pa.StructArray.from_arrays([pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), array)], ["x"])
    for column in (array, nested):
        first, second, third = read(file({"v": column, "n": [1, 2, 3]}))
        assert (first.data["n"], third.data["n"]) == (1, 3)
        assert isinstance(second.data, Unreadable)
        assert second.data.reason == "a value cannot be read"
        assert second.data.detail.startswith("column 'v': ")
        assert words in second.data.detail
        assert "'n': 2" in second.data.text


def test_rows_say_where_they_stand():
    stream = file({"n": [1, 2, 3]}, row_group_size=2)
    assert read(stream, Start(position=10, file=4)) == [
        Row(11, "usage.parquet", 1, {"n": 1}),
        Row(12, "usage.parquet", 2, {"n": 2}),
        Row(13, "usage.parquet", 3, {"n": 3}),
    ]


def test_only_the_columns_that_are_needed():
    inner = pa.array([{"b": 1, "c": 2}], pa.struct([("b", pa.int8()), ("c", pa.int8())]))
    table = pa.table({"a": inner, "a.b": [3], "x": [4]})
    (whole,) = read(file(table))
    assert whole.data == {"a": {"b": 1, "c": 2}, "a.b": 3, "x": 4}
    for columns in ({"a"}, {"a.b", "x"}, {"a", "a.b"}, {"x", "not there"}, {"not there"}, set()):
        (row,) = read(file(table), columns=columns)
        assert row.data == {name: value for name, value in whole.data.items() if name in columns}


def test_columns_that_are_not_needed_are_not_read():
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            data = super().read(size)
            self.taken += len(data)
            return data

    content = file({"a": range(100_000), "b": [str(uuid.uuid4()) for _ in range(100_000)]}).getvalue()
    stream = Counted(content)
    assert len(read(stream, columns=["a"])) == 100_000
    assert stream.taken < len(content) / 3


def test_parts_by_row_groups_are_the_whole():
    stream = file({"n": range(1_000)}, row_group_size=130)
    whole = read(stream)
    sizes = row_group_sizes(stream, "usage.parquet")
    assert [rows for rows, _ in sizes] == [130] * 7 + [90]
    packed = [size for _, size in sizes]
    assert len(stream.getvalue()) - 8 <= sum(packed) <= len(stream.getvalue())
    assert packed[0] > packed[-1] > 0
    parts = [read(stream, row_groups=part) for part in ((0, 3), (3, 3), (3, 8))]
    assert [(row.line, row.data) for part in parts for row in part] == [(row.line, row.data) for row in whole]
    assert [row.position for row in parts[2]] == list(range(1, 611))


@pytest.mark.parametrize("part", [(0, 3), (2, 1), (-1, 1)])
def test_parts_of_another_file_are_refused(part):
    with pytest.raises(SourceError, match="has 2 row groups"):
        read(file({"n": [1, 2]}, row_group_size=1), row_groups=part)


@pytest.mark.parametrize("row_groups", [None, (1, 3)])
def test_reading_goes_on_where_it_was_left(row_groups):
    stream = file({"n": range(25_000)}, row_group_size=9_000)
    marks = []
    whole = read(stream, Start(position=7, file=2), marks, row_groups=row_groups)
    assert len(marks) > 3
    assert {mark.file for mark in marks} == {2}
    for mark in marks:
        more = []
        assert read(stream, mark, more, row_groups=row_groups) == whole[mark.position - 7 :]
        assert more == marks[marks.index(mark) + 1 :]


def test_what_was_read_before_the_start_is_not_made_into_values(monkeypatch):
    stream = file({"n": range(20_000)})
    marks = []
    read(stream, marks=marks)
    made = []
    of = reader.ArrowValues.of
    monkeypatch.setattr(reader.ArrowValues, "of", lambda self, array: made.append(len(array)) or of(self, array))
    read(stream, marks[-1])
    assert sum(made) == 20_000 - marks[-1].position < 5_000


def test_a_table_without_rows_has_none():
    assert read(file({"n": pa.array([], pa.int8())})) == []
    assert sum(rows for rows, _ in row_group_sizes(file({"n": pa.array([], pa.int8())}), "f")) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"id,n\n1,2\n", "is not a Parquet file"),
        (b"PAR1", "cannot be read"),
        (b"PAR1" + b"x" * 100 + b"PAR1", "its footer cannot be read"),
        (b"PAR1" + b"x" * 100 + b"\5\0\0\0PARE", "is encrypted"),
        (b"PARE" + b"x" * 100 + b"PARE", "is encrypted"),
    ],
)
def test_what_is_no_parquet_file_says_so(content, words):
    for use in (read, lambda stream: row_group_sizes(stream, "usage.parquet")):
        with pytest.raises(SourceError, match=words) as caught:
            use(io.BytesIO(content))
        assert "'usage.parquet'" in str(caught.value)


def test_a_file_that_was_cut_off_says_so():
    content = file({"n": range(100)}).getvalue()
    with pytest.raises(SourceError, match="is cut off"):
        read(io.BytesIO(content[:-10]))


def test_columns_of_one_name_are_refused():
    with pytest.raises(SourceError, match="two columns 'a'"):
        read(file(pa.table([[1], [2]], names=["a", "a"])))
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["b", "b"])
    with pytest.raises(SourceError, match="two columns 'b'"):
        read(file({"a": pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), twice)}))


def test_a_table_without_columns_is_refused():
    with pytest.raises(SourceError, match="no columns"):
        read(file(pa.table({})))


@pytest.mark.parametrize("checksums", [True, False])
def test_records_before_damage_are_handed_on(checksums):
    codec = "none" if checksums else "snappy"
    stream = file({"n": range(30_000)}, row_group_size=10_000, compression=codec, use_dictionary=False, write_page_checksum=checksums)  # fmt: skip
    content = bytearray(stream.getvalue())
    column = pq.ParquetFile(stream).metadata.row_group(1).column(0)
    middle = column.data_page_offset + column.total_compressed_size // 2
    content[middle : middle + 8] = b"\xff" * 8
    rows = []
    with pytest.raises(
        SourceError, match=r"'usage.parquet': row 10,001 and .*row group 1 ends with row 20,000.*damaged"
    ):
        read(io.BytesIO(content), rows=rows)
    assert [row.data["n"] for row in rows] == list(range(10_000))


def test_no_damage_ends_otherwise_than_with_a_word_about_it():
    table = pa.table({
        "t": [f"text {n}" for n in range(40)],
        "d": pa.array([Decimal(n) for n in range(40)], pa.decimal128(9, 2)),
        "l": [[n, None] for n in range(40)],
        "m": pa.array([MOMENT] * 40, pa.timestamp("us", "UTC")),
    })  # fmt: skip
    content = file(table, row_group_size=20, store_schema=False).getvalue()
    chance = random.Random(5)
    refused = 0
    for _ in range(600):
        broken = bytearray(content)
        broken[chance.randrange(4, len(content) - 4)] = chance.randrange(256)
        try:
            read(io.BytesIO(broken))
        except SourceError:
            refused += 1
    assert 100 < refused < 600


def test_a_store_that_cannot_be_reached_does_not_make_a_file_damaged():
    class Store(io.BytesIO):
        reads = 0
        allowed = 1_000

        def read(self, size=-1):
            self.reads += 1
            if self.reads > self.allowed:
                raise ConnectionError("no route")
            return super().read(size)

    content = file({"n": range(1_000), "t": [str(n) for n in range(1_000)]}).getvalue()
    counted = Store(content)
    read(counted)
    assert counted.reads > 3
    for allowed in range(counted.reads):
        failing = Store(content)
        failing.allowed = allowed
        with pytest.raises(ConnectionError, match="no route"):
            read(failing)


def test_wide_rows_are_read_in_small_pieces():
    marks = []
    text = "x" * 100_000
    read(file({"t": [f"{n}{text}" for n in range(200)]}), marks=marks)
    assert len(marks) >= 4


def test_large_row_groups_are_read_through_windows(monkeypatch):
    table = pa.table({"n": range(200_000), "t": [str(n) for n in range(200_000)]})
    stream = file(table, data_page_size=10_000, use_dictionary=False)
    whole = read(stream)
    monkeypatch.setattr(reader, "_WHOLE_GROUP", 1)

    class Largest(io.BytesIO):
        largest = 0

        def read(self, size=-1):
            self.largest = max(self.largest, size)
            return super().read(size)

    monkeypatch.setattr(reader, "_WINDOWS", 1)
    largest = Largest(stream.getvalue())
    assert read(largest) == whole
    assert largest.largest <= 70_000


def test_without_pyarrow_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install 'airflow-provider-lago\[parquet\]'"):
        read(io.BytesIO(b"PAR1"))
