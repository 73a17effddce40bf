"""``send``: print the requests, ask, send them, print what became of each record."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TextIO

from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.delivery.delivery import Delivery, Result
from airflow_provider_lago.delivery.report import NoReport
from airflow_provider_lago.hooks.doctor import ORGANIZATIONS, PATIENCE, judge
from airflow_provider_lago.hooks.lago import LagoHook
from airflow_provider_lago.operators.base import in_words
from airflow_provider_lago.shell.errors import ShellError, UsageError
from airflow_provider_lago.shell.preview import show
from airflow_provider_lago.shell.records import Kept
from airflow_provider_lago.shell.safety import is_live, why_not_asked, why_not_billed
from airflow_provider_lago.shell.screen import Progress, Screen
from airflow_provider_lago.shell.trial import Trial
from airflow_provider_lago.shell.wording import receipt
from airflow_provider_lago.sources.rows import Row


class Receipts(NoReport):
    """
    The evidence of a delivery as lines on the screen.

    :param screen: Where they go.
    :param id_field: What the id of a record is called.
    """

    wants_receipts = True

    def __init__(self, screen: Screen, id_field: str) -> None:
        self._screen = screen
        self._id_field = id_field
        self._details: dict[int, str] = {}

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Keep the detail, which receipts do not hold; the receipt comes next."""
        self._details[row.position] = detail

    def receipts(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Print a line for each record."""
        for line in lines:
            self._screen.say(receipt(line, self._id_field, self._details.pop(line["position"], "")))


def send(trial: Trial, arguments: Namespace, screen: Screen, stdin: TextIO) -> int:
    """
    Show the requests of a trial, ask, and send them.

    :param trial: The trial.
    :param arguments: The command line.
    :param screen: Where everything goes.
    :param stdin: Where the answer is read.
    :return: Exit status.
    :raises ShellError: if nothing can be or may be sent.
    """
    trial = replace(trial, plan=replace(trial.plan, source=Kept(trial.plan.source)))
    if not show(trial, screen, most=sys.maxsize):
        raise ShellError("There is nothing to send.")
    settings = trial.plan.settings
    address = settings.api_url.removesuffix("/api/v1")
    obstacle = why_not_billed(
        bills=trial.operator.bills, live=is_live(settings), agreed=arguments.yes_bill_it, address=address
    ) or why_not_asked(agreed=arguments.yes, terminal=stdin.isatty())
    if obstacle is not None:
        raise UsageError(f"{obstacle}. Nothing was sent.")
    organization = _organization(trial.operator.hook, address)
    trial.operator._before_sending(trial.plan, trial.context)  # type: ignore[arg-type]
    if not arguments.yes:
        screen.ask(f"Send it to {address} (connection {settings.conn_id!r}, {organization})? [y/N]")
        if stdin.readline().strip().lower() not in {"y", "yes"}:
            raise ShellError("Nothing was sent.")
    return _deliver(trial, screen)


def _organization(hook: LagoHook, address: str) -> str:
    """Return in words whose organization it is; raise where the key or the address are refused."""
    settings = hook.settings
    answer = hook.exchange(ORGANIZATIONS, min(PATIENCE, settings.read_timeout))
    if isinstance(answer, Failure):
        raise ShellError(f"{answer.message}. Nothing was sent.")
    works, said = judge(answer, address, settings.conn_id)
    if not works:
        raise ShellError(f"{said}. Nothing was sent.")
    body = answer.json()
    organization = body.get("organization") if isinstance(body, dict) else None
    name = organization.get("name") if isinstance(organization, dict) else None
    return f"organization {name!r}" if name else "an organization whose name the key may not read"


def _deliver(trial: Trial, screen: Screen) -> int:
    delivery = Delivery(trial.plan, Receipts(screen, trial.plan.id_field), Progress(screen))
    try:
        result = delivery.run()
    except KeyboardInterrupt:
        partial = delivery.interrupted("ended by Ctrl-C; what was in flight may have reached Lago")
        screen.say(f"Not done: {in_words(partial.summary())}")
        raise
    screen.say(f"{'Done' if result.halt is None else 'Stopped'}: {in_words(result.summary())}")
    return _exit_code(result)


def _exit_code(result: Result) -> int:
    return 1 if result.halt is not None or result.tally.rejected else 0
