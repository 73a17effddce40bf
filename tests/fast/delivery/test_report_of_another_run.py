"""A retry whose report folder another run has taken meanwhile."""

import pytest

from airflow_provider_lago.delivery.report import FolderReport
from airflow_provider_lago.sources.rows import Row
from airflow_provider_lago.storage.lines import CannotContinueError


def run(name, try_number=1):
    return {"dag_id": "d", "run_id": name, "task_id": "t", "map_index": -1, "try_number": try_number}


def reject(report, position):
    report.rejected(Row(position, "f", position, {"n": position}), reason="r", detail="d", code=None, payload=None)


def begun(folder, name):
    """Return the marks of a try that wrote one line, sealed, and one more."""
    report = FolderReport(folder, run(name))
    reject(report, 1)
    marks = report.seal()
    reject(report, 2)
    return marks


def test_the_marks_of_one_run_do_not_cut_the_evidence_of_another(tmp_path):
    marks = begun(tmp_path, "monday")
    begun(tmp_path, "tuesday")
    evidence = (tmp_path / "rejected.jsonl").read_bytes()

    with pytest.raises(CannotContinueError, match="tuesday"):
        FolderReport(tmp_path, run("monday", 2), marks=marks)

    assert (tmp_path / "rejected.jsonl").read_bytes() == evidence


def test_another_try_of_the_same_run_goes_on_with_its_files(tmp_path):
    marks = begun(tmp_path, "monday")

    FolderReport(tmp_path, run("monday", 2), marks=marks)

    assert len((tmp_path / "rejected.jsonl").read_bytes().splitlines()) == 1


def test_nothing_is_cut_where_a_file_is_missing_that_this_try_wants(tmp_path):
    marks = begun(tmp_path, "monday")

    with pytest.raises(CannotContinueError, match="receipts"):
        FolderReport(tmp_path, run("monday", 2), marks=marks, receipts=True)

    assert len((tmp_path / "rejected.jsonl").read_bytes().splitlines()) == 2


def test_receipts_that_this_try_does_not_want_are_not_left_half_written(tmp_path):
    marks = FolderReport(tmp_path, run("monday"), receipts=True).seal()

    with pytest.raises(CannotContinueError, match="receipts"):
        FolderReport(tmp_path, run("monday", 2), marks=marks)
