"""Airflow 3 as it runs in production, only small: ``airflow standalone``, its folder, and its API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

PROJECT = Path(__file__).parents[2]
_LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_PARTS = ("metadatabase", "scheduler", "dag_processor")

#: Seconds that anything may take on a busy machine: what is waited for is a state, and this only ends what hangs.
PATIENCE = 600

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T], alive: Callable[[], bool] = lambda: True, every: float = 0.1) -> T:
    """Look until something true is seen, and return it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        if not alive():
            raise RuntimeError(f"what should bring about {what} has ended")
        time.sleep(every)
    raise TimeoutError(f"{what}: not within {PATIENCE} s")


def call(method: str, url: str, body: object = None, token: str = "") -> Any:
    """Call an API on this machine."""
    request = urllib.request.Request(url, method=method, headers={"Content-Type": "application/json"})
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if body is not None:
        request.data = json.dumps(body).encode()
    try:
        with _LOOPBACK.open(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        error.add_note(f"{method} {url}: {error.read()[:500]!r}")
        raise


class Standalone:
    """
    A running Airflow.

    :param folder: Where its files are.
    :param processes: Its first processes.
    :param address: Of its web server.
    """

    def __init__(self, folder: Path, processes: Sequence[subprocess.Popen[bytes]], address: str) -> None:
        self.folder = folder
        self._processes = processes
        self._address = address
        self._token = ""

    def lives(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call Airflow's public API as an administrator."""
        if not self._token:
            self._token = call("GET", f"{self._address}/auth/token")["access_token"]
        return call(method, f"{self._address}/api/v2/{path}", body, self._token)

    def is_up(self, dags: int) -> bool:
        """Tell whether all parts are healthy and the DAGs are known."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            health = call("GET", f"{self._address}/api/v2/monitor/health")
            if all(health[part]["status"] == "healthy" for part in _PARTS):
                return bool(self.api("GET", "dags")["total_entries"] >= dags)
        return False

    def trigger(self, dag: str, run: str, conf: Mapping[str, Any]) -> None:
        self.api("POST", f"dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None, "conf": conf})

    def task(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """The task instance: its ``state``, ``try_number`` and more."""
        found: dict[str, Any] = self.api("GET", _instance(dag, run, task))
        return found

    def returned(self, dag: str, run: str, task: str) -> Any:
        """What the task returned."""
        value = self.api("GET", f"{_instance(dag, run, task)}/xcomEntries/return_value?deserialize=true")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def kept(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """What the task keeps in its state store."""
        entries = self.api("GET", f"{_instance(dag, run, task)}/state-store")["task_state_store"]
        return {entry["key"]: entry["value"] for entry in entries}

    def mark(self, dag: str, run: str, task: str, state: str) -> None:
        self.api("PATCH", _instance(dag, run, task), {"new_state": state})

    def clear(self, dag: str, run: str, task: str) -> None:
        """Clear a task that has ended, as a person does in the web interface."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run, "task_ids": [task]}
        self.api("POST", f"dags/{dag}/clearTaskInstances", body)


def _instance(dag: str, run: str, task: str) -> str:
    return f"dags/{dag}/dagRuns/{run}/taskInstances/{task}"


@contextlib.contextmanager
def standalone(folder: Path, dags: Path, count: int, **env: str) -> Iterator[Standalone]:
    """
    Run Airflow and end all of it.

    :param folder: For its database, logs and settings.
    :param dags: Folder of the DAG files.
    :param count: Number of DAGs in them.
    :param env: More of its environment.
    """
    address = f"http://127.0.0.1:{free_port()}"
    with (folder / "airflow.log").open("ab") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("airflow"), "standalone"],
            env={**environment(folder, dags, address), **env},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    airflow = Standalone(folder, [process], address)
    try:
        wait_for("Airflow", lambda: airflow.is_up(count), airflow.lives, every=0.5)
        yield airflow
    except BaseException as error:
        error.add_note((folder / "airflow.log").read_text(errors="replace")[-4_000:])
        raise
    finally:
        end(process)


def environment(folder: Path, dags: Path, address: str) -> dict[str, str]:
    """Return what an Airflow of its own needs to be told."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {
        **inherited,
        # Airflow's parts start each other by name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(PROJECT),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": address.rpartition(":")[2],
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        # These two serve logs on fixed ports otherwise, which another Airflow on this machine may use.
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    """End all of a session: Airflow gives its tasks groups of their own, and one whose parent was killed has no parent."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    while left := _session(process.pid):
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.poll()
        time.sleep(0.05)
    process.wait()


def _session(leader: int) -> list[int]:
    """Return the processes of a session that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.append(int(entry.name))
    return found
