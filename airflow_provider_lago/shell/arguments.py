"""The command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow_provider_lago.api import exact_json

PROGRAM = "python -m airflow_provider_lago"
ALL = "all"

_EPILOG = "Exit status: 0 done, 1 it could not be done or records were rejected, 2 wrong usage. See docs/shell.md."


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """
    Return the arguments of a command; end the process with status 2 where they are wrong.

    :param argv: The arguments, or None for the process's own.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Run the settings of a Lago operator from a shell.", epilog=_EPILOG
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="preview|send")
    preview = commands.add_parser("preview", help="print the requests, send nothing", epilog=_EPILOG)
    _add_common(preview)
    preview.add_argument(
        "--limit", type=limit_or_all, default=1, metavar="N", help="records to take, or all (default: %(default)s)"
    )
    send = commands.add_parser("send", help="print the requests, ask, send them", epilog=_EPILOG)
    _add_common(send)
    send.add_argument("--limit", type=limit, default=1, metavar="N", help="records to send (default: %(default)s)")
    send.add_argument("--yes", action="store_true", help="do not ask")
    send.add_argument(
        "--yes-bill-it", action="store_true", help="send usage events, or what else is billed, to a live organization"
    )
    arguments = parser.parse_args(argv)
    if (arguments.dag_file is None) == (arguments.settings is None):
        parser.error("give either a DAG file or --settings FILE")
    if arguments.settings is not None and arguments.dag_id is not None:
        parser.error("--dag-id goes with a DAG file, not with --settings")
    return arguments


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dag_file", nargs="?", metavar="DAG_FILE", help="file with the DAG")
    parser.add_argument("task_id", nargs="?", metavar="TASK_ID", help="the task, where the file has several of Lago's")
    parser.add_argument("--dag-id", metavar="ID", help="the DAG, where the file has several")
    parser.add_argument("--settings", metavar="FILE", help="JSON file with an operator and its arguments, not a DAG")
    parser.add_argument("--conn-id", metavar="ID", help="Airflow connection, instead of the task's")
    parser.add_argument(
        "--set",
        dest="edits",
        action="append",
        default=[],
        type=assignment,
        metavar="PATH=VALUE",
        help="set a field of each payload, dotted to nest; JSON, else text (repeatable)",
    )
    parser.add_argument(
        "--param",
        dest="params",
        action="append",
        default=[],
        type=assignment,
        metavar="NAME=VALUE",
        help="set a param of the DAG; JSON, else text (repeatable)",
    )
    parser.add_argument(
        "--logical-date", type=moment, metavar="DATE", help="moment of the run, for templates (default: now)"
    )
    parser.add_argument(
        "--records", metavar="FILE", help="records instead of the task's: .jsonl, .csv, .json, or - for JSON lines"
    )


def limit(text: str) -> int:
    """Return a count of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        hint = ": send wants to know how many" if text == ALL else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1{hint}")
    return int(text)


def limit_or_all(text: str) -> int | None:
    """Return a count of at least 1, or None for all."""
    return None if text == ALL else limit(text)


def assignment(text: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``; the value is JSON if it can be read as JSON, else text."""
    name, equals, value = text.partition("=")
    if not equals or not all(name.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    try:
        return name, exact_json.decode(value)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return name, value


def moment(text: str) -> datetime:
    """Return a moment; without a zone it is UTC."""
    import pendulum

    try:
        found: object = pendulum.parse(text)
    except ValueError:
        found = None
    if not isinstance(found, datetime):
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-11-02 or 2026-11-02T09:00:00Z")
    return found
