"""A JSON array is cut into the texts of its elements, each exactly as it stands there."""

import io
import json
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_lago.sources import json_array
from airflow_provider_lago.sources.json_array import check_json, read_json, read_json_array
from airflow_provider_lago.sources.json_lines import LONGEST_LINE
from airflow_provider_lago.sources.rows import BEGINNING, SourceError, Unreadable


def rows(content, start=BEGINNING, mark=None, read=read_json):
    return list(read(io.BytesIO(content), "a.json", start, mark))


def data(content):
    return [row.data for row in rows(content)]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)

#: Of these, the guesses at the end of an element can go wrong.
PIECES = ['{"a":1}', '{"b":[{"c":2},{"c":3}]}', '{"d":{"e":1},"f":2}', '"},{"', '{"g":"},{"}', ",", ", ", "]", "}"]

blanks = st.text(" \t\r\n", max_size=3)


def deep(levels):
    return [{"a": [deep(levels - 1)]}] if levels else "]}"


class TestElements:
    @settings(max_examples=200, deadline=None)
    @given(st.lists(values, max_size=8), blanks, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 40))
    @example([deep(6), {"\\": '\\"', '"': "}],{["}], "", False, None, 1)
    def test_each_element_is_the_text_that_stands_there(self, elements, space, ascii_only, indent, block):
        texts = [json.dumps(e, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace") for e in elements]
        content = f"{space}[{space}".encode() + f"{space},{space}".encode().join(texts) + f"{space}]{space}".encode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_array, "_BLOCK", block)
            found = rows(content, read=read_json_array)
        assert [row.data for row in found] == texts
        assert [(row.position, row.line) for row in found] == [(n, n) for n in range(1, len(texts) + 1)]

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.sampled_from(PIECES) | st.text('{}[]",\\ a1', max_size=3), max_size=20).map("".join),
        st.integers(1, 20),
    )
    def test_both_ways_see_the_same_in_any_text(self, text, block):
        def seen():
            found, stream = [], io.BytesIO(b"[" + text.encode())
            try:
                found.extend(row.data for row in read_json_array(stream, "a.json"))
            except SourceError as error:
                found.append(str(error))
            return found

        quick = seen()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_array, "_GUESSES", 0)
            patch.setattr(json_array, "_BLOCK", block)
            assert seen() == quick

    def test_numbers_doubled_names_and_escapes_stand_as_they_are(self):
        text = b'{"n":0.10,"n":123456789012345678901234567890,"x":1e400,"s":"\\ud800"}'
        assert data(b"[" + text + b"]") == [text]

    def test_a_wrong_element_costs_itself_only(self):
        wrong = [b'{"a":NaN}', b'{"a":1]', b'{"a":1}}', b"5", b'"x,]"', b"null", b'{"a":1}{"b":2}', b"[[{}],{}]"]
        elements = [element for text in wrong for element in (text, b'{"b":1}')]
        assert data(b"[" + b", ".join(elements) + b"]") == elements

    def test_nothing_between_two_commas_is_reported_and_nothing_behind_the_last_is_not(self):
        found = data(b'[{"a":1},,{"a":2},\n]')
        assert [found[0], found[2]] == [b'{"a":1}', b'{"a":2}']
        assert found[1].reason == "not JSON"
        assert len(found) == 3

    @pytest.mark.parametrize("content", [b"[]", b" [ \n ] ", b"\xef\xbb\xbf[]"])
    def test_an_empty_array_has_no_rows(self, content):
        assert rows(content) == []

    def test_a_byte_order_mark_is_no_part_of_it(self):
        assert data(b'\xef\xbb\xbf[{"a":1}]') == [b'{"a":1}']


class TestBreaks:
    @pytest.mark.parametrize("size", range(1, 23))
    def test_an_array_that_breaks_off_gives_its_whole_elements_and_then_an_error(self, size):
        content = b'[{"a":"x"},{"b":[1,2]}]'[:size]
        found = []
        with pytest.raises(SourceError, match="breaks off") as error:
            found.extend(row.data for row in read_json_array(io.BytesIO(content), "a.json"))
        whole = [text for text, end in ((b'{"a":"x"}', 11), (b'{"b":[1,2]}', 23)) if size >= end]
        assert found == whole
        assert f"behind element {len(whole)}, at byte {size}:" in str(error.value)

    @pytest.mark.parametrize("rest", [b"x", b"\n[{}]", b" " * 300_000 + b","])
    def test_what_follows_the_array_is_an_error_behind_its_elements(self, rest):
        found = []
        with pytest.raises(SourceError, match="something follows"):
            found.extend(read_json_array(io.BytesIO(b"[{}]" + rest), "a.json"))
        assert len(found) == 1

    @pytest.mark.parametrize("content", [b"", b" \n", b'{"a":1}', b"5"])
    def test_what_is_no_array_is_refused(self, content):
        with pytest.raises(SourceError, match="is not a JSON array"):
            rows(content, read=read_json_array)


class TestMemory:
    def test_an_element_of_any_size_costs_itself_and_not_the_memory(self):
        huge = b'{"a":"' + b'\\"]},' * 6_000_000 + b'"}'
        content = io.BytesIO(b'[{"n":1},' + huge + b',{"n":2}]')
        tracemalloc.start()
        try:
            found = list(read_json(content, "a.json", BEGINNING, None))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [found[0].data, found[2].data] == [b'{"n":1}', b'{"n":2}']
        assert found[1].data.reason == "element too long"
        assert f"{len(huge):,} bytes" in found[1].data.detail
        assert len(found[1].data.text) <= 2_000
        assert peak < 5 * LONGEST_LINE < len(huge)

    @pytest.mark.parametrize("more", [0, 1])
    def test_the_longest_element_is_read_and_a_longer_one_is_not(self, more):
        text = b'{"a":"' + b"x" * (LONGEST_LINE - 8 + more) + b'"}'
        found = data(b"[" + text + b"," + text + b"]")
        assert [type(element) for element in found] == [Unreadable if more else bytes] * 2

    def test_blanks_of_any_length_before_an_element_are_no_part_of_it(self):
        assert data(b"[" + b" " * (2 * LONGEST_LINE) + b"{} , {}]") == [b"{}", b"{}"]


class TestStarts:
    def test_reading_goes_on_at_a_marked_place_with_the_same_numbers(self):
        content = json.dumps([{"n": n, "t": "é],"} for n in range(30_000)], ensure_ascii=False).encode()
        marks = []
        whole = rows(content, mark=marks.append)
        assert len(marks) > 1
        for mark in marks:
            assert rows(content, mark) == whole[mark.position :]

    def test_positions_go_on_from_the_files_before(self):
        found = rows(b'[{"a":1}]', BEGINNING._replace(position=41, file=3))
        assert [(row.position, row.line) for row in found] == [(42, 1)]


class TestKinds:
    def test_one_object_a_line_is_read_as_lines(self):
        assert data(b'{"a":1}\n\n{"a":2}\n') == [b'{"a":1}', b'{"a":2}']

    def test_one_object_in_one_line_is_one_record(self):
        assert data(b'{"a":[{"b":1}],"c":2}') == [b'{"a":[{"b":1}],"c":2}']

    def test_a_damaged_first_line_costs_itself_only(self):
        assert data(b'{"a":{"b":1\n{"a":2}\n') == [b'{"a":{"b":1', b'{"a":2}']

    def test_a_nul_in_a_line_costs_its_record_only(self):
        assert data(b'{"a":"\0"}\n{"a":2}\n') == [b'{"a":"\0"}', b'{"a":2}']

    def test_an_empty_file_has_no_rows(self):
        assert rows(b"") == []

    @pytest.mark.parametrize("value", [{"a": 1, "b": 2}, {"events": [{"a": 1}]}, {"a": {"b": 1}}])
    def test_an_object_over_several_lines_is_refused_with_what_is_expected(self, value):
        with pytest.raises(SourceError, match=r"over several lines: give one array of objects.*one object a line"):
            rows(json.dumps(value, indent=2).encode())

    @pytest.mark.parametrize("count", [1, 100_000])
    def test_an_object_around_the_records_is_refused_with_the_name_of_the_list(self, count):
        content = json.dumps({"events": [{"a": 1, "text": "x" * 60}] * count}).encode()
        with pytest.raises(SourceError, match="whose 'events' holds the records"):
            rows(content)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_utf_16_is_named(self, encoding):
        with pytest.raises(SourceError, match="UTF-16"):
            rows('{"a":1}'.encode(encoding))

    @pytest.mark.parametrize(
        ("content", "is_array"), [(b"\n [1]", True), (b" " * 5_000 + b"[1]", True), (b"{}", False), (b"", False)]
    )
    def test_a_check_leaves_the_file_at_its_beginning(self, content, is_array):
        stream = io.BytesIO(content)
        assert check_json(stream, "a.json") is is_array
        assert stream.tell() == 0
