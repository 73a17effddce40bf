"""CSV is the same whichever way it is read: by blocks, record by record, in parts, or from a place in its middle."""

import io
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_lago.sources import csv_lines
from airflow_provider_lago.sources.csv_lines import LONGEST_RECORD, read_csv
from airflow_provider_lago.sources.csv_options import CsvOptions
from airflow_provider_lago.sources.rows import BEGINNING, SourceError, Unreadable


def rows(content, start=BEGINNING, mark=lambda start: None, **keywords):
    return list(read_csv(io.BytesIO(content), "a.csv", start, mark, **keywords))


def by_record(block, text, lines, table, position):
    lines.ahead.extend(io.BytesIO(block).readlines())
    return position
    yield


contents = st.lists(
    st.sampled_from(["1,2", '"a","b"', '"x\ny",z', ",", "", '"', '3,"4', "\r", '"q"r', "\0", "é,\x85", "5"])
    | st.text('a,"\n\r', max_size=6),
    max_size=25,
).map(lambda lines: "a,b\n" + "\n".join(lines))


unquoted = st.lists(
    st.sampled_from(["1,2", ",", "", "5", "1,2,3", "é,\x85", "\0,\u2028", " , "]) | st.text("a, \x0b\x1c", max_size=5),
    max_size=25,
)


class TestBlocks:
    @settings(max_examples=300, deadline=None)
    @given(contents, st.integers(1, 40))
    @example('a,b\n1,"2\n3,4\n5,6', 8)
    def test_any_text_gives_the_same_rows_by_blocks_of_any_size_and_by_record(self, text, size):
        content = text.encode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CsvOptions, "plain", lambda options, text: None)
            by_block = rows(content)
            patch.setattr(csv_lines, "_block_rows", by_record)
            expected = rows(content)
        assert by_block == expected
        assert rows(content) == expected
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_lines, "_BLOCK", size)
            # A quotation mark that is never closed takes the rest of the file, whatever was read ahead.
            assert rows(content) == expected

    @settings(max_examples=200, deadline=None)
    @given(unquoted, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(1, 40))
    def test_lines_without_quotation_marks_are_split_as_csv_takes_them_apart(self, lines, line_break, ends, size):
        content = line_break.join(["a,b", *lines, ""][: None if ends else -1]).encode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CsvOptions, "plain", lambda options, text: None)
            expected = rows(content)
        assert rows(content) == expected
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_lines, "_BLOCK", size)
            assert rows(content) == expected

    def test_a_record_over_the_edge_of_a_block_is_whole(self):
        content = b"a,b\n" + b'1,"x\ny"\n' * 50_000
        found = rows(content)
        assert len(found) == 50_000
        assert {row.data["b"] for row in found} == {"x\ny"}
        assert [row.line for row in found] == list(range(2, 100_002, 2))

    @pytest.mark.parametrize("more", [0, 1])
    def test_the_longest_record_is_read_and_a_longer_one_costs_itself(self, more):
        line = b"1," + b"x" * (LONGEST_RECORD - 4 + more) + b"\n"
        found = rows(b"a,b\n" + line + b"2,y\n" + line + b"3,z\n")
        assert [type(row.data) for row in found] == [Unreadable if more else dict, dict] * 2
        assert [row.line for row in found] == [2, 3, 4, 5]

    def test_the_memory_does_not_grow_with_the_lines(self):
        content = io.BytesIO(b"a,b\n" + b'"' + b"x" * 60_000_000 + b'",1\n2,y\n' + b"1\n" * 30_000)
        tracemalloc.start()
        try:
            kinds = [row.data.reason for row in read_csv(content, "a.csv", BEGINNING, lambda s: None) if row.line != 3]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert kinds == ["line too long"] + ["wrong number of cells"] * 30_000
        assert peak < 6 * LONGEST_RECORD

    def test_a_header_without_records_has_no_rows(self):
        assert rows(b"a,b") == []


class TestStarts:
    CONTENT = b"\xef\xbb\xbfa,b\n" + b"".join(
        b'%d,"x\ny"\n' % n if n % 5 == 0 else b"%d,\xc3\xa9\n" % n for n in range(12_000)
    )

    def test_reading_goes_on_at_each_marked_place_with_the_same_numbers(self):
        marks = []
        whole = rows(self.CONTENT, mark=marks.append)
        assert len(marks) > 1
        for start in marks:
            assert rows(self.CONTENT, start) == whole[start.position :]

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(0, 12_000), max_size=4))
    def test_parts_that_end_where_the_next_begins_are_the_whole(self, cuts):
        ends = [4 + 3]
        for line in self.CONTENT[7:].split(b"\n")[:-1]:
            ends.append(ends[-1] + len(line) + 1)
        # A place between two records: not within the cell of two lines.
        places = [end for end in (ends[cut] for cut in sorted(cuts)) if self.CONTENT[end : end + 2] != b'y"']
        found, offset, position = [], 0, 0
        for end in [*places, None]:
            part = rows(self.CONTENT, BEGINNING._replace(offset=offset, position=position), end=end)
            found += part
            position, offset = position + len(part), end
        assert [(row.position, row.data) for row in found] == [(row.position, row.data) for row in rows(self.CONTENT)]

    @pytest.mark.parametrize(("end", "count"), [(4, 0), (5, 1), (8, 1), (9, 2), (100, 2)])
    def test_a_part_holds_each_record_that_begins_in_it_as_a_whole(self, end, count):
        assert len(rows(b"a,b\n1,2\n3,4\n", end=end)) == count

    def test_a_record_of_several_lines_that_begins_in_a_part_is_read_to_its_end(self):
        assert [row.data["b"] for row in rows(b'a,b\n1,"x\ny\nz"\n3,4\n', end=5)] == ["x\ny\nz"]


class TestDialects:
    def test_a_tsv_file_is_separated_by_tabs_also_when_it_is_compressed(self):
        for name in ("a.tsv", "a.TAB", "a.tsv.gz"):
            found = list(read_csv(io.BytesIO(b"a\tb\n1\t2,3\n"), name, BEGINNING, lambda s: None))
            assert [row.data for row in found] == [{"a": "1", "b": "2,3"}]

    @pytest.mark.parametrize(("name", "content", "sign"), [("a.csv", b"a;b\n", ";"), ("a.tsv", b"a,b\n", ",")])
    def test_another_separator_is_named_with_the_option_to_set(self, name, content, sign):
        with pytest.raises(SourceError) as error:
            list(read_csv(io.BytesIO(content), name, BEGINNING, lambda s: None))
        assert f"csv_options={{'delimiter': '{sign}'}}" in str(error.value)

    def test_a_separator_that_the_user_named_is_not_doubted(self):
        assert rows(b"a;b\n1;2\n", options=CsvOptions.of({"delimiter": "|"}))[0].data == {"a;b": "1;2"}

    @pytest.mark.parametrize(
        ("given_options", "content", "record"),
        [
            ({"delimiter": ";"}, b"a;b\n1;2,5\n", {"a": "1", "b": "2,5"}),
            ({"quotechar": "'"}, b"a,b\n'1,2',\"\n", {"a": "1,2", "b": '"'}),
            ({"quotechar": None}, b'a,b\n"1,2"\n', {"a": '"1', "b": '2"'}),
            ({"escapechar": "\\", "doublequote": False}, b'a,b\n"x\\"y",z\\,\n', {"a": 'x"y', "b": "z,"}),
            ({"encoding": "latin-1"}, b"a,\xe9\n1,\xfc\n", {"a": "1", "é": "ü"}),
            ({"encoding": "utf-8-sig"}, b"\xef\xbb\xbfa,b\n1,\xc3\xa9\n", {"a": "1", "b": "é"}),
            ({"header": ["a", "b"]}, b"\xef\xbb\xbf1,2\n", {"a": "1", "b": "2"}),
            ({"skip_lines": 2}, b'Report "x\n\na,b\n1,2\n', {"a": "1", "b": "2"}),
            ({"skip_lines": 1, "header": ["a", "b"]}, b"A,B\n1,2\n", {"a": "1", "b": "2"}),
            ({"null": ["", "NULL", "\\N"]}, b"a,b\n\\N,\n", {"a": None, "b": None}),
            ({"null": []}, b"a,b\n,1\n", {"a": "", "b": "1"}),
        ],
    )
    def test_options_say_how_a_file_is_written(self, given_options, content, record):
        assert [row.data for row in rows(content, options=CsvOptions.of(given_options))] == [record]

    def test_a_line_break_that_is_escaped_at_the_edge_of_a_block_belongs_to_its_cell(self, monkeypatch):
        monkeypatch.setattr(csv_lines, "_BLOCK", 4)
        options = CsvOptions.of({"escapechar": "\\", "quotechar": None})
        found = rows(b"a,b\n1,\\\n2\n3,4\n", options=options)
        assert [row.data for row in found] == [{"a": "1", "b": "\n2"}, {"a": "3", "b": "4"}]

    def test_lines_are_counted_with_those_that_are_skipped(self):
        assert rows(b"x\ny\na,b\n1,2\n", options=CsvOptions.of({"skip_lines": 2}))[0].line == 4
