"""What a checkpoint says, and of which delivery."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.deliveries import KEY, connection, usage
from support.stores import memory_folder

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery.checkpoint import (
    Checkpoint,
    FolderCheckpoints,
    NotUsable,
    fingerprint,
    read_checkpoint,
)
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.delivery.shaping import StartOfTry
from airflow_provider_lago.sources.rows import Start
from airflow_provider_lago.sources.values import ValueSource
from airflow_provider_lago.storage.folders import LocalFolder

RUN = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}


def plan(records=None, settings=None, **shaping):
    return EventPlan(
        source=ValueSource(usage(3) if records is None else records),
        settings=settings or connection("http://lago"),
        user_agent="test",
        shaping=EventShaping(**shaping),
    )


def mark(*arguments, **changes):
    return fingerprint(plan(*arguments, **changes), RUN)


def double(record):
    return {**record, "n": record["n"] * 2}


def triple(record):
    return {**record, "n": record["n"] * 3}


def times(record, by):
    return record if record["kind"] in {"a", "b", "c", "d"} else {**record, "n": record["n"] * by}


def closing_over(factor):
    return lambda record: {**record, "n": record["n"] * factor}


class TestFingerprint:
    def test_the_same_delivery_has_the_same_one(self):
        arguments = {"transform": double, "constants": {"code": "c", "at": datetime(2026, 1, 1, tzinfo=UTC)}}
        assert mark(**arguments) == mark(**arguments)

    @pytest.mark.parametrize(
        "other",
        [
            {"records": usage(4)},
            {"fields": {"code": "kind"}},
            {"constants": {"code": "d"}},
            {"constants": {"code": Decimal("1.0")}},
            {"constants": {"timestamp": datetime(2026, 1, 2, tzinfo=UTC)}},
            {"exclude": ["a"]},
            {"transform": double},
            {"transaction_id": "hash"},
            {"transaction_id": ["a", "b"]},
            {"timestamp_unit": "ms"},
            {"zone": ZoneInfo("Europe/Paris")},
            {"properties": ["n"]},
            {"properties": {"n": "m"}},
            {"settings": connection("http://other")},
            {"settings": connection("http://lago", api_key="another organization's")},
            {"settings": connection("http://lago", ingest_url="http://ingest/api/v1")},
        ],
        ids=repr,
    )
    def test_whatever_changes_what_is_delivered_changes_it(self, other):
        assert mark(**other) != mark()

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (double, triple),
            (partial(times, by=2), partial(times, by=3)),
            (closing_over(2), closing_over(3)),
            (lambda record: {**record, "n": 1}, lambda record: {**record, "n": 2}),
            (lambda record, by=1: record, lambda record, by=2: record),
        ],
    )
    def test_a_function_that_was_changed_is_another_one(self, one, other):
        assert mark(transform=one) == mark(transform=one)
        assert mark(transform=one) != mark(transform=other)

    def test_another_run_mapping_or_task_is_another_delivery(self):
        prints = {fingerprint(plan(), {**RUN, name: 7}) for name in RUN}
        assert len(prints | {mark()}) == len(RUN) + 1

    def test_the_pace_may_change_between_two_tries(self):
        one = plan()
        assert fingerprint(replace(one, concurrency=64, requests_per_second=3.0), RUN) == fingerprint(one, RUN)

    @pytest.mark.parametrize(
        "other",
        [
            {"policy": RetryPolicy(attempts=9)},
            {"user_agent": "another version"},
            {"settings": connection("http://lago", read_timeout=5.0)},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_how_patient_a_try_is_does_not_count(self, other):
        one = plan()
        assert fingerprint(replace(one, **other), RUN) == fingerprint(one, RUN)

    def test_the_time_at_which_each_try_begins_is_the_same_delivery(self):
        early, late = (StartOfTry(2026, 1, day, tzinfo=UTC) for day in (1, 2))
        assert mark(constants={"timestamp": early}) == mark(constants={"timestamp": late})

    def test_it_says_nothing_of_the_key(self):
        assert KEY not in mark()
        assert KEY[:8] not in mark()

    def test_it_is_the_same_in_another_process(self):
        """Sets, for one, come in another order in each process."""
        code = (
            "import sys; sys.path[:0] = sys.argv[1:]\n"
            "from functools import partial\n"
            "import test_checkpoint as t\n"
            "print(t.mark(transform=partial(t.times, by=2), constants={'tags': ['x']}))"
        )
        here = Path(__file__).parent
        prints = {
            subprocess.run(
                [sys.executable, "-c", code, str(here), str(here.parents[1])],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2", "3")
        }
        assert len(prints) == 1

    def test_a_source_that_can_be_read_only_once_has_none(self):
        assert fingerprint(plan(iter(usage(3))), RUN) is None


CHECKPOINT = Checkpoint(
    fingerprint="f",
    life=3,
    start=Start(1_000, 1, 1_002, 65_536),
    settled=[1_200, 3, 100],
    sent_to=5_000,
    counts={"read": 1_300, "accepted": 1_300, "reasons": {}},
    seconds=1.5,
    evidence={"rejected.jsonl": 7},
)


class TestReading:
    def test_what_is_kept_is_what_was_saved(self, tmp_path):
        place = FolderCheckpoints(LocalFolder(tmp_path))
        assert place.load() is None
        place.save(CHECKPOINT.stored())
        assert read_checkpoint(place.load(), "f", 3) == CHECKPOINT
        place.delete()
        assert place.load() is None
        place.delete()
        assert os.listdir(tmp_path) == []

    def test_the_last_one_that_was_saved_counts_and_the_file_stays_short(self, tmp_path, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.delivery.checkpoint._LONGEST_FILE", 2_000)
        place = FolderCheckpoints(LocalFolder(tmp_path))
        longest = 0
        for seconds in range(100):
            place.save({**CHECKPOINT.stored(), "seconds": seconds})
            assert place.load()["seconds"] == seconds
            longest = max(longest, (tmp_path / "checkpoint.jsonl").stat().st_size)
        assert 1_500 < longest < 2_500
        assert os.listdir(tmp_path) == ["checkpoint.jsonl"]

    @pytest.mark.parametrize("half", [b"\n", b'\n{"v"', b'\n{"a":"\xc3'])
    def test_half_of_one_costs_that_one_alone(self, tmp_path, half):
        place = FolderCheckpoints(LocalFolder(tmp_path))
        place.save(CHECKPOINT.stored())
        with (tmp_path / "checkpoint.jsonl").open("ab") as stream:
            stream.write(half)
        assert read_checkpoint(FolderCheckpoints(LocalFolder(tmp_path)).load(), "f", 3) == CHECKPOINT
        place.save({**CHECKPOINT.stored(), "seconds": 7.0})
        assert place.load()["seconds"] == 7.0
        (tmp_path / "checkpoint.jsonl").write_bytes(half)
        assert place.load() is None

    def test_another_try_begins_a_file_of_its_own(self, tmp_path):
        FolderCheckpoints(LocalFolder(tmp_path)).save(CHECKPOINT.stored())
        FolderCheckpoints(LocalFolder(tmp_path)).save(CHECKPOINT.stored())
        assert len((tmp_path / "checkpoint.jsonl").read_bytes().splitlines()) == 1

    def test_a_disk_that_takes_half_of_one_is_said_to_be_full(self, tmp_path, monkeypatch):
        place = FolderCheckpoints(LocalFolder(tmp_path))
        place.save(CHECKPOINT.stored())
        write = os.write
        monkeypatch.setattr("os.write", lambda file, text: write(file, text[:9]))
        with pytest.raises(OSError, match="No space left"):
            place.save({**CHECKPOINT.stored(), "seconds": 7.0})
        monkeypatch.undo()
        assert place.load()["seconds"] == 1.5
        place.save({**CHECKPOINT.stored(), "seconds": 8.0})
        assert (tmp_path / "checkpoint.jsonl").read_bytes().count(b"\n") == 1
        assert place.load()["seconds"] == 8.0

    def test_in_an_object_store_there_is_one_alone(self):
        folder, _ = memory_folder()
        place = FolderCheckpoints(folder)
        for seconds in range(3):
            place.save({**CHECKPOINT.stored(), "seconds": seconds})
        assert len(folder.read("checkpoint.jsonl").splitlines()) == 1
        assert place.load()["seconds"] == 2

    @pytest.mark.parametrize(
        ("stored", "reason"),
        [
            ({**CHECKPOINT.stored(), "v": 2}, "another version"),
            ({"v": 1, "fingerprint": "f"}, "cannot be read"),
            ({**CHECKPOINT.stored(), "settled": "all"}, "cannot be read"),
            ("text", "another version"),
            ([1], "another version"),
            ({**CHECKPOINT.stored(), "fingerprint": "g"}, "source, the shaping or the connection"),
            ({**CHECKPOINT.stored(), "life": 4}, "was cleared"),
            ({**CHECKPOINT.stored(), "life": None}, "was cleared"),
        ],
    )
    def test_one_of_something_else_is_not_used_and_the_reason_is_told(self, stored, reason):
        with pytest.raises(NotUsable, match=reason):
            read_checkpoint(stored, "f", 3)


def recursive():
    def clean(record):
        return {name: clean(value) if isinstance(value, dict) else value for name, value in record.items()}

    return clean


def test_a_function_inside_another_may_call_itself():
    assert mark(transform=recursive()) == mark(transform=recursive())
    assert mark(transform=recursive()) != mark(transform=double)


def test_a_variable_of_a_function_that_is_none_is_told_from_another():
    def adding(first, second):
        return lambda record: {**record, "first": first, "second": second}

    assert mark(transform=adding(None, 1)) != mark(transform=adding(1, None))


def test_a_constant_that_no_json_can_hold_does_not_end_the_delivery_at_its_fingerprint():
    assert mark(constants={"properties.x": "\udcff"}) != mark(constants={"properties.x": "\udcfe"})
    assert mark(constants={"properties.x": float("nan")}) != mark(constants={"properties.x": None})


class Described:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def test_objects_are_told_apart_by_what_they_say_of_themselves():
    assert mark(constants={"properties.x": Described("a")}) == mark(constants={"properties.x": Described("a")})
    assert mark(constants={"properties.x": Described("a")}) != mark(constants={"properties.x": Described("b")})


def test_functions_of_a_library_are_told_apart_by_their_names():
    assert mark(transform=dict) == mark(transform=dict)
    assert mark(transform="".join) != mark(transform="".split)
    assert mark(transform=abs) != mark(transform=len)


def test_a_function_whose_variable_is_not_there_yet_has_a_fingerprint():
    def early():
        function = lambda record: {**record, "x": later}  # noqa: E731
        print_ = mark(transform=function)
        later = 1
        return print_, mark(transform=function), later

    first, second, _ = early()
    assert first != second
