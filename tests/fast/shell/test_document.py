"""The page about the shell: every command in it is run, and prints what the page says."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from pathlib import Path

import pytest
from support.deliveries import KEY

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "shell.md").read_text(encoding="utf-8")
PROGRAM = "python -m airflow_provider_lago "
SESSIONS = re.findall(r"```console\n\$ (.*?)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    for name, text in re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    connection = {"conn_type": "lago", "host": "https://api.getlago.com", "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_LAGO_LIVE", json.dumps(connection))


def test_the_page_has_its_commands():
    assert len(SESSIONS) == PAGE.count("\n$ ") == 7


@pytest.mark.parametrize(("command", "expected"), SESSIONS, ids=[command[:90] for command, _ in SESSIONS])
def test_a_command_prints_what_the_page_says(shell, lago, command, expected):
    before, _, arguments = command.partition(PROGRAM)
    typed = shlex.split(before.rstrip("| "))[1] + "\n" if before else "y\n"
    ended = shell(*shlex.split(arguments), typed=typed, terminal=not before)
    printed = (ended.out + ended.err).replace(lago.url, "http://127.0.0.1:3000")
    # What the page leaves out is a line of dots, or dots within a line.
    pattern = expected.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]").replace("...", "*")
    assert fnmatch.fnmatchcase(printed, pattern), printed
    assert "Traceback" not in printed
    refused = "Nothing was sent" in ended.err
    assert ended.code == (2 if refused else 0)


def test_the_exit_statuses_are_those_of_the_page(shell, lago):
    assert shell("preview", "dags/bill_calls.py").code == 0
    assert shell("send", "dags/bill_calls.py", "--limit", "2", "--yes").code == 1
    assert shell("send", "dags/bill_calls.py", terminal=True, typed="n\n").code == 1
    assert shell("send", "dags/bill_calls.py").code == 2
