"""A plan of shards: together all records, each once, and about the same for each task."""

import csv
import io
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lago.sharding import plan_shards, sum_summaries
from airflow_provider_lago.sources.csv_options import CsvOptions
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.formats import Reading
from airflow_provider_lago.sources.rows import SourceError


def read(files, **reading):
    return [row.data for row in FileSource(files, Reading(**reading)).rows()]


def shards_of(files, count, **arguments):
    plan = json.loads(json.dumps(plan_shards(files, count, **arguments)))  # as XCom hands it on
    return [shard["files"] for shard in plan]


def joined(shards, **reading):
    return [data for shard in shards for data in read(shard, **reading)]


def write(path, text):
    path.write_text(text, newline="")
    return str(path)


def jsonl(path, numbers):
    return write(path, "".join(json.dumps({"n": n, "text": "é" * (n % 7)}) + "\n" for n in numbers))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_lines_are_divided_evenly_and_none_is_cut(tmp_path, count):
    path = jsonl(tmp_path / "a.jsonl", range(2_000))
    shards = shards_of(path, count)
    assert len(shards) == count
    assert joined(shards) == read(path)
    sizes = [end - begin for shard in shards for begin, end in ([part["bytes"] for part in shard] if count > 1 else [])]
    assert max(sizes, default=0) - min(sizes, default=0) < 100


def test_files_are_dealt_so_that_all_have_about_the_same(tmp_path):
    for name, size in (("a", 1_000), ("b", 10), ("c", 2_000), ("d", 500)):
        jsonl(tmp_path / f"{name}.jsonl", range(size))
    shards = shards_of(str(tmp_path / "*.jsonl"), 3)
    counts = [len(read(shard)) for shard in shards]
    assert sum(counts) == 3_510
    assert max(counts) - min(counts) < 600
    everything = [line for shard in shards for line in read(shard)]
    assert sorted(everything) == sorted(read(str(tmp_path / "*.jsonl")))


def test_more_shards_than_records_are_fewer_shards(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", range(3))
    shards = shards_of(path, 20)
    assert len(shards) == 3
    assert joined(shards) == read(path)


def test_positions_begin_anew_and_the_place_says_where(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", range(100))
    _, second = shards_of(path, 2)
    row = next(iter(FileSource(second).rows()))
    begin = second[0]["bytes"][0]
    assert (row.position, row.line) == (1, 1)
    assert row.origin == f"{path} from byte {begin:,}"


def test_compressed_files_and_arrays_are_read_by_one_task_each(tmp_path):
    import gzip

    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"n":1}\n' * 1_000))
    (tmp_path / "b.jsonl").write_bytes(gzip.compress(b'{"n":2}\n' * 1_000))
    (tmp_path / "c.json").write_text(json.dumps([{"n": 3}] * 1_000))
    shards = shards_of(str(tmp_path / "*"), 6)
    assert sorted(os.path.basename(part["file"]) for shard in shards for part in shard) == [
        "a.jsonl.gz",
        "b.jsonl",
        "c.json",
    ]
    assert all("bytes" not in part for shard in shards for part in shard)
    assert sum(len(read(shard)) for shard in shards) == 3_000


def test_a_file_that_changed_after_the_plan_is_not_read(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", range(100))
    shards = shards_of(path, 2)
    jsonl(tmp_path / "a.jsonl", range(101))
    with pytest.raises(SourceError, match=r"a\.jsonl' has changed since plan_shards looked at it"):
        FileSource(shards[1])


def test_a_file_that_is_gone_after_the_plan_is_named(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", range(100))
    shards = shards_of(path, 2)
    os.unlink(path)
    with pytest.raises(SourceError, match=r"a\.jsonl' is not there any more"):
        FileSource(shards[1])


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"bytes": [0, 5]}, "names no file"),
        ({"file": "a.jsonl", "rows": [0, 5]}, "it has rows"),
        ({"file": "a.jsonl", "bytes": [5, 0]}, "no range"),
        ({"file": "a.jsonl", "bytes": 5}, "no part of a file"),
        ({"file": "a.jsonl", "size": 5}, "no part of a file"),
    ],
)
def test_what_is_no_part_of_a_file_is_an_error_that_shows_it(part, says):
    with pytest.raises(SourceError, match=says):
        FileSource([part])


def test_a_part_that_a_format_does_not_have_is_an_error(tmp_path):
    path = write(tmp_path / "a.json", "[]")
    with pytest.raises(SourceError, match="has no such parts"):
        FileSource([{"file": path, "bytes": [0, 1]}])


class TestTables:
    def test_every_shard_knows_the_header(self, tmp_path):
        path = write(tmp_path / "a.csv", "n,text\n" + "".join(f"{n},x\n" for n in range(1_000)))
        shards = shards_of(path, 4)
        assert len(shards) == 4
        assert joined(shards) == read(path)

    def test_a_line_break_in_a_cell_is_none_between_records(self, tmp_path):
        text = "".join(f'{n},"a\n{n},b\n"\n' for n in range(1_000))
        path = write(tmp_path / "a.csv", f"n,text\n{text}")
        shards = shards_of(path, 7)
        assert len(shards) == 7
        assert joined(shards) == read(path)

    def test_a_table_without_a_header_line_is_divided_too(self, tmp_path):
        path = write(tmp_path / "a.csv", "".join(f"{n};x\n" for n in range(500)))
        options = {"header": ["n", "x"], "delimiter": ";"}
        shards = shards_of(path, 3, csv_options=options)
        assert len(shards) == 3
        reading = {"csv": CsvOptions.of(options)}
        assert joined(shards, **reading) == read(path, **reading)

    @settings(max_examples=150, deadline=None)
    @given(
        rows=st.lists(st.lists(st.text("ab\",\n\r'é", max_size=6), min_size=2, max_size=3), max_size=30),
        count=st.integers(2, 6),
        raw=st.booleans(),
    )
    def test_shards_read_what_the_whole_file_holds_whatever_it_holds(self, tmp_path_factory, rows, count, raw):
        path = tmp_path_factory.mktemp("table") / "a.csv"
        if raw:  # anything, also what is no CSV
            text = "a,b\n" + "\n".join(",".join(cells) for cells in rows)
        else:
            out = io.StringIO()
            csv.writer(out).writerows([["a", "b"], *rows])
            text = out.getvalue()
        path.write_text(text, newline="", encoding="utf-8")
        try:
            whole = read(str(path))
        except SourceError:
            return
        assert joined(shards_of(str(path), count)) == whole


class TestParquet:
    @pytest.mark.parametrize("count", [2, 3, 5, 40])
    def test_row_groups_are_divided(self, tmp_path, count):
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        path = str(tmp_path / "a.parquet")
        pq.write_table(pa.table({"n": range(2_000)}), path, row_group_size=100)
        shards = shards_of(path, count)
        assert len(shards) == min(count, 20)
        assert joined(shards) == read(path)
        counts = [len(read(shard)) for shard in shards]
        assert max(counts) - min(counts) <= 200  # groups are as large as they are packed, not as they have rows


class TestRates:
    def test_the_bound_of_all_is_divided(self, tmp_path):
        path = jsonl(tmp_path / "a.jsonl", range(100))
        assert [shard["requests_per_second"] for shard in plan_shards(path, 4, requests_per_second=10)] == [2.5] * 4
        assert "requests_per_second" not in plan_shards(path, 4)[0]

    @pytest.mark.parametrize("shards", [0, -1, 1_025, "4", True, 2.5])
    def test_what_is_no_number_of_shards_is_refused(self, tmp_path, shards):
        with pytest.raises(ValueError, match="shards must be a whole number from 1 to 1024"):
            plan_shards(jsonl(tmp_path / "a.jsonl", range(3)), shards)


class TestSums:
    def test_counts_and_reasons_add_up(self):
        one = {"read": 3, "accepted": 1, "duplicate": 1, "rejected": 1, "skipped": 0, "requests": 2, "seconds": 1.5}
        other = {**one, "seconds": 4.0, "reasons": {"code: missing": 1}, "report": {"rejected": "x"}}
        assert sum_summaries(iter([one, None, other])) == {
            "read": 6,
            "accepted": 2,
            "duplicate": 2,
            "rejected": 2,
            "skipped": 0,
            "requests": 4,
            "seconds": 4.0,
            "shards": 2,
            "reasons": {"code: missing": 1},
        }

    def test_what_is_no_summary_is_named(self):
        with pytest.raises(ValueError, match="mapped task 0 returned is not the summary"):
            sum_summaries([{"dry_run": True}])
