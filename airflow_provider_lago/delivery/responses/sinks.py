"""What takes answers: none, or several at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from airflow_provider_lago.delivery.responses.response import Response


class Responses(Protocol):
    """Takes Lago's answers. All methods are called in one event loop."""

    async def put(self, response: Response) -> None:
        """
        Take an answer.

        :raises OSError: if it cannot be written to a file. Nothing else is raised: the delivery matters more.
        """

    async def close(self, within: float | None = None) -> None:
        """
        Bring what is under way to its end.

        :param within: Seconds, where less than the usual (bounded) time is left; 0 when the task is being killed.
        """

    def summary(self) -> dict[str, Any]:
        """Return what became of the answers."""


class NoResponses:
    """For deliveries whose answers nobody wants."""

    async def put(self, response: Response) -> None:
        """Keep nothing."""

    async def close(self, within: float | None = None) -> None:
        """Nothing is under way."""

    def summary(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


class AllResponses:
    """
    Gives each answer to several takers, one after the other.

    :param takers: Put the file first: what cannot be written down stops the delivery before it is posted.
    """

    def __init__(self, takers: Sequence[Responses]) -> None:
        self._takers = list(takers)

    async def put(self, response: Response) -> None:
        """Give an answer to all."""
        for taker in self._takers:
            await taker.put(response)

    async def close(self, within: float | None = None) -> None:
        """Close all, also if one of them fails; the first failure is raised."""
        failed: BaseException | None = None
        for taker in self._takers:
            try:
                await taker.close(within)
            except BaseException as error:  # noqa: BLE001 - raised below
                failed = failed or error
        if failed is not None:
            raise failed

    def summary(self) -> dict[str, Any]:
        """Return what all of them say."""
        return {name: value for taker in self._takers for name, value in taker.summary().items()}
