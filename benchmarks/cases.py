"""What is measured, and what must be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

LATENCIES = (0, 10, 50, 200)
IN_FLIGHT = (1, 16, 64)
FORMATS = ("csv", "parquet", "gzip", "mapped")

MILLION = 1_000_000
OFFICIAL = "lago-python-client"

#: Longest that a run is to take, in seconds: where latency allows few requests, fewer events tell as much.
_LONGEST = 35

#: Events of the peers, which take 5 to 200 times as long.
_SHARES = {OFFICIAL: 10_000, "HttpHook": 100_000, "requests": 200_000}


@dataclass(frozen=True)
class Case:
    """
    One thing to measure.

    :param client: Who sends.
    :param latency: Milliseconds before the server answers.
    :param in_flight: Requests at the same time.
    :param source: What is read.
    :param events: How many.
    :param warm: Whether everything is imported before the clock starts; not where memory is looked at.
    """

    client: str = "provider"
    latency: int = 0
    in_flight: int = 16
    source: str = "jsonl"
    events: int = MILLION
    warm: bool = True

    @property
    def name(self) -> str:
        """The case in one word, for ``--only`` and for the rows that are kept."""
        parts = [self.client, self.source, f"{self.latency}ms", str(self.in_flight)]
        if self.events:
            parts.append(f"{self.events // 1000}k" if self.events < MILLION else f"{self.events // MILLION}m")
        return "-".join(parts if self.warm else [*parts, "cold"])

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}


def _bounded(case: Case) -> Case:
    """Return the case with no more events than its latency lets through in the time there is."""
    most = case.events
    if case.latency:
        most = min(most, int(_LONGEST * case.in_flight * 100_000 / case.latency))
    return replace(case, events=max(1_000, most // 1_000 * 1_000))


def cases(quick: bool) -> list[Case]:
    """
    Return all cases, in the order in which a round measures them.

    :param quick: With a fiftieth of the events: to try whether it works, not to learn anything.
    """
    matrix = [(latency, in_flight) for latency in LATENCIES for in_flight in IN_FLIGHT]
    found = [Case(latency=latency, in_flight=in_flight) for latency, in_flight in matrix]
    found += [Case("wrk", latency, in_flight, events=0) for latency, in_flight in matrix]
    found += [Case(source=source) for source in FORMATS]
    found += [Case("libraries", source=source) for source in ("jsonl", "mapped")]
    for latency in (0, 50):
        found += [
            Case(OFFICIAL, latency, 1),
            Case(OFFICIAL, latency, 16),
            Case("HttpHook", latency, 1),
            Case("requests", latency, 16),
            Case("requests", latency, 64),
            Case("aiohttp", latency, 16),
            Case("aiohttp", latency, 64),
        ]
    found = [
        replace(case, events=min(case.events, _SHARES.get(case.client, case.events))) if case.events else case
        for case in found
    ]
    found = [_bounded(case) if case.events else case for case in found]
    found += [Case(events=events) for events in (100_000, 5 * MILLION)]
    found += [Case(in_flight=64, events=events, warm=False) for events in (100_000, 5 * MILLION)]
    found += [Case(in_flight=64, source=source, warm=False) for source in ("csv", "gzip", "parquet")]
    if quick:
        found = [replace(case, events=case.events // 50) for case in found]
    return found


@dataclass(frozen=True)
class Goal:
    """
    What must be reached.

    :param what: In words.
    :param value: What was measured.
    :param bound: What it must be at least, or at most.
    :param at_least: Which of the two.
    :param unit: Of both.
    """

    what: str
    value: float
    bound: float
    at_least: bool = True
    unit: str = "x"

    @property
    def is_reached(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


class Medians:
    """
    The medians of a run.

    :param rows: A row for each case, with ``rate``, ``cpu`` (seconds per million events) and ``peak`` (bytes).
    """

    def __init__(self, rows: list[Mapping[str, Any]]) -> None:
        self._rows = rows

    def find(self, **wanted: Any) -> Mapping[str, Any] | None:
        """Return the row of a case; the larger one where several have what is wanted."""
        found = [row for row in self._rows if all(row[name] == value for name, value in wanted.items())]
        return max(found, key=lambda row: (row["events"] <= MILLION, row["events"])) if found else None

    def goals(self) -> list[Goal]:
        """Return the goals that can be judged by what has been measured."""
        goals = []

        def ratio(what: str, bound: float, one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> None:
            if one is not None and other is not None:
                goals.append(Goal(what, one["rate"] / other["rate"], bound))

        def most(what: str, bound: float, row: Mapping[str, Any] | None, key: str, unit: str, scale: float = 1) -> None:
            if row is not None:
                goals.append(Goal(what, row[key] / scale, bound, at_least=False, unit=unit))

        def ours(**wanted: Any) -> Mapping[str, Any] | None:
            usual = {"client": "provider", "source": "jsonl", "warm": True, "latency": 0, "in_flight": 16}
            return self.find(**{**usual, **wanted})

        loop, hook = self.find(client=OFFICIAL, latency=50, in_flight=1), self.find(client="HttpHook", latency=50)
        for in_flight, bound in ((16, 20), (64, 90)):
            row = ours(latency=50, in_flight=in_flight)
            limit = self.find(client="wrk", latency=50, in_flight=in_flight)
            ratio(f"50 ms, {in_flight} in flight, beside wrk", 0.90, row, limit)
            ratio(f"50 ms, {in_flight} in flight, beside {OFFICIAL}", bound, row, loop)
        ratio("50 ms, 16 in flight, beside an HttpHook loop", 14, ours(latency=50), hook)
        for source, what, times, times_hook, cpu in (
            ("jsonl", "0 ms, nothing mapped", 100, 5, 3.0),
            ("mapped", "0 ms, mapped, hashed ids, receipts", 50, 2.5, 6.0),
        ):
            row = ours(source=source)
            ratio(f"{what}, beside {OFFICIAL}", times, row, self.find(client=OFFICIAL, latency=0, in_flight=1))
            ratio(f"{what}, beside an HttpHook loop", times_hook, row, self.find(client="HttpHook", latency=0))
            most(f"{what}, CPU", cpu, row, "cpu", "s per million events")
        cold = [row for row in self._rows if row["client"] == "provider" and not row["warm"]]
        for row in cold:
            bound = 200 if row["source"] == "parquet" else 32
            most(f"memory, {row['source']}, {row['events']:,} events", bound, row, "peak", "MiB", 2**20)
        lines = sorted((row for row in cold if row["source"] == "jsonl"), key=lambda row: row["events"])
        if len(lines) == 2:
            growth = (lines[1]["peak"] - lines[0]["peak"]) / 2**20
            what = f"memory, {lines[1]['events']:,} events above {lines[0]['events']:,}"
            goals.append(Goal(what, growth, 10, at_least=False, unit="MiB"))
        for source in ("csv", "parquet"):
            ratio(f"{source} beside JSONL", 0.5, ours(source=source), ours())
        sizes = sorted(
            (row for row in self._rows if row["client"] == "provider" and row["source"] == "jsonl" and row["warm"]
             and not row["latency"] and row["in_flight"] == 16), key=lambda row: row["events"],
        )  # fmt: skip
        if len(sizes) >= 2:
            ratio(f"{sizes[-1]['events']:,} events beside {sizes[0]['events']:,}", 0.9, sizes[-1], sizes[0])
        return goals
