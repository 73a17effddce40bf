"""``preview``: print the requests, send nothing."""

from __future__ import annotations

from airflow_provider_lago.delivery.preview import preview
from airflow_provider_lago.shell.screen import Notes, Screen
from airflow_provider_lago.shell.trial import Trial
from airflow_provider_lago.shell.wording import counts, request_lines

#: Requests that are printed.
SHOWN = 3


def show(trial: Trial, screen: Screen, most: int) -> bool:
    """
    Print the first requests of a trial, and what was rejected on the way to them.

    :param trial: The trial.
    :param screen: Where they go.
    :param most: How many requests to make, though only the first are printed.
    :return: Whether there is anything to send.
    """
    notes = Notes(screen)
    samples, tally = preview(trial.plan, most, notes)
    screen.say(trial.name)
    screen.say(f"{trial.plan.source}, connection {trial.plan.settings.conn_id!r}")
    for number, sample in enumerate(samples[:SHOWN], 1):
        screen.say()
        for line in request_lines(number, sample):
            screen.say(line)
    if len(samples) > SHOWN:
        screen.say(f"\nAnd more requests, not printed: only the first {SHOWN} are.")
    screen.say()
    for line in notes.rejected:
        screen.say(line)
    screen.say(counts(tally))
    return tally.read > tally.settled
