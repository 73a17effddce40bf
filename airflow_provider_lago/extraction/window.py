"""The time window of an extraction: what is asked of Lago, and whether Lago kept to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any


class OutsideWindow(Exception):
    """Lago sent an item that the window excludes, so it does not know the filters."""


class NoTimestamp(ValueError):
    """The items of this list have no time of their own that could be compared with a window."""


@dataclass(frozen=True, slots=True)
class Window:
    """
    From a time on, up to a time that is not part of it any more, so that windows that touch share no item.

    Both bounds are cut to milliseconds, because that is how exactly Lago shows times.

    :param start: First moment, or None.
    :param end: First moment behind, or None.
    """

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def of(cls, start: Any, end: Any) -> Window:
        """
        Read both bounds; None and empty texts are no bound.

        :raises ValueError: if one is not a time, or the window holds no time.
        """
        window = cls(_read("timestamp_from", start), _read("timestamp_to", end))
        if window.start is not None and window.end is not None and window.start >= window.end:
            raise ValueError(
                f"no time lies from {iso(window.start)} to before {iso(window.end)}: timestamp_to must be after "
                "timestamp_from (a run without a schedule has a data interval without duration)"
            )
        return window

    def query(self) -> dict[str, str]:
        """Return the query values."""
        bounds = (("timestamp_from", self.start), ("timestamp_to", self.end))
        return {name: iso(bound) for name, bound in bounds if bound is not None}

    def takes(self, timestamp: Any) -> bool:
        """
        Tell whether an item belongs here; one at the very end, which Lago's filter includes, belongs to the next.

        :param timestamp: The item's time as Lago wrote it.
        :raises NoTimestamp: if it is no time.
        :raises OutsideWindow: if no Lago that knows the filters would have sent it.
        """
        if self.start is None and self.end is None:
            return True
        try:
            moment = _aware(datetime.fromisoformat(timestamp))
        except (TypeError, ValueError):
            raise NoTimestamp(
                "the items of this list have no timestamp, so nothing tells whether Lago keeps to timestamp_from and "
                "timestamp_to, and it ignores filters that it does not know: give the list's own filters in filters="
            ) from None
        # Shown without a fraction, a time may have lost one.
        start = self.start if self.start is None or "." in timestamp else self.start.replace(microsecond=0)
        if (start is not None and moment < start) or (self.end is not None and moment > self.end):
            raise OutsideWindow(
                f"Lago sent an item of {timestamp}, outside of {self}: this Lago does not know the filters "
                f"{', '.join(self.query())} and ignores them; upgrade it, or extract without them and choose by "
                "timestamp afterwards"
            )
        return moment != self.end

    def __str__(self) -> str:
        return f"[{iso(self.start) if self.start else '...'}, {iso(self.end) if self.end else '...'})"


def iso(moment: datetime) -> str:
    """Return a time as Lago's filters take it."""
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds").replace("+00:00", "Z")


def _read(name: str, value: Any) -> datetime | None:
    moment = value
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text) if text[4:5] == "-" else None
        except ValueError:
            moment = None
    elif value is None:
        return None
    elif isinstance(value, date) and not isinstance(value, datetime):
        moment = datetime.combine(value, time())
    if not isinstance(moment, datetime):
        raise ValueError(f"{name} must be a datetime or ISO 8601 text such as '2026-11-02T00:00:00Z', not {value!r}")
    moment = _aware(moment)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _aware(moment: datetime) -> datetime:
    """Return the UTC time of a datetime; one without a zone is taken as UTC."""
    if moment.utcoffset() is None:
        moment = moment.replace(tzinfo=UTC)
    moment = moment.astimezone(UTC)
    # pendulum's own class would write its ISO texts another way.
    return datetime.combine(moment.date(), moment.time(), UTC)
