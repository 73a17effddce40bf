"""What every way of delivering has: one pace, one end for all that is in flight, and an eye on the server's health."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic

from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.pace import Pace
from airflow_provider_lago.delivery.plan import Plan, Unit
from airflow_provider_lago.delivery.responses import NoResponses, Response, Responses
from airflow_provider_lago.delivery.transport import Transport

#: Seconds of nothing but 429 after which a delivery ends, to be retried by Airflow later.
_PATIENCE = 900.0


@dataclass(frozen=True, slots=True)
class Halt:
    """
    Why a delivery ended before its source did.

    :param why: In words, with what to do.
    :param final: Whether trying again is useless before somebody changes something.
    :param unproven: Whether nothing showed if the server is at fault or the one record that it failed for.
    """

    why: str
    final: bool
    unproven: bool = False


class Courier(ABC, Generic[Unit]):
    """
    Delivers units over a transport; several coroutines may call it at the same time.

    :param plan: Address, form and pace of the requests.
    :param transport: Where requests go.
    :param ledger: Where outcomes are written down.
    :param responses: Where Lago's answers go.

    To tell a bad record from a bad hour of the server, it keeps how many requests were answered (``_healthy``) and
    when the latest of them was sent (``_healthy_since``).
    """

    def __init__(self, plan: Plan[Unit], transport: Transport, ledger: Ledger, responses: Responses) -> None:
        self.halt: Halt | None = None
        self._policy = plan.policy
        self._conn_id = plan.settings.conn_id
        self._transport = transport
        self._ledger = ledger
        self._responses = responses
        self._forwards = not isinstance(responses, NoResponses)
        self._halted = asyncio.Event()
        self._pace = Pace(plan.requests_per_second, plan.policy)
        self._healthy = 0
        self._healthy_since = time.monotonic()
        self._doubts = 0
        self._throttled_since: float | None = None

    @abstractmethod
    async def deliver(self, unit: Unit) -> None:
        """Send a unit until every record of it is settled, or the delivery is halted."""

    @abstractmethod
    async def deliver_parked(self) -> None:
        """Try again what a working server could not take, now that all others are delivered."""

    async def _hand_on(self, response: Response) -> None:
        """Give away an answer; end the delivery where it cannot be written down."""
        try:
            await self._responses.put(response)
        except OSError as error:
            self.stop(Halt(f"Lago's answers cannot be written: {error.strerror or error}", final=False))

    def _note_health(self, started: float) -> None:
        self._healthy += 1
        self._healthy_since = max(self._healthy_since, started)
        self._doubts = 0
        self._throttled_since = None

    def _note_429(self) -> None:
        """End the delivery where there has been nothing else for long; the pace has slowed it down already."""
        now = time.monotonic()
        self._throttled_since = self._throttled_since or now
        if now - self._throttled_since > _PATIENCE:
            self.stop(Halt(f"nothing but 'too many requests' (HTTP 429) for {_PATIENCE:g} s", final=False))

    def stop(self, halt: Halt) -> None:
        """End the delivery; what is in flight is settled."""
        if self.halt is None:
            self.halt = halt
            self._halted.set()
            self._pace.end()

    async def _sleep(self, seconds: float) -> bool:
        """Wait, but not longer than the delivery runs; tell whether it goes on."""
        try:
            await asyncio.wait_for(self._halted.wait(), seconds)
        except TimeoutError:
            return True
        return False
