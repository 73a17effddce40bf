"""Answers as POSTs to a webhook, which must never cost the delivery more than some time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from airflow_provider_lago import __version__
from airflow_provider_lago.api.failures import read_failure
from airflow_provider_lago.api.retry import RetryPolicy, wait_after_429
from airflow_provider_lago.api.webhook import Webhook
from airflow_provider_lago.delivery.client import cause_of, tls_context
from airflow_provider_lago.delivery.ledger import Log
from airflow_provider_lago.delivery.responses.posting import Later, Never, Taken, Verdict, judge, judge_failure
from airflow_provider_lago.delivery.responses.response import Response, key_of, with_fields
from airflow_provider_lago.delivery.responses.restraint import Breaker, Patience
from airflow_provider_lago.storage.lines import Lines

#: Answers not forwarded that the log names; the file holds them all.
_NAMED = 5

#: So much of a webhook's own answer is read, to use its connection again; only the status counts.
_READ = 65_536

#: Seconds that the connections get to close.
_CLOSING = 2.0

_ENDED = "the delivery ended before the webhook had taken it; it may have arrived"
_SLOW = "the webhook takes answers too slowly"


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What a webhook may cost.

    :param answers: Answers held in memory at the same time, those under way included.
    :param size: Bytes of them; a single answer that is longer is held alone.
    :param parallel: POSTs at the same time.
    :param policy: Tries of one answer, and the waits between them.
    :param wait: Longest wait of the delivery for room for one answer, in seconds.
    :param patience: Longest wait for room in all, in seconds, beyond as long as the delivery did not wait: a slow
        webhook at most doubles the time of a delivery, plus this.
    :param failures: Answers in a row that no try could bring to the webhook, before no more are tried.
    :param probe_every: Seconds after which one is tried nevertheless.
    :param drain: Longest time for what is left when the delivery is done, in seconds.
    """

    answers: int = 1_000
    size: int = 32 << 20
    parallel: int = 4
    policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(attempts=4, base=0.5, cap=8.0))
    wait: float = 10.0
    patience: float = 30.0
    failures: int = 5
    probe_every: float = 15.0
    drain: float = 30.0


@dataclass(eq=False, slots=True)
class _Letter:
    """
    An answer on its way to the webhook.

    :param where: Which records it is about.
    :param line: What is posted.
    :param probe: Whether it shows if the webhook works again; it is tried once.
    """

    where: str
    line: bytes
    probe: bool = False


class WebhookResponses:
    """
    Posts each answer as JSON to a webhook, beside the delivery. Whatever the webhook does, the delivery goes on.

    **What the webhook gets.** One POST for each answer, in no certain order, with the object that
    :meth:`Response.line` describes. A POST whose own answer is lost is sent again, so one may arrive twice: both have
    the same ``Idempotency-Key`` header, by which the receiver can tell. Any status from 200 to 299 is taken for a
    receipt; redirects are not followed.

    **What it may cost.** A 5xx, 408, 429, timeout or broken connection is tried again (4 times in all, with backoff
    and jitter, or after what ``Retry-After`` says, at most 30 s); any other status is not. Answers wait in a bounded
    queue (1,000 answers, 32 MiB). Where it is full the delivery waits, at most 10 s for an answer, and at most 30 s
    plus as long as it did not wait for all of them. After 5 answers in a row that the webhook could not take at all,
    no more are tried, but for one every 15 s. At the end of the delivery it gets another 30 s. See :class:`Limits`.

    **What does not get there** is counted, the first few are named in the log, and all are kept in a file if one is
    given: the same line with ``reason`` and ``idempotency_key``, so that it can be sent later. A task that is killed
    outright loses what was in the queue: :class:`FileResponses` beside this one has it.

    :param webhook: Where to.
    :param unforwarded: Takes what could not be forwarded; closed by whoever opened it, as that may take its time.
    :param log: The task's log.
    :param limits: Other bounds.
    :raises ValueError: if the CA bundle is unreadable.
    """

    def __init__(
        self,
        webhook: Webhook,
        *,
        unforwarded: Lines | None,
        log: Log,
        limits: Limits | None = None,
    ) -> None:
        self._webhook = webhook
        self._limits = limits = limits or Limits()
        self._log = log
        secure = any((url or "").startswith("https:") for url in (webhook.url, webhook.proxy))
        self._tls = tls_context(webhook.conn_id, webhook.verify) if secure else True
        self._unforwarded = unforwarded
        self._forwarded = self._not_forwarded = self._not_kept = 0
        self._breaker = Breaker(limits.failures, limits.probe_every)
        self._patience = Patience(limits.patience)
        # Every answer taken and not settled: what waits in the queue, and what is being posted.
        self._held: dict[_Letter, None] = {}
        self._held_bytes = 0
        self._queue: asyncio.Queue[_Letter] = asyncio.Queue()
        self._settled = asyncio.Event()
        self._door = asyncio.Lock()  # those who wait for room get it in the order of asking
        self._gave_up = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def put(self, response: Response) -> None:
        """Queue an answer, perhaps after a bounded wait, or count it as not forwarded; never raises by itself."""
        letter = _Letter(response.where, response.line())
        self._patience.start()
        try:
            refusal = await self._admit(letter)
        except asyncio.CancelledError:
            self._keep(letter, _ENDED)
            raise
        if refusal is not None:
            self._keep(letter, refusal)

    async def close(self, within: float | None = None) -> None:
        """
        Forward what is left, as far as time allows.

        :param within: Seconds, where less than the usual time is left; 0 when the task is being killed.
        """
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.drain if within is None else within):
                    while self._held:
                        self._settled.clear()
                        await self._settled.wait()
        finally:
            # Nothing is awaited before the rest is written down: this may be a cancellation, and another may follow.
            for worker in self._workers:
                worker.cancel()
            for letter in list(self._held):
                self._settle(letter, _ENDED)
            self._log_end()
            await self._close_session()

    def summary(self) -> dict[str, Any]:
        """Return what became of the answers; of the webhook's address only what may be shown."""
        summary: dict[str, Any] = {
            "webhook": self._webhook.origin,
            "forwarded": self._forwarded,
            "not_forwarded": self._not_forwarded,
        }
        if self._unforwarded is not None:
            summary["unforwarded"] = str(self._unforwarded)
        return summary

    async def _admit(self, letter: _Letter) -> str | None:
        """Queue an answer, or return why not."""
        if self._closed:
            return _ENDED
        if self._breaker.open:
            letter.probe = self._breaker.take_probe()
        elif self._door.locked() or not self._has_room(letter):
            refusal = await self._wait_for_room(letter)
            if refusal is not None:
                return refusal
        if self._breaker.open and not (letter.probe and self._has_room(letter)):
            return "the webhook did not take the answers before it"
        self._held[letter] = None
        self._held_bytes += len(letter.line)
        self._queue.put_nowait(letter)
        self._start()
        return None

    def _has_room(self, letter: _Letter) -> bool:
        held = len(self._held)
        return not held or (held < self._limits.answers and self._held_bytes + len(letter.line) <= self._limits.size)

    async def _wait_for_room(self, letter: _Letter) -> str | None:
        seconds = min(self._limits.wait, self._patience.left())
        if seconds <= 0:
            return _SLOW
        self._patience.begin()
        try:
            async with asyncio.timeout(seconds), self._door:
                while not self._has_room(letter) and not self._breaker.open and not self._closed:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            return _SLOW
        finally:
            self._patience.end()
        return _ENDED if self._closed else None

    def _start(self) -> None:
        if self._session is not None:
            return
        webhook = self._webhook
        given = {name.lower() for name in webhook.headers}
        ours = {"Content-Type": "application/json", "User-Agent": f"airflow-provider-lago/{__version__}"}
        headers = {name: value for name, value in ours.items() if name.lower() not in given} | dict(webhook.headers)
        if webhook.auth is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(':'.join(webhook.auth).encode()).decode()}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=self._limits.parallel, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=webhook.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=webhook.proxy,
            auto_decompress=False,  # nobody looks at the body, and a compressed kilobyte may hold a gigabyte
        )
        self._workers = [asyncio.create_task(self._work(self._session)) for _ in range(self._limits.parallel)]

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            letter = await self._queue.get()
            try:
                refusal = await self._forward(session, letter)
            except Exception as error:  # noqa: BLE001 - a webhook never fails the delivery, whatever it is
                refusal = f"unexpected {type(error).__name__}"
            self._settle(letter, refusal)

    async def _forward(self, session: aiohttp.ClientSession, letter: _Letter) -> str | None:
        """Try until the webhook has taken an answer; return why it has not."""
        policy = self._limits.policy
        attempts = 1 if letter.probe else policy.attempts
        reason = "the webhook did not take the answers before it"
        for tries in range(1, attempts + 1):
            if self._breaker.open and not letter.probe:
                return reason
            match await self._post(session, letter):
                case Taken():
                    self._note_alive()
                    return None
                case Never(reason, others_too):
                    if others_too:
                        self._note_failure(reason)
                    else:
                        self._note_alive()
                    return reason
                case Later(reason, asked):
                    if tries < attempts:
                        await self._nap(wait_after_429(asked, tries, policy))
        self._note_failure(reason)
        return f"{reason}, {attempts} tries" if attempts > 1 else reason

    async def _post(self, session: aiohttp.ClientSession, letter: _Letter) -> Verdict:
        # The exceptions are not shown: they hold the URL.
        try:
            headers = {"Idempotency-Key": key_of(letter.line)}
            async with session.post(
                self._webhook.url, data=letter.line, headers=headers, allow_redirects=False
            ) as answer:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    await answer.content.read(_READ)
                return judge(answer.status, answer.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            webhook = self._webhook
            failure = read_failure(error, origin=webhook.origin, conn_id=webhook.conn_id, otherwise=cause_of(error))
            return judge_failure(failure.cause)

    async def _nap(self, seconds: float) -> None:
        """Wait, but no longer than there is hope."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gave_up.wait()

    def _note_alive(self) -> None:
        if self._breaker.open:
            self._log.info("The webhook %s takes answers again", self._webhook.origin)
        self._breaker.note_alive()
        self._gave_up.clear()

    def _note_failure(self, reason: str) -> None:
        if not self._breaker.note_failure():
            return
        self._gave_up.set()
        self._settled.set()  # those who wait for room need not
        self._log.warning(
            "The webhook %s (connection %r) took none of %d answers in a row: %s. The delivery goes on; no more "
            "answers are forwarded, but the webhook is tried again every %g s",
            self._webhook.origin,
            self._webhook.conn_id,
            self._limits.failures,
            reason,
            self._limits.probe_every,
        )

    def _settle(self, letter: _Letter, refusal: str | None) -> None:
        if letter not in self._held:
            return
        del self._held[letter]
        self._held_bytes -= len(letter.line)
        self._settled.set()
        if refusal is None:
            self._forwarded += 1
        else:
            self._keep(letter, refusal)

    def _keep(self, letter: _Letter, reason: str) -> None:
        """Count an answer that was not forwarded, write it down, and name it while there are few."""
        self._not_forwarded += 1
        if self._not_forwarded <= _NAMED:
            more = "" if self._not_forwarded < _NAMED else ". Further ones are counted, and not named here"
            self._log.warning(
                "The answer for %s was not forwarded to %s: %s%s", letter.where, self._webhook.origin, reason, more
            )
        if self._unforwarded is None:
            return
        try:
            self._unforwarded.write(
                with_fields(letter.line, reason=reason, idempotency_key=key_of(letter.line)) + b"\n"
            )
        except (OSError, ValueError) as error:  # a full disk; a file that is closed already
            self._not_kept += 1
            if self._not_kept == 1:
                self._log.warning(
                    "%s cannot be written (%s): answers that are not forwarded are only counted",
                    self._unforwarded,
                    type(error).__name__,
                )

    def _log_end(self) -> None:
        if not self._not_forwarded:
            return
        where = "" if self._unforwarded is None else f"; they are in {self._unforwarded}"
        if self._not_kept:
            where += f", but for {self._not_kept} that could not be written"
        self._log.warning(
            "%d of %d answers were not forwarded to %s (connection %r)%s",
            self._not_forwarded,
            self._not_forwarded + self._forwarded,
            self._webhook.origin,
            self._webhook.conn_id,
            where,
        )

    async def _close_session(self) -> None:
        if self._session is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                await asyncio.gather(*self._workers, return_exceptions=True)
                await self._session.close()
