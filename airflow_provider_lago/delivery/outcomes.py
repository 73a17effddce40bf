"""What became of a record, and what an answer means that is about no record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """Each record ends with exactly one of these."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Settled:
    """
    The outcome of a record, with its evidence.

    :param outcome: Which.
    :param kind: What exactly was done, such as ``created``; one of the plan's kinds where it is accepted.
    :param reason: Why it was rejected or skipped, without values, to be counted.
    :param detail: What was found and what to do.
    :param code: Lago's error code, or the HTTP status as text.
    :param lago_id: Lago's own id of the object.
    :param facts: What a receipt tells beyond that, such as a subscription's status.
    """

    outcome: Outcome
    kind: str = ""
    reason: str = ""
    detail: str = ""
    code: str | None = None
    lago_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Why Lago refuses a record.

    :param reason: Lago's words without values, to be counted.
    :param code: Lago's error code, or the HTTP status as text.
    """

    reason: str
    code: str


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Too many requests. Nothing was executed; the pace has read the answer already."""


@dataclass(frozen=True, slots=True)
class Stop:
    """
    Nothing can be delivered; nothing is dropped.

    :param why: In words, with what to do.
    :param final: Whether somebody has to change something first.
    """

    why: str
    final: bool = True
