"""Airflow 3 with Celery: Redis hands tasks to workers, PostgreSQL keeps what Airflow knows."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.postgres import running_postgres
from support.redis import running_redis
from support.standalone import Standalone, end, environment, free_port, wait_for

#: Says to a task on which worker it runs.
WORKER = "LAGO_TEST_WORKER"


@contextlib.contextmanager
def celery_cluster(folder: Path, dags: Path, count: int, workers: int = 2, **env: str) -> Iterator[Standalone]:
    """
    Run Airflow's parts, some workers that take one task at a time, a broker and a database, and end all of it.

    :param folder: For logs and settings.
    :param dags: Folder of the DAG files.
    :param count: Number of DAGs in them.
    :param workers: Number of workers.
    :param env: More of the environment.
    """
    address = f"http://127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        broker = stack.enter_context(running_redis(folder))
        database = postgres.new_database()
        settings = {
            **environment(folder, dags, address),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(2 * workers),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url(database, "postgresql+psycopg2"),
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{postgres.url(database)}",
            "AIRFLOW__API_AUTH__JWT_SECRET": "the same for all parts, as they are started one by one here",
            "AIRFLOW__CORE__FERNET_KEY": "",
            **env,
        }
        subprocess.run(
            [_airflow(), "db", "migrate"],
            env=settings,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            check=True,
            capture_output=True,
        )
        parts = [_part(folder, settings, name) for name in ("api-server", "scheduler", "dag-processor")]
        for process in parts:
            stack.callback(end, process)
        for number in range(workers):
            own = {
                **settings,
                WORKER: str(number),
                "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            }
            command = (
                "celery",
                "worker",
                "--concurrency",
                "1",
                "--celery-hostname",
                f"worker{number}@%h",
                "--without-gossip",
                "--without-mingle",
            )
            parts.append(_part(folder, own, *command, log=f"worker{number}"))
            stack.callback(end, parts[-1])
        airflow = Standalone(folder, parts, address)
        try:
            wait_for("Airflow", lambda: airflow.is_up(count), airflow.lives, every=0.5)
            yield airflow
        except BaseException as error:
            for log in sorted(folder.glob("*.log")):
                error.add_note(f"{log.name}:\n{log.read_text(errors='replace')[-2_000:]}")
            raise


def _airflow() -> Path:
    return Path(sys.executable).with_name("airflow")


def _part(folder: Path, settings: dict[str, str], *command: str, log: str = "") -> subprocess.Popen[bytes]:
    with (folder / f"{log or command[0]}.log").open("ab") as stream:
        return subprocess.Popen(
            [_airflow(), *command],
            env={**os.environ, **settings},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
