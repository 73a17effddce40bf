"""A PostgreSQL of the tests' own: a new cluster in a folder of its own, on a free port, gone when the tests end."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Where Debian puts the programs, which are not on the path there.
_DEBIAN = Path("/usr/lib/postgresql")
_PROGRAMS = ("initdb", "postgres", "psql")

#: What may be lost in a crash does not matter here, and waiting for disks does.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
}
_USER = "tester"
#: Seconds for the server to come up or to end on a busy machine: only what hangs needs them.
_PATIENCE = 120


@dataclass(frozen=True)
class Postgres:
    """
    A running server.

    :param programs: Folder of PostgreSQL's programs.
    :param port: On 127.0.0.1.
    :param password: Of :attr:`user`, who may do everything.
    """

    programs: Path
    port: int
    password: str
    host: str = "127.0.0.1"
    user: str = _USER

    def url(self, database: str = "postgres", scheme: str = "postgresql") -> str:
        """Return the address of a database, the password in it: ``postgresql+psycopg2://...`` for SQLAlchemy."""
        return f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def run(self, script: str, database: str = "postgres") -> str:
        """Run statements and return what they print: a line a row, columns parted by ``|``."""
        done = subprocess.run(
            [self.programs / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-f", "-"],
            input=script,
            env={**os.environ, "PGOPTIONS": "--client-min-messages=warning"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()


def why_missing() -> str | None:
    """Return why no server can be started here, or None."""
    return None if _programs() else "PostgreSQL is not installed (Debian: apt-get install postgresql)"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server, and end it."""
    programs = _programs()
    if programs is None:
        raise RuntimeError(why_missing())
    owner = _owner()
    folder = Path(tempfile.mkdtemp(prefix="lago-postgres-"))
    try:
        password = uuid.uuid4().hex
        (folder / "password").write_text(password)
        if owner is not None:
            for path in (folder, folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        _make_cluster(programs, folder, owner)
        with _serving(programs, folder, owner, password) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    on_path = shutil.which("postgres")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(_DEBIAN.glob("*/bin"), key=lambda place: _number(place.parent.name), reverse=True)
    return next((place for place in places if all((place / name).exists() for name in _PROGRAMS)), None)


def _number(version: str) -> float:
    return float(version) if re.fullmatch(r"\d+(\.\d+)?", version) else 0.0


def _owner() -> pwd.struct_passwd | None:
    """Return whom to run as: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to be run by root, and there is no other user here")


def _start(command: list[str | Path], folder: Path, owner: pwd.struct_passwd | None) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            start_new_session=True,  # Ctrl-C is for the tests, which end the server themselves
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
        )


def _make_cluster(programs: Path, folder: Path, owner: pwd.struct_passwd | None) -> None:
    options = ["--username", _USER, "--pwfile", folder / "password", "--auth", "scram-sha-256"]
    plain = ["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"]
    made = _start([programs / "initdb", "--pgdata", folder / "data", *options, *plain], folder, owner)
    if made.wait(_PATIENCE):
        raise RuntimeError(f"initdb failed: {(folder / 'log').read_text()}")


@contextmanager
def _serving(programs: Path, folder: Path, owner: pwd.struct_passwd | None, password: str) -> Iterator[Postgres]:
    server = Postgres(programs, _free_port(), password)
    settings = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": str(server.port)}.items()]
    process = _start([programs / "postgres", "-D", folder / "data", *settings], folder, owner)
    try:
        _wait_until_ready(server, process, folder)
        yield server
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: nobody needs what it would write down first
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Postgres, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            server.run("SELECT 1")
        except RuntimeError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()}") from error
            time.sleep(0.1)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
