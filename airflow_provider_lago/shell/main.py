"""The commands' entry: arguments in, an exit status out, no traceback for what a user can mend."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from airflow_provider_lago.shell.arguments import parse
from airflow_provider_lago.shell.errors import ShellError
from airflow_provider_lago.shell.screen import Screen

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: The arguments, or None for the process's own.
    :return: Exit status.
    """
    arguments = parse(argv)
    screen = Screen(sys.stdout, sys.stderr)
    try:
        return _run(arguments, screen)
    except KeyboardInterrupt:
        screen.complain("\nEnded by Ctrl-C.")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output is gone; Python would complain again when it flushes it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: Namespace, screen: Screen) -> int:
    # Imported here because Airflow takes seconds, which wrong usage and --help need not wait for.
    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_provider_lago.shell.preview import SHOWN, show
    from airflow_provider_lago.shell.send import send
    from airflow_provider_lago.shell.trial import prepare

    stdin = sys.stdin or io.TextIOWrapper(io.BytesIO())  # None where the shell closed it
    try:
        trial = prepare(arguments, screen, stdin)
        if arguments.command == "send":
            return send(trial, arguments, screen, stdin)
        found = show(trial, screen, most=SHOWN + 1)
        screen.say("Nothing was sent.")
        return 0 if found else 1
    except ShellError as error:
        screen.complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except (ValueError, OSError, AirflowException) as error:  # settings, sources, connections
        screen.complain(f"{error}")
        return 1
