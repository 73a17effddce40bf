"""Commands run in this process, with a standard input of their own."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from airflow_provider_lago.shell.main import main


class Terminal(io.TextIOWrapper):
    """A standard input that says whether it is a terminal, and shows what is typed."""

    def __init__(self, typed, *, terminal):
        super().__init__(io.BytesIO(typed.encode()), encoding="utf-8")
        self._terminal = terminal

    def isatty(self):
        return self._terminal

    def readline(self, *args):
        line = super().readline(*args)
        sys.stdout.write(line)
        return line


class Ended:
    def __init__(self, code, printed):
        self.code = code
        self.out = printed.out
        self.err = printed.err

    @property
    def lines(self):
        return self.out.splitlines()


@pytest.fixture
def shell(capsys, monkeypatch):
    """Run a command as ``python -m airflow_provider_lago`` would."""

    def run(*argv, typed="", terminal=False):
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", Terminal(typed, terminal=terminal))
        try:
            code = main([str(argument) for argument in argv])
        except SystemExit as ending:
            code = ending.code
        return Ended(code, capsys.readouterr())

    logging.disable(logging.CRITICAL)  # as the process of its own does
    yield run
    logging.disable(logging.NOTSET)


@pytest.fixture
def lago(lago_sandbox, lago_sandbox_connection):
    return lago_sandbox


DAGS = """
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_lago.operators import LagoIngestEventsOperator


def event(n, **changes):
    return {
        "transaction_id": f"t{n}",
        "external_subscription_id": "s",
        "code": "c",
        "timestamp": 1_700_000_000 + n,
        "properties": {"n": n},
        **changes,
    }

"""


@pytest.fixture
def dag_file(tmp_path):
    """Write a DAG file; its text finds the usual imports and ``event(n)``."""

    def write(text, name="dags.py"):
        path = tmp_path / name
        path.write_text(DAGS + text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def one_task(dag_file):
    """A DAG file with one task, whose arguments are given as source text."""

    def write(arguments, dag_arguments="", before=""):
        return dag_file(
            f"with DAG('d', schedule=None, {dag_arguments}):\n"
            f"    {before or 'pass'}\n"
            f"    LagoIngestEventsOperator(task_id='deliver', {arguments})\n"
        )

    return write
