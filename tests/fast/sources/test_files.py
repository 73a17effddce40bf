import csv
import os

import pytest

from airflow_provider_lago.sources import finding
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.json_lines import LONGEST_LINE
from airflow_provider_lago.sources.rows import NothingFound, SourceError, Unreadable


def read(path, content):
    path.write_bytes(content)
    return list(FileSource(str(path)).rows())


def expand(files):
    return [piece.path for piece in finding.expand(files)]


def data(rows):
    return [row.data for row in rows]


class TestNames:
    def test_a_glob_gives_its_files_in_name_order_and_each_once(self, tmp_path):
        for name in ("b.jsonl", "a.jsonl", "c.csv"):
            (tmp_path / name).write_text("")
        found = expand([str(tmp_path / "*.jsonl"), str(tmp_path / "a.jsonl"), str(tmp_path / "c.csv")])
        assert [os.path.basename(path) for path in found] == ["a.jsonl", "b.jsonl", "c.csv"]

    def test_two_stars_reach_into_folders(self, tmp_path):
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "a.jsonl").write_text("")
        assert len(expand(str(tmp_path / "**" / "*.jsonl"))) == 1

    def test_a_file_whose_name_looks_like_a_glob_is_that_file(self, tmp_path):
        path = tmp_path / "a[1].jsonl"
        path.write_text("")
        assert expand(str(path)) == [str(path)]

    def test_a_file_uri_is_a_path(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text("")
        assert expand(f"file://{path}") == [str(path)]

    @pytest.mark.parametrize(
        ("files", "says"),
        [
            ("missing.jsonl", "'missing.jsonl' does not exist"),
            ("['/a.jsonl', '/b.jsonl']", "render_template_as_native_obj"),
            (5, "not a int"),
            ("", "empty path"),
            ([None], "not a NoneType"),
            ("s3://bucket/x.jsonl", "only local files"),
        ],
    )
    def test_a_name_that_is_no_file_is_an_error_that_names_it(self, files, says):
        with pytest.raises(SourceError, match=says):
            FileSource(files)

    def test_a_glob_without_a_match_is_an_error_of_its_own(self, tmp_path):
        with pytest.raises(NothingFound, match="skip_on_empty=True"):
            FileSource(str(tmp_path / "*.jsonl"))

    def test_several_names_of_one_file_are_one_file(self, tmp_path):
        (tmp_path / "a.jsonl").write_text("")
        (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
        assert len(expand([f"{tmp_path}/a.jsonl", f"{tmp_path}/./a.jsonl", f"{tmp_path}/*.jsonl"])) == 1

    def test_no_file_at_all_may_be_normal(self):
        with pytest.raises(NothingFound, match="skip_on_empty"):
            FileSource([])

    def test_a_pipe_is_refused_instead_of_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a.jsonl")
        with pytest.raises(SourceError, match="not a regular file"):
            FileSource(str(tmp_path / "a.jsonl"))

    def test_a_folder_is_refused_with_the_glob_to_write(self, tmp_path):
        with pytest.raises(SourceError, match=r"is a folder.*\*\.jsonl"):
            FileSource(str(tmp_path))

    def test_an_unknown_ending_is_refused_with_the_known_ones(self, tmp_path):
        path = tmp_path / "usage.xlsx"
        path.write_text("")
        with pytest.raises(SourceError, match=r"\.jsonl, \.ndjson, .*\.csv.*file_format"):
            FileSource(str(path))


class TestJsonLines:
    def test_each_line_that_is_not_blank_is_a_row_with_its_place(self, tmp_path):
        rows = read(tmp_path / "a.jsonl", b'{"a":1}\n\n  \n {"a":2} \n{"a":3}')
        assert data(rows) == [b'{"a":1}', b'{"a":2}', b'{"a":3}']
        assert [(row.position, row.line) for row in rows] == [(1, 1), (2, 4), (3, 5)]
        assert rows[1].where == f"{tmp_path / 'a.jsonl'} line 4"

    def test_bom_and_crlf_are_not_part_of_a_record(self, tmp_path):
        assert data(read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a":1}\r\n{"a":2}\r\n')) == [b'{"a":1}', b'{"a":2}']

    def test_positions_go_on_over_files_and_lines_start_anew(self, tmp_path):
        (tmp_path / "a.jsonl").write_bytes(b"1\n2\n")
        (tmp_path / "b.jsonl").write_bytes(b"3\n")
        rows = list(FileSource(str(tmp_path / "*.jsonl")).rows())
        assert [(row.position, row.line) for row in rows] == [(1, 1), (2, 2), (3, 1)]

    def test_a_line_of_10_mb_costs_itself_only_and_not_the_memory(self, tmp_path):
        rows = read(tmp_path / "a.jsonl", b'{"a":1}\n"' + b"x" * 10_000_000 + b'"\n{"a":2}\n')
        assert rows[0].data == b'{"a":1}'
        assert rows[2].data == b'{"a":2}'
        assert rows[2].line == 3
        broken = rows[1].data
        assert isinstance(broken, Unreadable)
        assert broken.reason == "line too long"
        assert "10,000,003 bytes" in broken.detail
        assert len(broken.text) <= 2000

    def test_a_line_of_exactly_the_limit_is_read(self, tmp_path):
        rows = read(tmp_path / "a.jsonl", b"x" * (LONGEST_LINE - 1) + b"\n{}\n")
        assert [len(row.data) for row in rows] == [LONGEST_LINE - 1, 2]

    def test_a_json_array_in_one_long_line_gets_the_hint(self, tmp_path):
        rows = read(tmp_path / "a.jsonl", b"[" + b"1," * LONGEST_LINE + b"1]")
        assert "one JSON array" in rows[0].data.detail

    def test_an_empty_file_has_no_rows(self, tmp_path):
        assert read(tmp_path / "a.jsonl", b"") == []

    def test_the_share_done_grows_to_one(self, tmp_path):
        (tmp_path / "a.jsonl").write_bytes(b"{}\n" * 100_000)
        source = FileSource(str(tmp_path / "a.jsonl"))
        shares = [source.share_done() for row in source.rows() if row.position % 20_000 == 0]
        assert shares == sorted(shares)
        assert 0 < shares[0] < 0.9
        assert source.share_done() == 1


class TestCsv:
    def test_rows_become_records_and_empty_cells_missing_values(self, tmp_path):
        rows = read(tmp_path / "a.csv", b'id,note\n1,"a, ""b"""\n2,\n')
        assert data(rows) == [{"id": "1", "note": 'a, "b"'}, {"id": "2", "note": None}]
        assert [row.line for row in rows] == [2, 3]

    def test_bom_crlf_blank_lines_and_line_breaks_in_cells(self, tmp_path):
        rows = read(tmp_path / "a.csv", b'\xef\xbb\xbfid,n\r\n1,"x\r\ny"\r\n\r\n2,z\r\n')
        assert data(rows) == [{"id": "1", "n": "x\r\ny"}, {"id": "2", "n": "z"}]
        assert [row.line for row in rows] == [2, 5]

    def test_a_ragged_row_costs_itself_only(self, tmp_path):
        rows = read(tmp_path / "a.csv", b"a,b\n1,2\n1\n1,2,3\n3,4\n")
        assert [type(row.data) for row in rows] == [dict, Unreadable, Unreadable, dict]
        assert rows[2].data.detail == "3 cells under a header of 2"
        assert rows[2].data.text == "1,2,3"

    def test_bytes_that_are_not_utf8_reach_the_check_of_their_record(self, tmp_path):
        rows = read(tmp_path / "a.csv", b"a,b\n1,caf\xe9\n2,x\n")
        assert rows[0].data == {"a": "1", "b": "caf\udce9"}
        assert rows[1].data == {"a": "2", "b": "x"}

    def test_a_quotation_mark_that_is_never_closed_gives_back_every_line_that_it_swallows(self, tmp_path):
        rows = read(tmp_path / "a.csv", b'a,b\n1,2\n3,"4\n5,6\n7,8\n')
        assert rows[0].data == {"a": "1", "b": "2"}
        assert [(row.line, row.data.text) for row in rows[1:]] == [(3, '3,"4'), (4, "5,6"), (5, "7,8")]

    def test_a_quoted_cell_without_end_stops_before_its_inside_is_read_as_records(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(b'a,b\n1,"' + b"2,3\n" * (LONGEST_LINE // 4 + 10))
        with pytest.raises(SourceError, match="line 2: a quoted cell does not end"):
            list(FileSource(str(path)).rows())

    def test_long_cells_are_read_whatever_the_limit_of_the_process_is(self, tmp_path):
        csv.field_size_limit(1_000)
        rows = read(tmp_path / "a.csv", b'a,b\n1,"' + b"x\n" * 100_000 + b'"\n2,y\n')
        assert len(rows[0].data["b"]) == 200_000
        assert rows[1].data == {"a": "2", "b": "y"}
        assert rows[1].line == 100_003

    def test_a_line_of_10_mb_costs_itself_only(self, tmp_path):
        rows = read(tmp_path / "a.csv", b"a,b\n1," + b"x" * 10_000_000 + b"\n2,y\n")
        assert rows[0].data.reason == "line too long"
        assert len(rows[0].data.text) <= 2_000
        assert rows[1].data == {"a": "2", "b": "y"}

    def test_blank_lines_before_the_header_are_no_header(self, tmp_path):
        assert data(read(tmp_path / "a.csv", b"\n\r\na,b\n1,2\n")) == [{"a": "1", "b": "2"}]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"a,b,a\n1,2,3\n", r"'a' twice \(columns 1 and 3\)"),
            (b"a,,b\n", "column 2 of the header has no name"),
            (b"a;b\n1;2\n", "separated by ';'"),
            ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ],
    )
    def test_a_header_that_is_ambiguous_is_refused_before_anything_is_sent(self, tmp_path, content, says):
        path = tmp_path / "a.csv"
        path.write_bytes(content)
        with pytest.raises(SourceError, match=says):
            FileSource(str(path))

    def test_an_empty_file_has_no_rows(self, tmp_path):
        assert read(tmp_path / "a.csv", b"") == []
