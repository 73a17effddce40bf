"""``python -m airflow_provider_lago.sandbox``: serve until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from airflow_provider_lago.sandbox.access import DEFAULT_KEY, Permissions, parse_permissions


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_lago.sandbox",
        description="An embedded server that behaves like Lago, for demos and tests.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="0 picks a free port (default: %(default)s)")
    parser.add_argument("--store", choices=("postgres", "clickhouse"), default="postgres", help="duplicate rules")
    parser.add_argument("--db", metavar="FILE", help="SQLite file to keep; in memory if not given")
    parser.add_argument("--api-key", action="append", metavar="KEY", help=f"repeatable (default: {DEFAULT_KEY})")
    parser.add_argument(
        "--permissions",
        action="append",
        default=[],
        metavar="[KEY=]RESOURCE:MODES,...",
        help="restrict a key, or all of them: event:write,organization:read+write (repeatable)",
    )
    parser.add_argument("--rate-limit", type=int, metavar="N", help="requests per window (default: no limit)")
    parser.add_argument("--rate-window", type=float, default=1.0, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="that every answer takes")
    parser.add_argument("--max-batch", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("--premium", action="store_true", help="as with a premium licence")
    parser.add_argument("--release", metavar="X.Y.Z", help="behave as an older release of Lago")
    parser.add_argument("--ssl-certfile", metavar="FILE", help="serve HTTPS")
    parser.add_argument("--ssl-keyfile", metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        arguments.keys = _keys(arguments.api_key or [DEFAULT_KEY], arguments.permissions)
    except ValueError as wrong:
        parser.error(str(wrong))
    return arguments


def _keys(names: Sequence[str], permissions: Sequence[str]) -> dict[str, Permissions | None]:
    keys: dict[str, Permissions | None] = dict.fromkeys(names)
    for text in permissions:
        key, equals, rest = text.rpartition("=")
        allowed = parse_permissions(rest)
        for name in [key] if equals else list(keys):
            keys[name] = allowed
    return keys


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; the exit status is 0 after a signal."""
    arguments = _arguments(argv)
    try:
        from airflow_provider_lago.sandbox import Sandbox
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        sandbox = Sandbox(
            host=arguments.host,
            port=arguments.port,
            store=arguments.store,
            db=arguments.db,
            api_keys=arguments.keys,
            rate_limit=arguments.rate_limit,
            rate_window=arguments.rate_window,
            latency=arguments.latency,
            max_batch=arguments.max_batch,
            premium=arguments.premium,
            release=arguments.release,
            ssl_certfile=arguments.ssl_certfile,
            ssl_keyfile=arguments.ssl_keyfile,
        )
        sandbox.start()
    except (OSError, ValueError, RuntimeError) as wrong:
        sys.stderr.write(f"The sandbox cannot start: {wrong}\n")
        return 1
    sys.stdout.write(
        f"Lago sandbox on {sandbox.url} (open it in a browser)\nAIRFLOW_CONN_LAGO_DEFAULT='{sandbox.connection_json}'\n"
    )
    sys.stdout.flush()
    stopped.wait()
    sandbox.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
