"""``@task.lago_ingest_events`` in a task's hands, with the sandbox as Lago; no Airflow database."""

import importlib
import json
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, task
from support import tasks
from support.deliveries import KEY, usage
from support.scripted import Reply, ScriptedServer

from airflow_provider_lago.decorators.events import LagoIngestEventsDecoratedOperator, lago_ingest_events_task
from airflow_provider_lago.exceptions import LagoDeliveryError, LagoFatalDeliveryError, LagoInputError
from airflow_provider_lago.get_provider_info import get_provider_info


def context(**more):
    return tasks.context(more, task_id="deliver")


def operator(function, *op_args, op_kwargs=None, **arguments):
    return LagoIngestEventsDecoratedOperator(
        python_callable=function, op_args=op_args, op_kwargs=op_kwargs or {}, task_id="deliver", **arguments
    )


def execute(function, **arguments):
    return operator(function, **arguments).execute(context())


def connect(monkeypatch, url):
    monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": url, "password": KEY}))


@pytest.fixture(autouse=True)
def connection(lago_sandbox_connection):
    return lago_sandbox_connection


class Watched:
    """A generator function that notes how far it was pulled, and in which thread it was closed."""

    def __init__(self, rows, error=None):
        self.rows = rows
        self.error = error
        self.pulled = 0
        self.closed_in = []

    def __call__(self):
        try:
            for row in self.rows:
                self.pulled += 1
                yield row
            if self.error is not None:
                raise self.error
        finally:
            self.closed_in.append(threading.current_thread())

    @property
    def closed_once_in_the_tasks_thread(self):
        return self.closed_in == [threading.main_thread()]


class TestWhatAFunctionMayGive:
    @pytest.mark.parametrize(
        ("given", "count"),
        [
            (lambda: usage(1)[0], 1),
            (lambda: usage(3), 3),
            (lambda: tuple(usage(3)), 3),
            (lambda: (row for row in usage(3)), 3),
            (lambda: (usage(2, first) for first in (0, 2)), 4),
            (lambda: map(dict, usage(3)), 3),
            (lambda: dict(enumerate(usage(3))).values(), 3),
            (list, 0),
            (lambda: iter(()), 0),
        ],
        ids=["dict", "list", "tuple", "generator", "pages", "map", "view", "empty list", "empty iterator"],
    )
    def test_every_iterable_of_records_is_delivered(self, lago_sandbox, given, count):
        assert execute(given)["accepted"] == count
        assert lago_sandbox.count() == count

    @pytest.mark.parametrize("given", [None, "rows.jsonl", b"rows", 7, True, object()])
    @pytest.mark.parametrize("skip", [False, True])
    def test_what_holds_no_records_fails_at_once_and_says_what_to_return(self, given, skip):
        with pytest.raises(LagoInputError, match=r"'deliver': the function must return or yield records") as caught:
            execute(lambda: given, skip_on_empty=skip)
        assert isinstance(caught.value, AirflowFailException)
        assert ("returned None" if given is None else type(given).__name__) in str(caught.value)

    @pytest.mark.filterwarnings("error")
    def test_an_async_function_is_refused(self):
        async def rows():
            return usage(1)

        async def more():
            yield usage(1)[0]

        for function, kind in ((rows, "coroutine"), (more, "async_generator")):
            with pytest.raises(LagoInputError, match=f"returned a {kind}"):
                execute(function)

    def test_no_records_skip_the_task_where_that_is_wanted(self):
        for empty in (list, lambda: (row for row in ())):
            with pytest.raises(AirflowSkipException):
                execute(empty, skip_on_empty=True)

    @pytest.mark.parametrize("argument", [{"records": []}, {"files": "x.jsonl"}])
    def test_another_source_is_refused_when_the_task_runs_and_the_function_not_called(self, argument):
        made = operator(lambda: pytest.fail("called"), **argument)
        with pytest.raises(LagoInputError, match=f"{next(iter(argument))} cannot be given to @task.lago_ingest_events"):
            made.execute(context())

    def test_an_operator_can_be_executed_again(self, lago_sandbox):
        made = operator(lambda: iter(usage(3)))
        assert made.execute(context())["accepted"] == 3
        assert made.execute(context())["duplicate"] == 3

    def test_arguments_and_context_reach_the_function_as_in_any_task(self, lago_sandbox):
        def rows(count, first, *, ds, params=None, **others):
            return usage(count, first, properties={"day": ds, "zone": params["zone"], "run": others["ti"].run_id})

        made = operator(rows, 2, op_kwargs={"first": 5})
        made.execute(context(ds="2026-11-02", params={"zone": "eu"}))
        first, _ = lago_sandbox.events()
        assert first["transaction_id"] == "t5"
        assert first["properties"] == {"day": "2026-11-02", "zone": "eu", "run": "r"}

    def test_templates_in_arguments_of_both_kinds_are_rendered_and_records_are_not(self, lago_sandbox):
        def rows(day):
            yield usage(1, properties={"day": day, "text": "{{ ds }}"})[0]

        made = operator(rows, "{{ ds }}", constants={"code": "{{ code }}"}, transform=lambda record: record)
        values = context(ds="2026-11-02", code="seats")
        made.render_template_fields(values)
        made.execute(values)
        (event,) = lago_sandbox.events()
        assert event["code"] == "seats"
        assert event["properties"] == {"day": "2026-11-02", "text": "{{ ds }}"}


class TestGenerator:
    def test_it_runs_in_the_tasks_own_thread_and_is_closed_there(self, lago_sandbox):
        threads = set()

        def rows():
            try:
                for row in usage(300):
                    threads.add(threading.current_thread())
                    yield row
            finally:
                threads.add(threading.current_thread())

        assert execute(rows)["accepted"] == 300
        assert threads == {threading.main_thread()}

    def test_it_is_sent_while_it_runs_and_pulled_no_further_than_needed(self, lago_sandbox):
        stored = []

        def rows():
            for n in range(20):
                stored.append(lago_sandbox.count())
                yield usage(100, n * 100)

        execute(rows, concurrency=2)
        assert stored[-1] >= 1_500

    def test_a_dry_run_pulls_only_what_it_shows(self, lago_sandbox, tmp_path):
        watched = Watched(iter(usage(10_000)))
        shown = execute(watched, dry_run=True, report_path=tmp_path)
        assert (len(shown["preview"]), watched.pulled) == (3, 300)
        assert watched.closed_once_in_the_tasks_thread
        assert lago_sandbox.requests == []

    def test_a_limit_pulls_no_further(self, lago_sandbox):
        watched = Watched(usage(1_000))
        assert execute(watched, limit=120)["accepted"] == 120
        assert watched.pulled == 120
        assert watched.closed_once_in_the_tasks_thread

    @pytest.mark.parametrize(
        "error", [ValueError("bad row"), ConnectionError("away"), AirflowSkipException("none today")]
    )
    def test_its_error_ends_the_task_once_all_that_was_read_is_settled(self, lago_sandbox, tmp_path, error):
        watched = Watched(usage(250), error)
        with pytest.raises(type(error)) as caught:
            execute(watched, report_path=tmp_path, receipts=True)
        assert caught.value is error
        assert caught.traceback[-1].name == "__call__"  # the log shows the line of the user's function
        assert not isinstance(caught.value, AirflowFailException)
        saved = json.loads((tmp_path / "summary.json").read_text())
        assert saved["halted"] == f"interrupted by {type(error).__name__}"
        assert (saved["read"], saved["accepted"], saved["unsettled"]) == (250, 250, 0)
        assert len((tmp_path / "receipts.jsonl").read_bytes().splitlines()) == 250
        assert lago_sandbox.count() == 250
        assert watched.closed_once_in_the_tasks_thread

    def test_an_error_before_the_first_record_is_the_tasks_error(self):
        for kind in (Watched([], KeyError("x")), lambda: {}["x"]):
            with pytest.raises(KeyError, match="x"):
                execute(kind)

    def test_a_delivery_that_lago_ends_closes_it(self, monkeypatch):
        watched = Watched(usage(100_000))
        with ScriptedServer(lambda request: Reply(401)) as server:
            connect(monkeypatch, server.url)
            with pytest.raises(LagoFatalDeliveryError):
                execute(watched)
        assert watched.pulled < 100_000
        assert watched.closed_once_in_the_tasks_thread

    def test_wrong_arguments_close_it_before_it_began(self):
        watched = Watched(usage(5))
        with pytest.raises(LagoInputError, match="batch_size"):
            execute(watched, batch_size=0)
        assert watched.pulled == 0

    def test_trouble_at_its_end_is_the_tasks_error_unless_there_was_another(self, monkeypatch):
        def rows():
            try:
                yield from usage(1_000)
            finally:
                raise ValueError("cannot close")

        with pytest.raises(ValueError, match="cannot close"):
            execute(rows, limit=5)
        with ScriptedServer(lambda request: Reply(401)) as server:
            connect(monkeypatch, server.url)
            with pytest.raises(LagoFatalDeliveryError):
                execute(rows, limit=5)

    @pytest.mark.parametrize("swallow", [False, True])
    def test_on_kill_ends_one_that_blocks(self, lago_sandbox, tmp_path, swallow):
        """Airflow 3 calls on_kill in its handler of SIGTERM, and kills the process 5 s later."""
        closed = []

        def rows():
            try:
                yield from usage(200)
                while True:
                    try:
                        time.sleep(30)
                    except Exception:
                        if not swallow:
                            raise
            finally:
                closed.append(threading.current_thread())

        made = operator(rows, report_path=tmp_path)
        before = signal.signal(signal.SIGALRM, lambda *_: made.on_kill())
        signal.setitimer(signal.ITIMER_REAL, 0.7)
        started = time.monotonic()
        try:
            with pytest.raises(LagoDeliveryError, match="ended by Airflow") as caught:
                made.execute(context())
        finally:
            signal.signal(signal.SIGALRM, before)
        assert time.monotonic() - started < 5
        assert not isinstance(caught.value, AirflowFailException)
        assert closed == [threading.main_thread()]
        saved = json.loads((tmp_path / "summary.json").read_text())
        assert saved["halted"] == "interrupted by Stopped"
        assert (saved["read"], saved["accepted"]) == (200, 200)


class TestRegistration:
    def test_airflow_is_told_where_the_decorator_is(self):
        (declared,) = get_provider_info()["task-decorators"]
        module, name = declared["class-name"].rsplit(".", 1)
        assert getattr(importlib.import_module(module), name) is lago_ingest_events_task
        assert LagoIngestEventsDecoratedOperator.custom_operator_name == f"@task.{declared['name']}"

    def test_airflow_finds_it_under_task_where_the_project_is_installed(self):
        try:
            distribution("airflow-provider-lago")
        except PackageNotFoundError:
            with pytest.raises(AttributeError, match="lago_ingest_events"):
                _ = task.lago_ingest_events
        else:
            assert task.lago_ingest_events is lago_ingest_events_task

    def test_it_is_used_with_and_without_arguments(self):
        @lago_ingest_events_task
        def plain():
            return []

        @lago_ingest_events_task(batch_size=7)
        def given():
            return []

        assert plain().operator.batch_size == 100
        assert given().operator.batch_size == 7
        assert given().operator.task_id == "given"

    def test_importing_it_imports_nothing_heavy(self):
        probe = (
            "import sys, airflow\n"
            "from airflow.providers.common.compat.sdk import BaseOperator, DecoratedOperator\n"
            "before = set(sys.modules)\n"
            "from airflow_provider_lago.decorators.events import lago_ingest_events_task\n"
            "lago_ingest_events_task(list, task_id='t')()\n"
            "heavy = {'aiohttp', 'pandas', 'airflow_provider_lago.hooks.lago'}\n"
            "print(sorted(heavy & (set(sys.modules) - before)))\n"
        )
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", probe], capture_output=True, text=True, check=True)
        assert done.stdout.strip().splitlines()[-1] == "[]"
