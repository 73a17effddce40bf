"""A Redis of the tests' own: in a folder of its own, on a free port, gone when the tests end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.standalone import free_port, wait_for


def why_missing() -> str | None:
    """Return why no server can be started here, or None."""
    return None if shutil.which("redis-server") else "Redis is not installed (Debian: apt-get install redis-server)"


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Start a server that keeps nothing on disk, give its address, and end it."""
    import redis

    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(
            ["redis-server", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def answers() -> bool:
        try:
            return bool(redis.Redis(port=port).ping())
        except redis.ConnectionError:
            return False

    try:
        wait_for("Redis", answers, lambda: process.poll() is None)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
