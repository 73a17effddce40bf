"""One try of a delivery in a process of its own, as a task's: it may be killed at any moment."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import resource
import signal
import subprocess
import time
import traceback
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
from support.deliveries import connection

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.delivery import delivery as delivering
from airflow_provider_lago.delivery.checkpoint import Durability
from airflow_provider_lago.delivery.delivery import Delivery
from airflow_provider_lago.delivery.events.plan import EventPlan
from airflow_provider_lago.delivery.keeper import Rhythm
from airflow_provider_lago.delivery.loop_thread import Stopped
from airflow_provider_lago.delivery.report import FolderReport, NoReport, Report
from airflow_provider_lago.operators.durability import begin_anew, conclude, find_durability
from airflow_provider_lago.sources.rows import Limited
from airflow_provider_lago.storage.folders import LocalFolder
from airflow_provider_lago.storage.lines import CannotContinueError
from chaos.records import Records
from chaos.scenario import CONNECT_TIMEOUT, READ_TIMEOUT, Scenario
from chaos.server import Server, ServerDied, die_with_parent

#: Seconds after which a try hangs; a run of ten thousand events takes about one.
PATIENCE = 300.0

_CLONE_NEWNS = 0x20000

QUICK = RetryPolicy(attempts=12, base=0.005, cap=0.03)


class Ended(NamedTuple):
    """
    How a try ended.

    :param how: ``complete``, ``halted`` (to be tried again), ``final`` (after somebody changed something), ``stopped``,
        ``disk full``, ``killed``, ``hung`` or ``broken``.
    :param counts: Its summary, where it could give one.
    :param why: In words.
    :param resumed: Whether it went on from a checkpoint.
    """

    how: str
    counts: dict[str, Any]
    why: str = ""
    resumed: bool = False


class Interrupted(BaseException):
    """What Airflow raises in a task's main thread when its time is over; there it is no Exception either."""


class StateStore:
    """What Airflow 3.3 keeps for a task, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str, default: Any) -> Any:
        return msgspec.json.decode(self._path.read_bytes()) if self._path.exists() else default

    def set(self, key: str, value: Any) -> None:
        draft = self._path.with_suffix(".part")
        draft.write_bytes(msgspec.json.encode(value))
        draft.replace(self._path)

    def delete(self, key: str) -> None:
        self._path.unlink(missing_ok=True)


class Try(NamedTuple):
    """A delivery as the operator makes it."""

    delivery: Delivery
    report: Report
    durability: Durability | None


_LOG = logging.getLogger("chaos")


def build_try(made: Scenario, records: Records, number: int, folder: Path, url: str) -> Try:
    """
    Make the delivery of a try.

    :param number: Of the try, from 1; 0 is the earlier delivery of the first records, which nothing disturbs.
    """
    source = records.source()
    plan = EventPlan(
        source=source if number else Limited(source, made.earlier),
        settings=connection(url, connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT),
        user_agent="chaos",
        shaping=records.shaping(),
        batch_size=made.batch_size,
        concurrency=made.concurrency,
        max_bytes=made.max_bytes,
        requests_per_second=made.requests_per_second,
        policy=QUICK,
    )
    if number == 0:
        return Try(Delivery(plan, NoReport(), _LOG), NoReport(), None)
    task = {"dag_id": "chaos", "run_id": str(made.seed), "task_id": "deliver", "map_index": -1}
    run = {**task, "try_number": number}
    place, durability = LocalFolder(folder), None
    if made.durable:
        context: Any = {"ti": SimpleNamespace(max_tries=9)}
        if made.durable == "store":
            context["task_state_store"] = StateStore(folder.parent / "state.json")
        durability = find_durability(plan, task, context, place, _LOG)
    marks = durability.found.evidence if durability is not None and durability.found is not None else None
    try:
        report = FolderReport(place, run, receipts=made.receipts, marks=marks)
    except CannotContinueError as error:
        assert durability is not None
        durability = begin_anew(durability, str(error), _LOG)
        report = FolderReport(place, run, receipts=made.receipts)
    return Try(Delivery(plan, report, _LOG, durability=durability), report, durability)


def run_try(made: Scenario, records: Records, number: int, folder: Path, server: Server, limit: int | None) -> Ended:
    """
    Run a try to its end, whatever that is, and start the server again where it crashes.

    :param folder: Of the report.
    :param limit: Bytes that a file of the report may have; None for no limit.
    """
    ours, theirs = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _in_child(theirs, made, records, number, folder, server.url, limit)
    theirs.close()
    try:
        return _watch(made, number, pid, ours, server)
    finally:
        ours.close()


def _watch(made: Scenario, number: int, pid: int, ours: Connection, server: Server) -> Ended:
    if number:
        call(made, server, "target", pid)
    started = time.monotonic()
    deadline, end = made.deadlines.get(number, (PATIENCE * 2, ""))
    ended: Ended | None = None
    while ended is None:
        now = time.monotonic() - started
        if now > PATIENCE + 5:
            os.kill(pid, signal.SIGKILL)
        if end and now >= deadline:
            os.kill(pid, signal.SIGKILL if end == "kill" else signal.SIGTERM)
            end = ""
        left = deadline - now if end else PATIENCE + 6 - now
        ready = wait([ours, server.link], max(0.0, left))
        if server.link in ready:
            revive(made, server)
        if ours in ready:
            try:
                ended = Ended(*ours.recv())
            except EOFError:
                ended = Ended("killed", {})
    _, status = os.waitpid(pid, 0)
    if number:
        call(made, server, "target", 0)
    if time.monotonic() - started > PATIENCE:
        return Ended("hung", {}, "no end within the time; see hang.txt")
    if ended.how == "killed" and not (
        os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
    ):
        return Ended("broken", {}, f"the process ended with status {status}")
    return ended


def call(made: Scenario, server: Server, name: str, *arguments: Any) -> Any:
    """Have the server do something; where it has crashed, after it was started again."""
    while True:
        try:
            return server.call(name, *arguments)
        except ServerDied:
            revive(made, server)


def revive(made: Scenario, server: Server) -> None:
    """Start the server again, with what is left of the faults."""
    server.revive()
    server.call("prepare", *preparation(made), server.requests)


def preparation(made: Scenario) -> tuple[Any, ...]:
    """Return what the server needs to know of a run."""
    return made.store, made.sandbox_faults, made.proxy_faults, made.triggers, made.elsewhere


def _in_child(
    link: Connection, made: Scenario, records: Records, number: int, folder: Path, url: str, limit: int | None
) -> None:
    try:
        die_with_parent()
        hang = (folder.parent / "hang.txt").open("w")
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=hang)
        if limit is not None:
            # Python ignores SIGXFSZ: a write beyond the limit is short, then fails, as on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        link.send(tuple(_deliver(made, records, number, folder, url, full=limit is not None)))
    finally:
        os._exit(0)


def _deliver(made: Scenario, records: Records, number: int, folder: Path, url: str, *, full: bool) -> Ended:
    """Do what the operator does with a delivery."""
    try:
        records_due, seconds = made.rhythm
        delivering.Rhythm = lambda: Rhythm(records_due, seconds, 2 * records_due)  # type: ignore[assignment,misc]
        delivery, report, durability = build_try(made, records, number, folder, url)
        signal.signal(signal.SIGTERM, lambda *_: delivery.stop())
        signal.signal(signal.SIGUSR1, _interrupt)
        try:
            result = delivery.run()
        except BaseException as error:
            _keep_partial(delivery, report, error)
            raise
        summary = result.summary()
        report.finish(summary)
        if durability is not None:
            conclude(durability, result.halt, _LOG)
    except (Stopped, Interrupted):
        return Ended("stopped", {})
    except OSError as error:
        return Ended("disk full" if full else "broken", {}, "".join(traceback.format_exception(error)))
    except BaseException as error:  # noqa: BLE001 - the other process tells of it
        return Ended("broken", {}, "".join(traceback.format_exception(error)))
    resumed = durability is not None and durability.found is not None
    if result.halt is None:
        return Ended("complete", summary, "", resumed)
    how = "final" if result.halt.final else "disk full" if full and "cannot be" in result.halt.why else "halted"
    return Ended(how, summary, result.halt.why, resumed)


def _interrupt(*_: Any) -> None:
    raise Interrupted


def _keep_partial(delivery: Delivery, report: Report, error: BaseException) -> None:
    with contextlib.suppress(OSError):
        report.finish(delivery.interrupted(f"interrupted by {type(error).__name__}").summary())


class Disk:
    """
    A folder on a disk of its own where this process may mount one, otherwise an ordinary folder.

    :param folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.is_real = False

    def __enter__(self) -> Disk:
        self._folder.mkdir()
        self.is_real = os.geteuid() == 0 and _have_own_mounts() and _mount(self._folder, "size=1g")
        return self

    def resize(self, size: int | None) -> None:
        """Let it hold so many bytes, in whole pages; None for enough."""
        _mount(self._folder, f"remount,size={'1g' if size is None else max(4096, size)}")

    def __exit__(self, *exc: object) -> None:
        if self.is_real:
            subprocess.run(["umount", str(self._folder)], check=True)


def _have_own_mounts() -> bool:
    """Let this process's mounts be seen by no other one, and end with it even if it is killed."""
    if ctypes.CDLL(None).unshare(_CLONE_NEWNS) != 0:
        return False
    return not subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True).returncode


def _mount(folder: Path, options: str) -> bool:
    return not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode
