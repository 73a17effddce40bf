"""An Airflow of its own in ``.demo/``, beside whatever else is on the machine, and a sandbox in place of Lago."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from airflow_provider_lago.sandbox import Sandbox

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / ".demo"
LOG = FOLDER / "airflow.log"
OUTPUT = FOLDER / "output"

#: The flights are of 2013, and Lago shows the usage of the running billing period: the sandbox lives on that day.
_NOW = datetime(2013, 12, 31, 12, tzinfo=UTC)

#: Seconds that a process is given to end.
_PATIENCE = 30


def sandbox_of_2013() -> Sandbox:
    """Make a sandbox on a free loopback port whose clock runs, but is behind."""
    behind = time.time() - _NOW.timestamp()
    return Sandbox(clock=lambda: time.time() - behind)


def environment(sandbox: Sandbox, **more: str) -> dict[str, str]:
    """Return the environment of Airflow's processes, with nothing of another Airflow's in it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {
        **inherited,
        # Airflow's parts start each other by name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "AIRFLOW_HOME": str(FOLDER / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "example_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW_CONN_LAGO_DEFAULT": sandbox.connection_json,
        "LAGO_DEMO_FOLDER": str(OUTPUT),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        **more,
    }


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], env: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, its output in the log; end it and all that it started, whatever happens."""
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    # The process leads a group of its own, which its children belong to.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        if not _group_lives(process.pid):
            return


def _group_lives(group: int) -> bool:
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def run(command: Sequence[str | Path], env: Mapping[str, str]) -> int:
    """Run a command to its end and return its exit status."""
    with running(command, env) as process:
        return process.wait()


def migrate(env: Mapping[str, str]) -> None:
    """Make Airflow's database where there is none yet, or where Airflow has changed."""
    stamp = FOLDER / "airflow" / ".version"
    installed = version("apache-airflow")
    if stamp.exists() and stamp.read_text() == installed:
        return
    say(f"Making the database of Airflow {installed} ...")
    if run(["airflow", "db", "migrate"], env):
        raise SystemExit(f"airflow db migrate failed: see {shown(LOG)}")
    stamp.write_text(installed)


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does: with everything closed."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def shown(path: Path) -> str:
    """Return a path as seen from the project."""
    return str(path.relative_to(PROJECT))


def say(text: str) -> None:
    """Write a line for the person at the terminal, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
