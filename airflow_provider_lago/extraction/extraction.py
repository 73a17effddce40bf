"""One extraction: pages in, parts out, and a manifest that a retry goes on with."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_provider_lago.extraction.items import RecentIds, head_of, line_of
from airflow_provider_lago.extraction.manifest import (
    MANIFEST,
    FolderInUse,
    Manifest,
    State,
    check_owner,
    fingerprint,
    is_stale,
    now,
    part_name,
    read_manifest,
    to_go_on_with,
)
from airflow_provider_lago.extraction.progress import (
    REMEMBERED,
    Page,
    Progress,
    cannot_resume,
    grown,
    lost_track,
    notes,
)
from airflow_provider_lago.extraction.window import Window
from airflow_provider_lago.storage.folders import Folder

#: Bytes after which a part ends, however few pages it has: items of some lists are large, a worker's memory is not.
LARGEST_PART = 32 * 1024 * 1024

#: Airflow's loggers of 2.11 and 3 have no type in common.
Log = Any
Reader = Callable[[int], Iterator[Page]]


class Stopped(RuntimeError):
    """The extraction was stopped from outside before its end."""


class ListMoved(RuntimeError):
    """The list changed so much between two pages that they cannot be joined."""


class TakenOver(FolderInUse):
    """Another run writes into the same folder."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What is extracted.

    :param origin: Root of the API.
    :param endpoint: The list.
    :param collection: Key of the list in an answer, or None.
    :param query: Query pairs besides the page's, the window's included.
    :param window: Which times belong to it.
    :param per_page: Items a page.
    :param pages_per_part: Pages a part.
    :param limit: Most items; 0 for all.
    """

    origin: str
    endpoint: str
    collection: str | None
    query: tuple[tuple[str, str], ...]
    window: Window
    per_page: int
    pages_per_part: int
    limit: int

    @property
    def fingerprint(self) -> str:
        """What two tries must have in common to write one extraction."""
        return fingerprint(
            origin=self.origin,
            endpoint=self.endpoint,
            collection=self.collection,
            query=self.query,
            per_page=self.per_page,
            limit=self.limit,
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """Where an extraction is, with what it read and has not written. Never half changed: see ``_take``."""

    progress: Progress
    chunks: tuple[bytes, ...] = ()
    pages: int = 0
    size: int = 0


@dataclass(slots=True)
class Extraction:
    """
    Reads a list into a folder. Use it once.

    :param plan: What is extracted.
    :param folder: Where the parts go.
    :param read: Gives the pages from a number on.
    :param run: The task instance.
    :param log: Where it says how it goes.
    """

    plan: Plan
    folder: Folder
    read: Reader
    run: Mapping[str, Any]
    log: Log
    resumed_at: int | None = None
    _held: _Held = field(default_factory=lambda: _Held(Progress()))
    _seen: RecentIds = field(default_factory=lambda: RecentIds(REMEMBERED))
    _claim: str = field(default_factory=lambda: uuid.uuid4().hex)
    _began: float = field(default_factory=time.monotonic)
    _stopping: bool = False

    @property
    def progress(self) -> Progress:
        """How far it came."""
        return self._held.progress

    def stop(self) -> None:
        """End it behind the page that is read at present; safe in a signal handler."""
        self._stopping = True

    def extract(self) -> dict[str, Any]:
        """
        Read the list to its end and return the summary.

        What ends it early leaves everything that was read in the folder, for a retry to go on behind it.

        :raises FolderInUse: if the folder holds what this task did not write.
        :raises NoTimestamp: if there is a window and the items have no time.
        :raises OutsideWindow: if Lago ignores the window.
        :raises ListMoved: if the list grew too much between two pages.
        :raises TakenOver: if another run began to write into the folder.
        :raises Stopped: if :meth:`stop` ended it.
        """
        pages = self._begin()
        try:
            for page in pages:
                self._take(page)
                held = self._held
                if held.progress.next_page is None:
                    break
                if held.pages >= self.plan.pages_per_part or held.size >= LARGEST_PART:
                    self._write("running")
                if self._stopping:
                    raise Stopped(f"ended by Airflow behind page {page.number}")
            self._write("finished")
        except TakenOver:
            raise
        except BaseException:
            self._save()
            raise
        return self._summary()

    def _begin(self) -> Iterator[Page]:
        """Decide where to begin, ask for the first page, and only then change the folder."""
        earlier = read_manifest(self.folder.read(MANIFEST), str(self.folder))
        check_owner(earlier, self.run, self.folder.names(), str(self.folder))
        progress, pages = self._go_on(to_go_on_with(earlier, self.plan.fingerprint, self.run))
        if pages is None:
            progress, pages = Progress(), _begun(self.read(1))
        self._held = _Held(progress)
        # In this order: a try that ends between the two leaves a manifest that does not count the stale parts.
        self._write_manifest("running", progress)
        for name in self.folder.names():
            if is_stale(name, progress.parts):
                self.folder.remove(name)
        return pages

    def _go_on(self, progress: Progress | None) -> tuple[Progress, Iterator[Page] | None]:
        """Return how far an earlier try came and the pages behind; no pages if it cannot be gone on with."""
        if progress is None:
            return Progress(), None
        pages: Iterator[Page] = iter(())
        if progress.next_page is not None:
            pages = self.read(progress.next_page)
            page = next(pages)
            pages = itertools.chain((page,), pages)
            why_not = cannot_resume(progress, page, self.plan.per_page)
            if why_not is not None:
                self.log.warning("An earlier try read %d pages, but %s: starting anew", progress.pages, why_not)
                return Progress(), None
        self.resumed_at = progress.next_page
        self._recall(progress.parts)
        self.log.info(
            "Going on with page %s: an earlier try has read %d pages with %d items into %d parts",
            progress.next_page,
            progress.pages,
            progress.items,
            progress.parts,
        )
        return progress, pages

    def _recall(self, parts: int) -> None:
        """Remember the last ids that earlier tries wrote."""
        recent: list[list[bytes]] = []
        for number in range(parts, 0, -1):
            recent.insert(0, (self.folder.read(part_name(number)) or b"").splitlines())
            if sum(map(len, recent)) >= REMEMBERED:
                break
        self._seen.recall(itertools.chain.from_iterable(recent))

    def _take(self, page: Page) -> None:
        """Add a page to what is held, in one step: a timeout may raise between any two."""
        plan, held, before = self.plan, self._held, self._held.progress
        moved = lost_track(before, page, plan.per_page)
        if moved is not None:
            raise ListMoved(f"page {page.number} cannot be joined to those before: {moved}")
        chunk, counts = _lines(page.items, plan, self._seen, plan.limit - before.items if plan.limit else None)
        change = grown(before, page)
        progress = msgspec.structs.replace(
            before,
            pages=before.pages + 1,
            next_page=None if plan.limit and before.items + counts.items >= plan.limit else page.following,
            items=before.items + counts.items,
            duplicates_dropped=before.duplicates_dropped + counts.again,
            at_end_dropped=before.at_end_dropped + counts.at_end,
            total_first=page.total_count if before.total_first is None else before.total_first,
            total_last=page.total_count,
            lost=before.lost + max(0, -change),
            behind=max(0, before.behind + max(0, change) - len(page.items)),
        )
        chunks = (*held.chunks, chunk) if chunk else held.chunks
        self._held = _Held(progress, chunks, held.pages + 1, held.size + len(chunk))

    def _write(self, state: State) -> None:
        """Write what is held as a part, then the manifest that counts it."""
        held, progress = self._held, self._held.progress
        self._check_claim()
        if held.chunks:
            progress = msgspec.structs.replace(progress, parts=progress.parts + 1)
            self.folder.write(part_name(progress.parts), held.chunks)
        self._write_manifest(state, progress)
        self._held = _Held(progress)
        self.log.info(
            "%d pages, %d items in %d parts; Lago counts %s",
            progress.pages,
            progress.items,
            progress.parts,
            "?" if progress.total_last is None else progress.total_last,
        )

    def _write_manifest(self, state: State, progress: Progress) -> None:
        plan = self.plan
        manifest = Manifest(
            state=state,
            fingerprint=plan.fingerprint,
            claim=self._claim,
            endpoint=plan.endpoint,
            origin=plan.origin,
            query=plan.window.query(),
            progress=progress,
            run=dict(self.run),
            updated=now(),
        )
        self.folder.write(MANIFEST, [manifest.encoded()])

    def _check_claim(self) -> None:
        present = read_manifest(self.folder.read(MANIFEST), str(self.folder))
        if present is None or present.claim != self._claim:
            run = present.run.get("run_id") if present is not None else None
            raise TakenOver(
                f"run {run!r} began to write into {str(self.folder)!r} meanwhile: give each run a folder of its own, "
                "such as '.../{{ run_id }}', or set max_active_runs=1"
            )

    def _save(self) -> None:
        """Keep what was read; what ended the extraction must not be hidden by what this runs into."""
        if not self._held.pages:
            return
        try:
            self._write("running")
        except Exception as trouble:  # noqa: BLE001 - stores raise what they like
            self.log.warning("What was read since part %d is lost: %s", self.progress.parts, trouble)

    def _summary(self) -> dict[str, Any]:
        progress = self.progress
        limited = bool(self.plan.limit) and progress.items >= self.plan.limit
        said = notes(progress, limited)
        for note in said:
            self.log.warning("%s", note)
        return {
            "items": progress.items,
            "pages": progress.pages,
            "parts": progress.parts,
            "duplicates_dropped": progress.duplicates_dropped,
            "at_end_dropped": progress.at_end_dropped,
            "total_count": {"first": progress.total_first, "last": progress.total_last},
            "notes": said,
            "resumed_at_page": self.resumed_at,
            "seconds": round(time.monotonic() - self._began, 3),
            "timestamp_from": self.plan.window.query().get("timestamp_from"),
            "timestamp_to": self.plan.window.query().get("timestamp_to"),
        }


def _begun(pages: Iterator[Page]) -> Iterator[Page]:
    """Return the same pages when the first of them has come."""
    return itertools.chain((next(pages),), pages)


@dataclass(slots=True)
class _Counts:
    items: int = 0
    again: int = 0
    at_end: int = 0


def _lines(items: list[msgspec.Raw], plan: Plan, seen: RecentIds, most: int | None) -> tuple[bytes, _Counts]:
    """Return the lines of a page's items, but of those that came before or do not belong to the window."""
    counts, lines = _Counts(), list[bytes]()
    for item in items:
        if most is not None and counts.items >= most:
            break
        line = line_of(item)
        head = head_of(line)
        if not seen.is_new(head.lago_id):
            counts.again += 1
        elif not plan.window.takes(head.timestamp):
            counts.at_end += 1
        else:
            counts.items += 1
            lines.append(line + b"\n")
    return b"".join(lines), counts
