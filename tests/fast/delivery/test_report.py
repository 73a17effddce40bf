"""The files of a report: what each holds while the delivery runs, and when it is over."""

import json
import re
from decimal import Decimal

import pytest
from support.stores import memory_folder

from airflow_provider_lago.delivery.report import FolderReport, ReportInUseError
from airflow_provider_lago.sources.rows import Row

RUN = {"run_id": "r"}


def rejected(folder, data, **changes):
    """Return the line of a rejected record, as text."""
    report = FolderReport(folder, RUN)
    values = {"reason": "why", "detail": "what", "code": None, "payload": None, **changes}
    report.rejected(Row(1, "usage.jsonl", 1, data), **values)
    report.finish({})
    return (folder / "rejected.jsonl").read_text()


def test_the_summary_of_a_delivery_that_is_killed_says_so(tmp_path):
    report = FolderReport(tmp_path, RUN)
    begun = json.loads((tmp_path / "summary.json").read_bytes())
    report.finish({"read": 0})
    assert begun == {"halted": "running, or killed", "run": RUN}
    assert json.loads((tmp_path / "summary.json").read_bytes()) == {"read": 0, "run": RUN}


def test_a_finished_report_takes_no_more_lines(tmp_path):
    report = FolderReport(tmp_path, RUN, receipts=True)
    beside = report.open("responses.jsonl", append=False)
    report.finish({})
    with pytest.raises(ValueError, match="closed"):
        beside.write(b"{}\n")
    with pytest.raises(ValueError, match="closed"):
        report.receipts([{"position": 1}])


def test_keeping_makes_all_files_safe_that_are_in_an_object_store():
    folder, _ = memory_folder()
    report = FolderReport(folder, RUN, receipts=True)
    report.rejected(Row(1, "f", 1, {}), reason="why", detail="what", code=None, payload=None)
    report.receipts([{"position": 1}])
    assert report.is_remote
    assert report.held > 0
    assert set(report.seal()) == {"rejected.jsonl", "receipts.jsonl"}
    report.keep()
    assert report.held == 0


@pytest.mark.parametrize("append", [True, False])
def test_a_file_beside_the_evidence_is_gone_on_with_only_where_that_is_asked_for(tmp_path, append):
    for line in (b"1\n", b"2\n"):
        report = FolderReport(tmp_path, RUN)
        report.open("responses.jsonl", append=append).write(line)
        assert report.paths()["responses"] == str(tmp_path / "responses.jsonl")
        report.finish({})
    assert (tmp_path / "responses.jsonl").read_bytes() == (b"1\n2\n" if append else b"2\n")
    assert (tmp_path / "responses.1.jsonl").exists() is not append


def test_a_decimal_stays_a_number_with_all_its_digits(tmp_path):
    line = rejected(tmp_path, {"amount": Decimal("0.10000000000000000000000000001")})
    assert '"amount":0.10000000000000000000000000001}' in line


def test_a_long_line_that_is_no_json_is_kept_whole(tmp_path):
    line = json.loads(rejected(tmp_path, b'{"a": "\xff' + b"x" * 5_000))
    assert line["record"] == '{"a": "\\xff' + "x" * 5_000


def test_a_record_that_holds_itself_is_shown_as_text(tmp_path):
    data = {"id": "a"}
    data["self"] = data
    assert json.loads(rejected(tmp_path, data))["record"] == "{'id': 'a', 'self': {...}}"


@pytest.mark.parametrize("text", ["", "cut {", "[]", "{}", "5", '{"run": "r"}', '{"run": null}'])
def test_a_summary_that_names_no_owner_keeps_nobody_out(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    FolderReport(tmp_path, {"dag_id": "d", "task_id": "t", "map_index": -1}).finish({})
    assert (tmp_path / "summary.1.json").read_text() == text


def test_each_line_says_when_to_the_second_and_in_which_run(tmp_path):
    report = FolderReport(tmp_path, RUN, conflicts=True)
    report.rejected(Row(1, "f", 1, {}), reason="why", detail="what", code=None, payload=None)
    report.conflict({"position": 1})
    report.finish({})
    for name in ("rejected.jsonl", "conflicts.jsonl"):
        line = json.loads((tmp_path / name).read_bytes())
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line["at"])
        assert line["run"] == RUN


@pytest.mark.parametrize("name", ["dag_id", "task_id", "map_index"])
def test_the_folder_of_another_task_is_not_written_into(tmp_path, name):
    run = {"dag_id": "d", "task_id": "t", "map_index": 1, "run_id": "r"}
    FolderReport(tmp_path, run).finish({})
    FolderReport(tmp_path, {**run, "run_id": "another"}).finish({})
    with pytest.raises(ReportInUseError):
        FolderReport(tmp_path, {**run, name: 7})


def test_a_receipt_of_a_file_whose_name_is_no_unicode_is_shown_nevertheless(tmp_path):
    report = FolderReport(tmp_path, RUN, receipts=True)
    report.receipts([{"position": 1, "origin": "a"}, {"position": 2, "origin": "\udcff"}])
    report.finish({})
    lines = [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_bytes().splitlines()]
    assert lines == [{"position": 1, "origin": "a"}, {"position": 2, "origin": "\\udcff"}]
