"""Keeps a checkpoint and the evidence safe while a delivery runs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from dataclasses import dataclass

from airflow_provider_lago.delivery.checkpoint import Checkpoint, Checkpoints
from airflow_provider_lago.delivery.ledger import Ledger, Log
from airflow_provider_lago.delivery.report import EvidenceError, Report
from airflow_provider_lago.sources.rows import Source

#: Ranges of settled records beyond the beginning that a checkpoint has room for: Airflow 3.3 warns of values of 64 KiB.
_MOST_RANGES = 4_000

#: Failures in a row of writing down evidence, each after the retries of the store's own library.
_MOST_FAILURES = 3

#: Seconds to rest where nothing has changed.
_NOTHING_NEW = 0.05

#: Bytes of evidence that may wait in memory for a store that is slow to take them.
_MOST_HELD = 32 << 20


@dataclass(frozen=True, slots=True)
class Rhythm:
    """
    How often a checkpoint is kept.

    :param records: Records after which it is due.
    :param seconds: Seconds after which it is due, if anything has changed.
    :param ahead: Records that may be sent beyond the last checkpoint: together with those in flight at that moment,
        what a retry sends again at most.
    """

    records: int = 2_500
    seconds: float = 3.0
    ahead: int = 3_500


#: Where evidence and checkpoint take a request over the network each.
REMOTE = Rhythm(records=50_000, seconds=5.0, ahead=100_000)


class Keeper:
    """
    Saves from a thread of its own: places to save are slow, and Airflow interrupts the task's own thread at any time.

    :param ledger: Knows which records are settled, and how many of which outcome.
    :param source: Knows where to begin after a position.
    :param report: Whose evidence is made safe before a checkpoint vouches for it.
    :param log: The task's log.
    :param checkpoints: Where the checkpoint goes; None where only evidence is to be kept.
    :param fingerprint: Of the delivery.
    :param life: What Airflow changes when a person clears the task.
    :param found: The checkpoint that is gone on with, if there is one.
    :param rhythm: How often.
    """

    def __init__(
        self,
        ledger: Ledger,
        source: Source,
        report: Report,
        log: Log,
        *,
        checkpoints: Checkpoints | None,
        fingerprint: str,
        life: int | None,
        found: Checkpoint | None,
        rhythm: Rhythm,
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._report = report
        self._log = log
        self._checkpoints = checkpoints
        self._fingerprint = fingerprint
        self._life = life
        self._seconds = found.seconds if found is not None else 0.0
        self._sent_to = found.sent_to if found is not None else 0
        self._rhythm = rhythm
        #: Why evidence cannot be kept; the delivery must end.
        self.trouble: Exception | None = None
        # A checkpoint covers what is sent up to so far beyond it; without one nothing is sent.
        self._saved = (found.sent_to if found is not None else 0) - rhythm.ahead
        self._state = (-1, -1, -1)
        self._started = time.monotonic()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._last = False
        self._failures = 0
        self._room: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_lame = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="lago-keeper", daemon=True)

    def begin(self) -> None:
        """Begin to save; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._thread.start()

    async def room(self) -> None:
        """
        Wait until what was read may be sent: not too far ahead of the last checkpoint, nor of the evidence kept.

        :raises EvidenceError: if evidence cannot be kept.
        """
        read = self._ledger.tally.read
        while self._room is not None and self._is_due(read):
            self._wake.set()
            if self.trouble is not None or not self._is_full(read):
                break
            self._room.clear()
            if self._is_full(read):  # it may have been saved just before
                await self._room.wait()
        if self.trouble is not None:
            raise EvidenceError(f"the report cannot be kept: {self.trouble}") from self.trouble

    def end(self, within: float, *, save: bool) -> None:
        """
        End. Returns when it is done, or takes too long.

        :param within: Seconds to wait.
        :param save: Whether to save a last time.
        """
        if self._thread.ident is None:
            return
        self._last = save
        self._ended.set()
        self._wake.set()
        self._thread.join(within)

    def _is_due(self, read: int) -> bool:
        return read - self._saved >= self._rhythm.records or self._report.held >= _MOST_HELD // 2

    def _is_full(self, read: int) -> bool:
        is_ahead = read - self._saved > self._rhythm.ahead and not self._is_lame
        return is_ahead or self._report.held >= _MOST_HELD

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(self._rhythm.seconds)
            self._wake.clear()
            if self._ended.is_set():
                break
            rest = self._try_to_save()
            if self._loop is not None and self._room is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._room.set)
            self._ended.wait(rest)
        if self._last:
            self._try_to_save()

    def _try_to_save(self) -> float:
        try:
            return self._save()
        except Exception as error:  # noqa: BLE001 - whatever the place raises, a delivery is right without a checkpoint
            if not self._is_lame:
                self._log.warning(
                    "The checkpoint cannot be saved (%s: %s). The delivery goes on; a retry would go on from the last "
                    "one that was saved",
                    type(error).__name__,
                    error,
                )
            self._is_lame = True
            return self._rhythm.seconds

    def _save(self) -> float:
        """Save, and return the seconds to rest before the next time."""
        read = self._ledger.tally.read
        with self._ledger.still() as agree:
            tally, progress = self._ledger.tally, self._ledger.progress
            state = (tally.settled, read, tally.requests)
            if state == self._state:
                return _NOTHING_NEW
            evidence = self._report.seal()
            is_sound = agree and progress.ranges <= _MOST_RANGES
            if is_sound:
                settled, upto, counts = progress.compact(), progress.upto, tally.as_dict()
        try:
            self._report.keep()
        except Exception as error:  # noqa: BLE001 - whatever it is, reading must not wait for this thread for ever
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                self.trouble = error
            return 1.0
        self._failures = 0
        if not is_sound:
            self._state, self._saved = state, read  # nobody has to wait for what cannot be saved
            return _NOTHING_NEW
        checkpoint = Checkpoint(
            fingerprint=self._fingerprint,
            life=self._life,
            start=self._source.start_after(upto),
            settled=settled,
            # Records that are read are no fewer than the position of the last of them.
            sent_to=max(self._sent_to, read if self._ended.is_set() else read + self._rhythm.ahead),
            counts={**counts, "read": state[0]},
            seconds=round(self._seconds + time.monotonic() - self._started, 3),
            evidence=evidence,
        )
        if self._checkpoints is not None:
            self._checkpoints.save(checkpoint.stored())
        self._is_lame = False
        self._state, self._saved = state, read
        return 0.0
