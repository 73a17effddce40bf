"""stub until merged"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Response:
    records: Sequence[tuple[int, str | None]]
    method: str
    path: str
    status: int
    request_id: str | None
    body: bytes


class Responses(Protocol):
    async def put(self, response: Response) -> None: ...
    async def close(self) -> None: ...
    def summary(self) -> dict[str, Any]: ...


class NoResponses:
    async def put(self, response: Response) -> None: ...
    async def close(self) -> None: ...
    def summary(self) -> dict[str, Any]:
        return {}
