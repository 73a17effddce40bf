"""Local files of lines: what a killed task leaves of them is made whole by the next."""

import pytest

from airflow_provider_lago.storage.folders import LocalFolder
from airflow_provider_lago.storage.lines import CannotContinueError, LineFile

LONG = b'{"n":"' + b"x" * 100_000 + b'"}\n'


@pytest.mark.parametrize("torn", [b"", b"{", b'{"n":1}', LONG[:-1], LONG[:70_000]])
@pytest.mark.parametrize("whole", [b"", b'{"n":0}\n', LONG * 2])
class TestTorn:
    def test_an_earlier_runs_file_is_kept_without_half_a_line(self, tmp_path, whole, torn):
        (tmp_path / "rejected.jsonl").write_bytes(whole + torn)
        LocalFolder(tmp_path).keep_earlier("rejected.jsonl", "summary.json")
        assert (tmp_path / "rejected.1.jsonl").read_bytes() == whole

    def test_what_is_appended_to_begins_behind_the_last_whole_line(self, tmp_path, whole, torn):
        path = tmp_path / "unforwarded.jsonl"
        path.write_bytes(whole + torn)
        file = LineFile(path, append=True)
        file.write(b'{"n":9}\n')
        file.close()
        assert path.read_bytes() == whole + b'{"n":9}\n'

    def test_what_is_gone_on_with_is_cut_at_its_mark(self, tmp_path, whole, torn):
        path = tmp_path / "receipts.jsonl"
        path.write_bytes(whole + torn)
        file = LineFile(path, mark=len(whole))
        file.write(b'{"n":9}\n')
        assert file.seal() == len(whole) + 8
        file.close()
        assert path.read_bytes() == whole + b'{"n":9}\n'


@pytest.mark.parametrize("left", [None, b'{"n":0}\n'])
def test_what_is_not_there_as_it_was_is_not_gone_on_with(tmp_path, left):
    path = tmp_path / "receipts.jsonl"
    if left is not None:
        path.write_bytes(left)
    with pytest.raises(CannotContinueError):
        LineFile(path, mark=9)


def test_a_summary_is_not_a_file_of_lines(tmp_path):
    (tmp_path / "summary.json").write_bytes(b'{"read": 1}')
    LocalFolder(tmp_path).keep_earlier("summary.json")
    assert (tmp_path / "summary.1.json").read_bytes() == b'{"read": 1}'
