"""The operator in a task's hands, with the sandbox as Lago; no Airflow database."""

import glob
import json
import logging
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pendulum
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, ObjectStoragePath
from fast.extraction.recorder import Recorder
from support import tasks
from support.deliveries import KEY, usage
from support.scripted import Reply, ScriptedServer, as_json

from airflow_provider_lago.exceptions import LagoApiError, LagoException, LagoFatalApiError, LagoInputError
from airflow_provider_lago.operators import LagoExtractOperator

BEGIN = datetime.fromtimestamp(1_700_000_000, UTC)


context = partial(tasks.context, task_id="extract")


def operator(path, **arguments):
    return LagoExtractOperator(task_id="extract", path=path, **{"endpoint": "events", "per_page": 10, **arguments})


def execute(path, **arguments):
    return operator(path, **arguments).execute(context())


def seed(lago, count, first=0):
    for start in range(first, first + count, 100):
        lago.post("/events/batch", {"events": usage(min(100, first + count - start), start)})


def rows(summary):
    paths = sorted(glob.glob(summary["files"]))
    assert len(paths) == summary["parts"]
    return [json.loads(line) for path in paths for line in Path(path).read_bytes().splitlines()]


def ids(summary):
    return [row["transaction_id"] for row in rows(summary)]


def all_ids(count, first=0):
    """As Lago lists them: newest first."""
    return [f"t{n}" for n in reversed(range(first, first + count))]


def manifest(path):
    return json.loads((Path(path) / "extract.json").read_text())


def connect(monkeypatch, url):
    monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": url, "password": KEY}))


@pytest.fixture(autouse=True)
def connection(lago_sandbox_connection, monkeypatch):
    monkeypatch.setattr("airflow_provider_lago.api.retry.RetryPolicy.wait", lambda *_: 0.0)
    return lago_sandbox_connection


@pytest.fixture
def front(lago_sandbox, monkeypatch):
    """The sandbox behind a server that knows which pages were asked for."""
    with Recorder(lago_sandbox) as recorder:
        connect(monkeypatch, recorder.url)
        yield recorder


class TestOutput:
    def test_every_item_is_in_one_part_in_lagos_order_and_the_summary_is_small(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 47)
        summary = execute(tmp_path / "out", pages_per_part=2)
        assert {**summary, "seconds": 0} == {
            "items": 47, "pages": 5, "parts": 3, "duplicates_dropped": 0, "at_end_dropped": 0,
            "total_count": {"first": 47, "last": 47}, "notes": [], "resumed_at_page": None, "seconds": 0,
            "timestamp_from": None, "timestamp_to": None, "path": str(tmp_path / "out"),
            "files": f"{tmp_path}/out/part-*.jsonl", "manifest": f"{tmp_path}/out/extract.json",
        }  # fmt: skip
        assert ids(summary) == all_ids(47)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "extract.json", "part-000001.jsonl", "part-000002.jsonl", "part-000003.jsonl",
        ]  # fmt: skip
        json.dumps(summary)

    def test_lines_are_what_lago_wrote_byte_for_byte(self, monkeypatch, tmp_path):
        items = [
            b'{"lago_id":"1","amount_cents":0.10000000000000000000000000000000001,"b":"\\u00e9\xc3\xa9"}',
            b'{"lago_id":"2","huge":123456789012345678901234567890,"e":1.50e+2,"f":1.0}',
        ]
        body = b'{"invoices":[' + b",".join(items) + b'],"meta":{"next_page":null,"total_count":2}}'
        with ScriptedServer(lambda _: Reply(200, body, {"Content-Type": "application/json"})) as server:
            connect(monkeypatch, server.url)
            execute(tmp_path, endpoint="invoices")
        assert (tmp_path / "part-000001.jsonl").read_bytes() == b"\n".join(items) + b"\n"

    def test_an_item_over_several_lines_becomes_one_line_with_the_same_digits(self, monkeypatch, tmp_path):
        body = b'{"fees": [\n  {"lago_id": "1",\n   "text": "a\\nb",\n "amount": 1.10}\n]}'
        with ScriptedServer(lambda _: Reply(200, body, {"Content-Type": "application/json"})) as server:
            connect(monkeypatch, server.url)
            execute(tmp_path, endpoint="fees")
        assert (tmp_path / "part-000001.jsonl").read_bytes() == b'{"lago_id":"1","text":"a\\nb","amount":1.10}\n'

    def test_a_list_without_meta_is_one_page(self, monkeypatch, tmp_path):
        with ScriptedServer(lambda _: as_json(200, {"billing_entities": [{"code": "a"}, {"code": "b"}]})) as server:
            connect(monkeypatch, server.url)
            summary = execute(tmp_path, endpoint="billing_entities", per_page=1)
            assert len(server.requests) == 1
        assert (summary["items"], summary["total_count"]) == (2, {"first": None, "last": None})

    def test_any_list_can_be_read_with_its_filters(self, lago_sandbox, tmp_path):
        for name in ("a", "b", "c"):
            lago_sandbox.add_customer(name)
        assert {row["external_id"] for row in rows(execute(tmp_path / "1", endpoint="customers"))} == {"a", "b", "c"}
        some = execute(tmp_path / "2", endpoint="customers", filters={"external_id": "b"})
        assert [row["external_id"] for row in rows(some)] == ["b"]

    def test_an_empty_list_succeeds_without_parts_or_skips_the_task(self, lago_sandbox, tmp_path):
        summary = execute(tmp_path / "1")
        assert (summary["items"], summary["parts"], rows(summary)) == (0, 0, [])
        assert manifest(tmp_path / "1")["state"] == "finished"
        with pytest.raises(AirflowSkipException):
            execute(tmp_path / "2", skip_on_empty=True)

    def test_limit_ends_within_a_page(self, front, lago_sandbox, tmp_path):
        seed(lago_sandbox, 100)
        summary = execute(tmp_path, limit=25)
        assert ids(summary) == all_ids(100)[:25]
        assert (front.pages, summary["notes"], manifest(tmp_path)["state"]) == ([1, 2, 3], [], "finished")

    def test_mapped_tasks_have_folders_of_their_own(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 3)
        for index in (0, 1):
            operator(tmp_path).execute(context(map_index=index))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]

    def test_a_folder_with_signs_of_a_glob_has_a_glob_that_matches_it(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 3)
        assert len(rows(execute(tmp_path / "run [1]*"))) == 3


class TestWindow:
    def test_windows_that_touch_share_no_event_and_miss_none(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 30)
        middle = BEGIN + timedelta(seconds=15)
        older = execute(tmp_path / "1", timestamp_from=BEGIN, timestamp_to=middle)
        newer = execute(tmp_path / "2", timestamp_from=middle, timestamp_to=BEGIN + timedelta(seconds=30))
        assert (ids(older), ids(newer)) == (all_ids(15), all_ids(15, 15))
        assert (older["at_end_dropped"], newer["at_end_dropped"]) == (1, 0)
        assert (older["notes"], older["timestamp_to"]) == ([], "2023-11-14T22:13:35Z")

    @pytest.mark.parametrize(
        "given",
        [
            "2023-11-14T22:13:25Z",
            "2023-11-14 22:13:25+00:00",
            "2023-11-14T23:13:25+01:00",
            datetime(2023, 11, 14, 22, 13, 25),
            pendulum.datetime(2023, 11, 14, 17, 13, 25, tz="America/New_York"),
            pendulum.datetime(2023, 11, 14, 22, 13, 25, 999),
        ],
    )
    def test_times_of_every_kind_go_out_as_iso_8601_in_utc(self, front, lago_sandbox, tmp_path, given):
        seed(lago_sandbox, 10)
        assert ids(execute(tmp_path, timestamp_from=given)) == all_ids(5, 5)
        assert front.queries[0]["timestamp_from"] == "2023-11-14T22:13:25Z"

    def test_empty_texts_and_none_are_not_sent(self, front, tmp_path):
        execute(tmp_path, timestamp_from="", timestamp_to=None)
        assert set(front.queries[0]) == {"page", "per_page"}

    def test_a_lago_that_does_not_know_the_window_is_found_out(self, lago_sandbox, monkeypatch, tmp_path):
        """An old server ignores filters that it does not know, and sends everything."""
        events = [{"lago_id": str(n), "timestamp": f"2026-11-0{n}T00:00:00.000Z"} for n in (3, 2, 1)]
        with ScriptedServer(lambda _: as_json(200, {"events": events, "meta": {}})) as server:
            connect(monkeypatch, server.url)
            for window in ({"timestamp_from": "2026-11-02"}, {"timestamp_to": "2026-11-02"}):
                with pytest.raises(LagoFatalApiError, match=r"outside of .* does not know the filter") as caught:
                    execute(tmp_path / str(window), **window)
                assert isinstance(caught.value, AirflowFailException)
                assert not list((tmp_path / str(window)).glob("part-*"))

    def test_an_event_within_the_first_millisecond_belongs_to_the_window(self, monkeypatch, tmp_path):
        """Lago keeps microseconds, shows milliseconds, and older releases seconds."""
        for n, shown in enumerate(("2026-11-02T00:00:00.500Z", "2026-11-02T00:00:00Z")):
            events = [{"lago_id": "1", "timestamp": shown}]
            with ScriptedServer(lambda _, events=events: as_json(200, {"events": events})) as server:
                connect(monkeypatch, server.url)
                summary = execute(tmp_path / str(n), timestamp_from="2026-11-02T00:00:00.500900Z")
                assert "timestamp_from=2026-11-02T00%3A00%3A00.500Z" in server.requests[0].path
                assert summary["items"] == 1

    def test_a_window_over_a_list_that_has_no_times_is_refused(self, lago_sandbox, tmp_path):
        lago_sandbox.add_customer("a")
        with pytest.raises(LagoInputError, match="filters="):
            execute(tmp_path, endpoint="customers", timestamp_from=BEGIN)


class TestListThatMoves:
    def extract(self, lago, monkeypatch, path, before, **arguments):
        with Recorder(lago, before) as front:
            connect(monkeypatch, front.url)
            return execute(path, **arguments), front.pages

    def test_items_that_new_rows_push_to_the_next_page_are_written_once(self, lago_sandbox, monkeypatch, tmp_path):
        seed(lago_sandbox, 30)

        def before(page):
            if page == 2:
                seed(lago_sandbox, 4, 100)

        summary, pages = self.extract(lago_sandbox, monkeypatch, tmp_path, before, pages_per_part=1)
        assert ids(summary) == all_ids(30)
        assert (summary["duplicates_dropped"], summary["total_count"]) == (4, {"first": 30, "last": 34})
        assert pages == [1, 2, 3, 4]
        assert "grew from 30 to 34" in summary["notes"][0]
        assert "timestamp_to" in summary["notes"][-1]

    def test_a_list_that_shrinks_says_that_items_may_be_missing(self, lago_sandbox, monkeypatch, tmp_path, caplog):
        for n in range(30):
            lago_sandbox.add_customer(f"c{n}")

        def before(page):
            if page == 2:
                for n in range(25, 30):
                    lago_sandbox.call("DELETE", f"/customers/c{n}")

        with caplog.at_level(logging.WARNING):
            summary, _ = self.extract(lago_sandbox, monkeypatch, tmp_path, before, endpoint="customers")
        assert (summary["items"], summary["total_count"]) == (25, {"first": 30, "last": 25})
        assert "lost 5 items" in summary["notes"][0]

    def test_a_total_that_does_not_agree_is_told(self, monkeypatch, tmp_path):
        answer = as_json(200, {"invoices": [{"lago_id": "1"}], "meta": {"next_page": None, "total_count": 3}})
        with ScriptedServer(lambda _: answer) as server:
            connect(monkeypatch, server.url)
            assert "counts 3 items and sent 1" in execute(tmp_path, endpoint="invoices")["notes"][0]

    def test_more_new_rows_than_ids_are_remembered_end_the_try(self, lago_sandbox, monkeypatch, tmp_path):
        monkeypatch.setattr("airflow_provider_lago.extraction.progress.REMEMBERED", 30)
        seed(lago_sandbox, 50)

        def before(page):
            if page == 3:
                seed(lago_sandbox, 25, 100)

        with pytest.raises(LagoException, match="grew by 25 items") as caught:
            self.extract(lago_sandbox, monkeypatch, tmp_path, before)
        assert not isinstance(caught.value, AirflowFailException)
        connect(monkeypatch, lago_sandbox.url)
        summary = execute(tmp_path)
        assert (summary["resumed_at_page"], ids(summary)) == (None, [*all_ids(25, 100), *all_ids(50)])

    def test_items_without_an_id_are_never_dropped(self, monkeypatch, tmp_path):
        with ScriptedServer(lambda _: as_json(200, {"usage_periods": [{"a": 1}, {"a": 1}]})) as server:
            connect(monkeypatch, server.url)
            assert execute(tmp_path, endpoint="customers/c/past_usage")["items"] == 2


class TestResuming:
    def fail(self, lago, path, page, **arguments):
        lago.fault("error", path="/events", skip=page - 1, status=503)
        with pytest.raises(LagoApiError):
            execute(path, **arguments)
        lago.clear_faults()

    def test_a_retry_goes_on_with_the_page_that_failed(self, front, lago_sandbox, tmp_path):
        seed(lago_sandbox, 95)
        self.fail(lago_sandbox, tmp_path, 6, pages_per_part=2)
        saved = manifest(tmp_path)
        assert (saved["state"], saved["progress"]["next_page"], saved["progress"]["parts"]) == ("running", 6, 3)
        asked = len(front.pages)
        assert set(front.pages[5:]) == {6}
        summary = execute(tmp_path, pages_per_part=2)
        assert front.pages[asked:] == [6, 7, 8, 9, 10]
        assert ids(summary) == all_ids(95)
        assert (summary["resumed_at_page"], summary["items"], summary["pages"]) == (6, 95, 10)

    def test_rows_inserted_between_two_tries_are_recognised(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 60)
        self.fail(lago_sandbox, tmp_path, 4, pages_per_part=1)
        seed(lago_sandbox, 17, 100)
        summary = execute(tmp_path, pages_per_part=1)
        assert (ids(summary), summary["duplicates_dropped"], summary["resumed_at_page"]) == (all_ids(60), 17, 4)

    def test_a_list_that_shrank_between_two_tries_is_read_anew(self, lago_sandbox, tmp_path):
        for n in range(30):
            lago_sandbox.add_customer(f"c{n}")
        lago_sandbox.fault("error", path="/customers", skip=2, status=503)
        with pytest.raises(LagoApiError):
            execute(tmp_path, endpoint="customers", pages_per_part=1)
        lago_sandbox.clear_faults()
        lago_sandbox.call("DELETE", "/customers/c29")
        summary = execute(tmp_path, endpoint="customers", pages_per_part=3)
        assert (summary["resumed_at_page"], summary["parts"]) == (None, 1)
        assert len({row["external_id"] for row in rows(summary)}) == 29

    @pytest.mark.parametrize(
        ("run", "changed"),
        [({"run_id": "other"}, {}), ({}, {"per_page": 20}), ({}, {"filters": {"code": "c"}}), ({}, {"limit": 99})],
        ids=["another run", "another page size", "another filter", "another limit"],
    )
    def test_what_is_not_the_same_extraction_starts_anew_and_mixes_nothing(self, lago_sandbox, tmp_path, run, changed):
        seed(lago_sandbox, 60)
        self.fail(lago_sandbox, tmp_path, 5, pages_per_part=1)
        assert len(list(tmp_path.glob("part-*"))) == 4
        summary = operator(tmp_path, **changed).execute(context(**run))
        assert (ids(summary), summary["resumed_at_page"], summary["parts"]) == (all_ids(60), None, 1)

    def test_a_finished_extraction_is_replaced_not_added_to(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 60)
        assert execute(tmp_path, pages_per_part=1)["parts"] == 6
        assert ids(execute(tmp_path, pages_per_part=3)) == all_ids(60)

    def test_a_lago_that_is_down_costs_nothing_of_what_is_there(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 60)
        before = rows(execute(tmp_path))
        self.fail(lago_sandbox, tmp_path, 1)
        assert [json.loads(line) for line in (tmp_path / "part-000001.jsonl").open()] == before
        assert manifest(tmp_path)["state"] == "finished"

    def test_a_part_that_no_manifest_counts_and_drafts_are_removed(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 60)
        self.fail(lago_sandbox, tmp_path, 5, pages_per_part=1)
        (tmp_path / "part-000009.jsonl").write_text('{"stale": true}\n')
        (tmp_path / ".part-000009.jsonl.0a1b.draft").write_text("{")
        (tmp_path / "notes.txt").write_text("mine")
        assert ids(execute(tmp_path, pages_per_part=1)) == all_ids(60)
        assert [path.name for path in sorted(tmp_path.iterdir()) if not path.name.startswith("part-")] == [
            "extract.json",
            "notes.txt",
        ]

    def test_a_part_is_written_again_if_the_manifest_could_not_count_it(self, lago_sandbox, tmp_path, monkeypatch):
        """Killed between a part and its manifest."""
        from airflow_provider_lago.storage.folders import LocalFolder

        seed(lago_sandbox, 60)
        write = LocalFolder.write

        def dying(folder, name, chunks):
            if name == "extract.json" and len(list(tmp_path.glob("part-*"))) == 3:
                raise KeyboardInterrupt
            write(folder, name, chunks)

        with monkeypatch.context() as patched:
            patched.setattr(LocalFolder, "write", dying)
            with pytest.raises(KeyboardInterrupt):
                execute(tmp_path, pages_per_part=1)
        assert manifest(tmp_path)["progress"]["parts"] == 2
        summary = execute(tmp_path, pages_per_part=1)
        assert (ids(summary), summary["resumed_at_page"], summary["duplicates_dropped"]) == (all_ids(60), 3, 0)

    def test_on_kill_ends_it_behind_the_page_and_a_retry_goes_on(self, lago_sandbox, monkeypatch, tmp_path):
        seed(lago_sandbox, 60)
        task = operator(tmp_path)

        def before(page):
            if page == 3:
                task.on_kill()

        with Recorder(lago_sandbox, before) as front:
            connect(monkeypatch, front.url)
            with pytest.raises(LagoException, match="behind page 3") as caught:
                task.execute(context())
            assert not isinstance(caught.value, AirflowFailException)
            summary = execute(tmp_path)
            assert front.pages == [1, 2, 3, 4, 5, 6]
        assert (ids(summary), summary["resumed_at_page"]) == (all_ids(60), 4)

    def test_a_storage_that_fails_does_not_hide_why_the_task_ended(self, lago_sandbox, monkeypatch, tmp_path, caplog):
        from airflow_provider_lago.storage.folders import LocalFolder

        seed(lago_sandbox, 60)
        write = LocalFolder.write

        def full(folder, name, chunks):
            if name.startswith("part-"):
                raise OSError(28, "No space left on device")
            write(folder, name, chunks)

        monkeypatch.setattr(LocalFolder, "write", full)
        with pytest.raises(OSError, match="No space left"):
            execute(tmp_path)
        assert manifest(tmp_path)["state"] == "running"


class TestFolder:
    def test_a_folder_of_another_task_is_refused(self, lago_sandbox, tmp_path):
        seed(lago_sandbox, 5)
        operator(tmp_path).execute(context(task_id="other"))
        with pytest.raises(LagoInputError, match="'other' of DAG 'd'"):
            execute(tmp_path)
        assert len(list(tmp_path.glob("part-*"))) == 1

    def test_parts_or_a_manifest_of_something_else_are_refused(self, lago_sandbox, tmp_path):
        (tmp_path / "part-000001.jsonl").write_text("{}")
        with pytest.raises(LagoInputError, match=r"part-000001\.jsonl and no extract\.json"):
            execute(tmp_path)
        (tmp_path / "extract.json").write_text('{"mine": 1}')
        with pytest.raises(LagoInputError, match="not the manifest of an extraction"):
            execute(tmp_path)

    def test_two_runs_at_once_do_not_mix_in_one_folder(self, lago_sandbox, monkeypatch, tmp_path):
        seed(lago_sandbox, 60)

        def before(page):
            if page == 3:
                saved = manifest(tmp_path)
                saved["run"]["run_id"] = "second"
                (tmp_path / "extract.json").write_text(json.dumps({**saved, "claim": "of the second run"}))

        with Recorder(lago_sandbox, before) as front:
            connect(monkeypatch, front.url)
            with pytest.raises(LagoInputError, match=r"run 'second' began to write.*max_active_runs"):
                execute(tmp_path, pages_per_part=1)
        assert len(list(tmp_path.glob("part-*"))) == 2
        assert manifest(tmp_path)["run"]["run_id"] == "second"

    def test_an_object_store_gets_whole_objects_and_resumes_from_them(self, front, lago_sandbox, memory_store):
        seed(lago_sandbox, 60)
        lago_sandbox.fault("error", path="/events", skip=4, status=503)
        path = "memory://bucket/lago/events"
        with pytest.raises(LagoApiError):
            execute(path, pages_per_part=2)
        lago_sandbox.clear_faults()
        asked = len(front.pages)
        summary = execute(path, pages_per_part=2)
        assert front.pages[asked:] == [5, 6]
        assert summary["files"] == "memory://bucket/lago/events/part-*.jsonl"
        folder = ObjectStoragePath(path)
        lines = [
            json.loads(line)["transaction_id"]
            for n in range(1, summary["parts"] + 1)
            for line in (folder / f"part-{n:06}.jsonl").read_bytes().splitlines()
        ]
        assert lines == all_ids(60)
        execute(path, limit=10)
        assert sorted(item.name for item in folder.iterdir()) == ["extract.json", "part-000001.jsonl"]

    @pytest.mark.parametrize("scheme", ["gs", "nosuch"])
    def test_a_store_that_is_not_installed_is_named(self, tmp_path, scheme):
        with pytest.raises(LagoInputError, match="is the provider of this store installed"):
            execute(f"{scheme}://bucket/x")


@pytest.fixture
def memory_store():
    """fsspec's own store in memory, known to Airflow."""
    from fsspec.implementations.memory import MemoryFileSystem

    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach

    files = MemoryFileSystem()
    files.store.clear()
    attach("memory", fs=files)
    yield files
    files.store.clear()


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"per_page": 0}, "per_page must be"),
            ({"per_page": 1001}, "per_page must be"),
            ({"per_page": "100"}, "per_page must be"),
            ({"pages_per_part": 0}, "pages_per_part must be"),
            ({"limit": 0}, "limit must be"),
            ({"filters": {"page": 2}}, "filters must not hold"),
            ({"filters": {"timestamp_from": "x"}}, "filters must not hold"),
            ({"filters": "a=b"}, "filters must be a dict"),
            ({"filters": {"a": object()}}, "query value 'a'"),
            ({"timestamp_from": "None"}, "timestamp_from must be a datetime"),
            ({"timestamp_to": "yesterday"}, "timestamp_to must be a datetime"),
            ({"timestamp_to": 1_700_000_000}, "timestamp_to must be a datetime"),
            ({"timestamp_from": BEGIN, "timestamp_to": BEGIN}, "must be after"),
            ({"path": ""}, "path must name a folder"),
            ({"path": None}, "path must name a folder"),
            ({"endpoint": "https://api.getlago.com/events"}, "not a URL"),
            ({"endpoint": "events?code=x"}, "pass query values"),
            ({"endpoint": "customers/a.b/wallets"}, "first dot"),
            ({"endpoint": ""}, "empty"),
            ({"skip_on_empty": "maybe"}, "skip_on_empty"),
        ],
    )
    def test_wrong_arguments_are_refused_by_name_before_anything_is_asked(
        self, lago_sandbox, tmp_path, arguments, said
    ):
        with pytest.raises(LagoInputError, match=said) as caught:
            execute(**{"path": tmp_path / "out", **arguments})
        assert isinstance(caught.value, AirflowFailException)
        assert "'extract'" in str(caught.value) or "endpoint" in str(caught.value) or "first dot" in str(caught.value)
        assert lago_sandbox.requests == []
        assert not list(tmp_path.rglob("*.json*"))

    def test_a_filter_value_that_lago_refuses_is_not_retried(self, lago_sandbox, tmp_path):
        with pytest.raises(LagoInputError, match="timestamp_from_started_at"):
            execute(tmp_path, filters={"timestamp_from_started_at": "maybe"})

    def test_a_folder_that_cannot_be_written_is_known_before_anything_is_asked(self, lago_sandbox, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(LagoInputError, match="cannot be written"):
            execute(tmp_path / "file" / "out")
        assert lago_sandbox.requests == []

    def test_an_endpoint_that_is_no_list_says_so(self, lago_sandbox, tmp_path):
        lago_sandbox.add_customer("a")
        with pytest.raises(LagoApiError, match="does not hold the one list"):
            execute(tmp_path, endpoint="organizations")

    def test_nothing_is_checked_when_a_dag_is_parsed(self):
        operator(path=None, per_page="x", timestamp_from="{{ nonsense }}")

    def test_the_key_is_in_no_file_no_log_and_no_summary(self, lago_sandbox, tmp_path, caplog):
        seed(lago_sandbox, 20)
        with caplog.at_level(logging.DEBUG):
            summary = execute(tmp_path)
        written = "".join(path.read_text() for path in tmp_path.iterdir())
        assert KEY not in caplog.text + written + json.dumps(summary)


def test_memory_holds_one_part_however_long_the_list_is(monkeypatch, tmp_path):
    """40 MB in 400 pages; the peak is that of a part of 2 pages."""
    text = "x" * 1_000
    pages = 400

    def answer(request):
        page = int(request.path.split("page=")[1].split("&")[0])
        items = [{"lago_id": f"{page}-{n}", "text": text} for n in range(100)]
        following = page + 1 if page < pages else None
        return as_json(200, {"invoices": items, "meta": {"next_page": following, "total_count": pages * 100}})

    with ScriptedServer(answer) as server:
        connect(monkeypatch, server.url)
        tracemalloc.start()
        try:
            summary = execute(tmp_path, endpoint="invoices", per_page=100, pages_per_part=2)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    written = sum(path.stat().st_size for path in tmp_path.glob("part-*"))
    assert (summary["items"], summary["parts"]) == (40_000, 200)
    assert written > 40_000_000
    assert peak < 10_000_000


def test_a_part_ends_early_where_items_are_large(monkeypatch, tmp_path):
    monkeypatch.setattr("airflow_provider_lago.extraction.extraction.LARGEST_PART", 1_000)

    def answer(request):
        page = int(request.path.split("page=")[1].split("&")[0])
        following = page + 1 if page < 6 else None
        return as_json(200, {"invoices": [{"lago_id": str(page), "text": "x" * 600}], "meta": {"next_page": following}})

    with ScriptedServer(answer) as server:
        connect(monkeypatch, server.url)
        assert execute(tmp_path, endpoint="invoices", pages_per_part=100)["parts"] == 3


def test_importing_and_making_the_operator_imports_nothing_heavy():
    """Airflow imports a DAG file's operators anew every time it parses the file."""
    probe = (
        "import sys, airflow; from airflow.providers.common.compat.sdk import BaseOperator; before = set(sys.modules); "
        "from airflow_provider_lago.operators import LagoExtractOperator as made; "
        "made(task_id='t', endpoint='events', path='x'); "
        "print(sorted({'requests', 'aiohttp', 'fsspec', 'airflow_provider_lago.hooks.lago'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
