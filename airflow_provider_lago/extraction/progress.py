"""How far an extraction came, and what the numbers of a list that changes meanwhile mean for it."""

from __future__ import annotations

from typing import Protocol

import msgspec

#: Ids of read items that are remembered, to recognise items that come again after rows were inserted above them.
REMEMBERED = 20_000


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """
    Counts of one extraction, over all tries.

    :param pages: Pages that were read.
    :param next_page: The page to go on with; None at the end.
    :param parts: Parts that were written.
    :param items: Items in them.
    :param duplicates_dropped: Items that came again.
    :param at_end_dropped: Items at ``timestamp_to`` itself, which belong to the next window.
    :param total_first: Lago's ``total_count`` on the first page.
    :param total_last: The same on the last page that was read.
    :param lost: By how much ``total_count`` fell from page to page.
    :param behind: How many rows, at most, come again before the first new one.
    """

    pages: int = 0
    next_page: int | None = 1
    parts: int = 0
    items: int = 0
    duplicates_dropped: int = 0
    at_end_dropped: int = 0
    total_first: int | None = None
    total_last: int | None = None
    lost: int = 0
    behind: int = 0

    @property
    def came(self) -> int:
        """Different items that Lago sent."""
        return self.items + self.at_end_dropped


class Page(Protocol):
    """One page of a list; :class:`airflow_provider_lago.hooks.calls.Page` is one."""

    @property
    def number(self) -> int:
        """Its number, from 1."""

    @property
    def items(self) -> list[msgspec.Raw]:
        """Its items, as they came."""

    @property
    def following(self) -> int | None:
        """Number of the next page."""

    @property
    def total_count(self) -> int | None:
        """Items of the whole list."""


def grown(progress: Progress, page: Page) -> int:
    """Return by how much the list grew since the page before; negative if it shrank, 0 if nothing tells."""
    if page.total_count is None or progress.total_last is None:
        return 0
    return page.total_count - progress.total_last


def lost_track(progress: Progress, page: Page, per_page: int) -> str | None:
    """
    Return why this page cannot be joined to those before: more rows came in than ids are remembered.

    Lago pages by number and mostly has the newest first, so what comes in shifts known rows to later pages.
    """
    behind = progress.behind + max(0, grown(progress, page))
    if behind + per_page <= REMEMBERED:
        return None
    return f"the list grew by {behind:,} items since, and only the last {REMEMBERED:,} ids are remembered"


def cannot_resume(progress: Progress, page: Page, per_page: int) -> str | None:
    """Return why an earlier try cannot be gone on with, given the page where it would."""
    if grown(progress, page) < 0:
        return f"the list lost {-grown(progress, page):,} items since, so others moved to pages that were read"
    return lost_track(progress, page, per_page)


def notes(progress: Progress, limited: bool) -> list[str]:
    """
    Return what a user should know about the completeness of a finished extraction.

    :param progress: The counts.
    :param limited: Whether it ended at a limit, not at the list's end.
    """
    first, last = progress.total_first, progress.total_last
    said = []
    if progress.lost:
        said.append(f"the list lost {progress.lost:,} items while it was read: as many others may be missing here")
    if first is not None and last is not None and last > first:
        said.append(
            f"the list grew from {first:,} to {last:,} items while it was read: newcomers on pages that were read "
            "already are not here"
        )
    if last is not None and progress.came != last and not limited and not said:
        said.append(f"Lago counts {last:,} items and sent {progress.came:,} different ones")
    if said:
        said.append(
            "for a list that stands still, set timestamp_to to a time in the past (events), or extract when nothing "
            "is written"
        )
    return said
