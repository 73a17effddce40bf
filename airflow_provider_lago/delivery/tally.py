"""What became of the records, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_lago.delivery.outcomes import Outcome

#: Distinct reasons that a summary lists; a delivery that finds more has one cause with many texts.
_MOST_REASONS = 50
_OTHER = "other reasons"


class UnbalancedError(RuntimeError):
    """The counts of a delivery do not add up: a fault in this package, never in the data."""


@dataclass(slots=True)
class Tally:
    """
    Counts of one delivery. Each record that was read gets exactly one outcome.

    :param read: Records read from the source.
    :param accepted: Stored by Lago in this delivery.
    :param duplicate: Already in Lago, or said twice by the source.
    :param rejected: Not deliverable, each for a reason of its own.
    :param skipped: Left out: by the user's transform, or because Lago holds them as they are.
    :param requests: HTTP requests sent.
    :param reasons: Reason -> number of rejected records.
    :param kinds: What exactly was done -> number of accepted records; empty where there is only one way.
    """

    read: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    skipped: int = 0
    requests: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_kinds(cls, kinds: Iterable[str]) -> Tally:
        """Return a tally that splits the accepted records."""
        return cls(kinds=dict.fromkeys(kinds, 0))

    @classmethod
    def restored(cls, kinds: Iterable[str], counts: Mapping[str, Any]) -> Tally:
        """
        Return the counts of an earlier try.

        :param kinds: The plan's kinds.
        :param counts: What :meth:`as_dict` returned.
        """
        tally = cls.of_kinds(kinds)
        for name in ("read", "accepted", "duplicate", "rejected", "skipped", "requests"):
            setattr(tally, name, counts[name])
        tally.kinds = {kind: counts[kind] for kind in tally.kinds}
        tally.reasons.update(counts["reasons"])
        return tally

    @property
    def settled(self) -> int:
        """Records that have an outcome."""
        return self.accepted + self.duplicate + self.rejected + self.skipped

    def count(self, outcome: Outcome, kind: str = "", records: int = 1) -> None:
        """Count records of any outcome but rejected."""
        match outcome:
            case Outcome.ACCEPTED:
                self.accepted += records
                if kind:
                    self.kinds[kind] += records
            case Outcome.DUPLICATE:
                self.duplicate += records
            case Outcome.SKIPPED:
                self.skipped += records
            case Outcome.REJECTED:
                raise ValueError("a rejected record has a reason: use reject")

    def reject(self, reason: str) -> None:
        """Count a rejected record under its reason."""
        self.rejected += 1
        known = reason in self.reasons or len(self.reasons) < _MOST_REASONS
        self.reasons[reason if known else _OTHER] += 1

    def check(self) -> None:
        """
        Check that every record that was read has exactly one outcome.

        :raises UnbalancedError: if not.
        """
        sums = [(self.settled, self.read), (sum(self.reasons.values()), self.rejected)]
        if self.kinds:
            sums.append((sum(self.kinds.values()), self.accepted))
        if any(parts != whole for parts, whole in sums):
            raise UnbalancedError(f"the counts do not add up, please report this: {self}")

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        return {
            "read": self.read,
            "accepted": self.accepted,
            **self.kinds,
            "duplicate": self.duplicate,
            "rejected": self.rejected,
            "skipped": self.skipped,
            "requests": self.requests,
            "reasons": dict(self.reasons.most_common()),
        }
