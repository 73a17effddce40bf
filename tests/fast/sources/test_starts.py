"""Reading a source from where a try before left off: nothing is lost, and positions and lines are the same."""

import io
import json

import pytest

from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.rows import BEGINNING, Limited
from airflow_provider_lago.sources.values import ValueSource


def jsonl(path, numbers, blank_every=7):
    lines = []
    for n in numbers:
        lines.append(json.dumps({"n": n, "text": "é" * (n % 5)}))
        if n % blank_every == 0:
            lines.append("")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def csv(path, numbers):
    path.write_text("n,text\n" + "".join(f'{n},"a\nb"\n' for n in numbers))
    return path


@pytest.fixture
def files(tmp_path):
    return [
        jsonl(tmp_path / "a.jsonl", range(3_500)),
        csv(tmp_path / "b.csv", range(1_500)),
        jsonl(tmp_path / "c.jsonl", range(2_500), blank_every=3),
    ]


def read(source, start=BEGINNING):
    return [(row.position, row.origin, row.line, row.data) for row in source.rows(start)]


@pytest.mark.parametrize(
    "upto", [0, 1, 999, 1_000, 1_001, 3_499, 3_500, 3_501, 4_999, 5_000, 5_001, 6_400, 7_499, 7_500]
)
def test_what_comes_after_a_place_is_what_would_have_come_without_the_break(files, upto):
    first = FileSource(files)
    whole = read(first)
    assert len(whole) == 7_500
    start = first.start_after(upto)
    assert start.position <= upto
    again = FileSource(files)
    assert again.fingerprint() == first.fingerprint()
    assert read(again, start) == whole[start.position :]


def test_json_lines_are_not_read_again_from_the_beginning(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", range(100_000))
    source = FileSource(path)
    read(source)
    start = source.start_after(98_765)
    assert 98_765 - start.position < 1_000
    assert start.offset > path.stat().st_size * 0.95


def test_a_place_near_by_is_known_while_reading_goes_on(tmp_path):
    source = FileSource(jsonl(tmp_path / "a.jsonl", range(30_000)))
    for row in source.rows():
        if row.position % 4_321 == 0:
            start = source.start_after(row.position - 500)
            assert row.position - 500 - 1_000 < start.position <= row.position - 500


def test_a_source_that_was_resumed_can_be_resumed_again(files):
    first = FileSource(files)
    whole = read(first)
    second = FileSource(files)
    rest = read(second, first.start_after(2_000))
    third = FileSource(files)
    assert read(third, second.start_after(4_100)) == whole[second.start_after(4_100).position :]
    assert rest[-1] == whole[-1]


def test_the_share_done_counts_what_was_read_before(files):
    first = FileSource(files)
    read(first)
    second = FileSource(files)
    rows = second.rows(first.start_after(5_000))
    next(rows)
    assert second.share_done() > 0.5


def test_a_limit_counts_from_the_first_record_of_all(files):
    first = Limited(FileSource(files), 2_100)
    whole = read(first)
    start = first.start_after(2_050)
    again = Limited(FileSource(files), 2_100)
    assert read(again, start) == whole[start.position :]
    assert read(again, start)[-1][0] == 2_100


def test_a_limit_is_part_of_what_a_source_is(files):
    prints = {Limited(FileSource(files), n).fingerprint() for n in (1, 2)} | {FileSource(files).fingerprint()}
    assert len(prints) == 3


def test_a_file_that_was_written_again_is_another_source(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", range(10))
    before = FileSource(path).fingerprint()
    path.write_text(path.read_text().replace('"n": 3', '"n": 4'))
    assert FileSource(path).fingerprint() != before


def test_records_are_told_apart_by_what_they_say():
    assert ValueSource([{"a": 1}, {"b": 2}]).fingerprint() == ValueSource([{"a": 1}, {"b": 2}]).fingerprint()
    assert ValueSource([{"a": 1}]).fingerprint() != ValueSource([{"a": 2}]).fingerprint()
    assert ValueSource([{"a": 1}, {}]).fingerprint() != ValueSource([{"a": 1}]).fingerprint()


def test_what_can_be_read_only_once_has_no_fingerprint():
    assert ValueSource(record for record in [{"a": 1}]).fingerprint() is None


def test_the_standard_input_which_cannot_go_back_is_read_as_ever():
    from airflow_provider_lago.sources.json_lines import read_json_lines

    class Pipe(io.BytesIO):
        def seek(self, *_):
            raise OSError("a pipe")

        tell = seek

    assert len(list(read_json_lines(Pipe(b'{"a": 1}\n' * 2_000), "standard input"))) == 2_000
