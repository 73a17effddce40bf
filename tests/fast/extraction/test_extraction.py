"""An extraction over a list that changes, into a folder that fails, without HTTP."""

import json
import logging
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lago.extraction import extraction as module
from airflow_provider_lago.extraction.extraction import Extraction, ListMoved, Plan
from airflow_provider_lago.extraction.items import RecentIds, line_of
from airflow_provider_lago.extraction.manifest import MANIFEST
from airflow_provider_lago.extraction.window import Window

RUN = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 1}
PLAN = Plan("http://lago/api/v1", "events", None, (), Window(), per_page=5, pages_per_part=2, limit=0)


@dataclass(frozen=True)
class Page:
    number: int
    items: list
    following: int | None
    total_count: int | None


class Rows:
    """A list as Lago pages through it, newest first."""

    def __init__(self, count, per_page=5):
        self.ids = list(range(count))
        self.per_page = per_page
        self.asked = []

    def insert(self, count):
        self.ids += range(len(self.ids), len(self.ids) + count)

    def read(self, number):
        while number is not None:
            self.asked.append(number)
            newest_first = self.ids[::-1]
            shown = newest_first[(number - 1) * self.per_page : number * self.per_page]
            pages = -(-len(self.ids) // self.per_page)
            following = number + 1 if number < pages else None
            items = [msgspec.Raw(b'{"lago_id":"%d"}' % n) for n in shown]
            yield Page(number, items, following, len(self.ids))
            number = following


class Killed(BaseException):
    pass


class Memory:
    """A folder that may be killed before its n-th change; a dead process changes nothing any more."""

    def __init__(self):
        self.files = {}
        self.changes = 0
        self.kill_at = None

    def __str__(self):
        return "folder"

    def read(self, name):
        return self.files.get(name)

    def write(self, name, chunks):
        self._live()
        self.files[name] = b"".join(chunks)

    def remove(self, name):
        self._live()
        self.files.pop(name, None)

    def names(self):
        return sorted(self.files)

    def _live(self):
        self.changes += 1
        if self.kill_at is not None and self.changes >= self.kill_at:
            raise Killed

    def ids(self):
        """What a reader of all parts finds."""
        parts = [name for name in self.names() if name.startswith("part-")]
        return [int(json.loads(line)["lago_id"]) for name in parts for line in self.files[name].splitlines()]


def extraction(rows, folder, plan=PLAN, **run):
    return Extraction(plan, folder, rows.read, RUN | run, logging.getLogger("test"))


@pytest.mark.parametrize("count", [0, 1, 5, 10, 11, 47])
def test_killed_before_any_change_of_the_folder_a_retry_completes_it(count):
    whole = Memory()
    extraction(Rows(count), whole).extract()
    for kill_at in range(1, whole.changes + 1):
        folder, rows = Memory(), Rows(count)
        folder.kill_at = kill_at
        with pytest.raises(Killed):
            extraction(rows, folder).extract()
        folder.kill_at = None
        summary = extraction(rows, folder).extract()
        assert folder.ids() == list(reversed(range(count))), kill_at
        assert summary["items"] == count
        assert json.loads(folder.files[MANIFEST])["state"] == "finished"


def test_a_killed_replacement_never_mixes_with_what_it_replaces():
    for kill_at in range(1, 14):
        folder = Memory()
        old = Rows(47)
        extraction(old, folder, replace(PLAN, pages_per_part=1)).extract()
        folder.changes, folder.kill_at = 0, kill_at
        rows = Rows(23)
        with pytest.raises(Killed):
            extraction(rows, folder, run_id="next").extract()
        folder.kill_at = None
        assert extraction(rows, folder, run_id="next").extract()["items"] == 23
        assert folder.ids() == list(reversed(range(23))), kill_at


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 60),
    inserts=st.dictionaries(st.integers(1, 40), st.integers(1, 12), max_size=6),
    fails=st.sets(st.integers(1, 40), max_size=4),
    per_part=st.integers(1, 4),
)
def test_whatever_comes_in_and_fails_every_row_of_the_beginning_is_there_once(count, inserts, fails, per_part):
    rows, folder = Rows(count), Memory()
    served = iter(range(1, 10_000))

    def read(first):
        for page in rows.read(first):
            n = next(served)
            if n in fails:
                raise ConnectionError
            yield page
            rows.insert(inserts.get(n, 0))

    plan = replace(PLAN, pages_per_part=per_part)
    for _ in range(10):
        made = Extraction(plan, folder, read, RUN, logging.getLogger("test"))
        try:
            summary = made.extract()
            break
        except ConnectionError:
            continue
    found = folder.ids()
    assert len(found) == len(set(found)) == summary["items"]
    assert set(range(count)) <= set(found)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_what_more_rows_came_in_than_are_remembered_ends_the_try_before_anything_is_written_twice(count, page, many):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "REMEMBERED", 15)
        patch.setattr("airflow_provider_lago.extraction.progress.REMEMBERED", 15)
        rows, folder = Rows(count), Memory()

        def read(first):
            for got in rows.read(first):
                yield got
                if got.number == page and len(rows.ids) == count:
                    rows.insert(many)

        try:
            Extraction(PLAN, folder, read, RUN, logging.getLogger("test")).extract()
        except ListMoved:
            assert many > 15 - PLAN.per_page
        found = folder.ids()
        assert len(found) == len(set(found))


def test_a_finished_read_whose_last_manifest_was_lost_asks_for_nothing_more():
    rows, folder = Rows(12), Memory()
    made = extraction(rows, folder)
    write = folder.write

    def once(name, chunks):
        if b'"finished"' in b"".join(chunks):
            raise OSError("full")
        write(name, chunks)

    folder.write = once
    with pytest.raises(OSError, match="full"):
        made.extract()
    folder.write = write
    asked = list(rows.asked)
    assert extraction(rows, folder).extract()["items"] == 12
    assert rows.asked == asked
    assert folder.ids() == list(reversed(range(12)))


def test_only_the_last_ids_are_remembered():
    recent = RecentIds(3)
    assert [recent.is_new(name) for name in "abcabcdab"] == [True] * 3 + [False] * 3 + [True, True, True]
    assert len(recent) == 3
    assert [recent.is_new(None), recent.is_new(None), recent.is_new(7)] == [True] * 3


VALUES = st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.booleans()


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), VALUES | st.lists(VALUES, max_size=3), max_size=4))
def test_a_line_holds_the_same_value_and_no_line_break(value):
    for indent in (None, 2):
        text = json.dumps(value, indent=indent).encode()
        line = line_of(msgspec.Raw(text))
        assert b"\n" not in line
        assert json.loads(line) == value
        if indent is None:
            assert line == text
