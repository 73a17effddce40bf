"""``make ui``: Airflow with its web interface, the example Dags, and the sandbox in place of Lago, until Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from local_airflow import (
    FOLDER,
    LOG,
    OUTPUT,
    end_on_signals,
    environment,
    migrate,
    running,
    sandbox_of_2013,
    say,
    shown,
)

from airflow_provider_lago.sandbox import Sandbox

_PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")

#: Seconds until all parts of Airflow have to be up.
_PATIENCE = 240


def main() -> int:
    """Run until Ctrl-C; the exit status is 1 if Airflow does not come up, or ends by itself."""
    end_on_signals()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    LOG.write_bytes(b"")
    with sandbox_of_2013() as sandbox:
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        env = environment(
            sandbox,
            AIRFLOW__API__HOST="127.0.0.1",
            AIRFLOW__API__PORT=str(port),
            AIRFLOW__API__BASE_URL=address,
            AIRFLOW__API__WORKERS="1",
            AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"{address}/execution/",
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
            AIRFLOW__CORE__TEST_CONNECTION="Enabled",
            AIRFLOW__CORE__PARALLELISM="4",
            # These two serve logs on fixed ports otherwise, which another Airflow on this machine may use.
            AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT=str(free_port()),
            AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT=str(free_port()),
        )
        # A connection from the environment would be used, but not shown; show_connection() stores it instead.
        del env["AIRFLOW_CONN_LAGO_DEFAULT"]
        migrate(env)
        say(f"Starting Airflow, which takes up to a minute; its log goes to {shown(LOG)} ...")
        with running(["airflow", "standalone"], env) as airflow:
            if not comes_up(address, airflow):
                say(f"FAILED: Airflow did not come up; see {shown(LOG)}")
                return 1
            show_connection(address, sandbox)
            say(
                f"\n  Airflow  {address}  (no password; Dags > bill_airlines > Trigger)\n"
                f"  Lago     {sandbox.url}  (the sandbox: what it holds; the connection is lago_default)\n"
                f"  Files    {shown(OUTPUT)}\n\nCtrl-C ends both; everything else of them lies in {shown(FOLDER)}."
            )
            status = airflow.wait()
        say(f"Airflow ended by itself (status {status}); see {shown(LOG)}")
        return 1


def free_port() -> int:
    """Find a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def comes_up(address: str, airflow: subprocess.Popen[bytes]) -> bool:
    """Wait until all parts of Airflow are healthy; False if they are not in time."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and airflow.poll() is None:
        try:
            health = call("GET", f"{address}/api/v2/monitor/health")
            if all(health[part]["status"] == "healthy" for part in _PARTS):
                return True
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(1)
    return False


def show_connection(address: str, sandbox: Sandbox) -> None:
    """Store the connection in Airflow's database, in the form that its Test button understands."""
    token = call("GET", f"{address}/auth/token")["access_token"]
    connections = f"{address}/api/v2/connections"
    with contextlib.suppress(urllib.error.HTTPError):
        call("DELETE", f"{connections}/lago_default", token)
    connection = {
        "connection_id": "lago_default",
        "conn_type": "lago",
        "host": f"http://{sandbox.host}",
        "port": sandbox.port,
        "password": sandbox.api_key,
    }
    call("POST", connections, token, connection)


def call(method: str, url: str, token: str = "", body: object = None) -> Any:
    """Call Airflow's API."""
    request = urllib.request.Request(url, method=method, headers={"Content-Type": "application/json"})  # noqa: S310
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if body is not None:
        request.data = json.dumps(body).encode()
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.loads(answer.read() or "null")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\nStopped.")
        sys.exit(0)
