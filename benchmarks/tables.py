"""The figures as tables to paste into ``docs/performance.md``, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cases import IN_FLIGHT, LATENCIES, MILLION, OFFICIAL, Goal

_SOURCES = {
    "jsonl": "JSONL",
    "gzip": "JSONL, gzip",
    "csv": "CSV",
    "parquet": "Parquet",
    "mapped": "JSONL, mapped, hashed ids, receipts",
}

_NAMES = {
    "provider": "this provider, all checks",
    "aiohttp": "its HTTP library alone, no checks",
    "libraries": "its libraries alone, no checks",
}

#: The columns of :func:`_figures`, and of :func:`_beside`.
_FIGURES = ("events/s", "from - to", "CPU s per million")
_PEERS = (f"x {OFFICIAL}", "x HttpHook")

Row = Mapping[str, Any]


def markdown(result: Mapping[str, Any], goals: Sequence[Goal]) -> str:
    """Return all tables."""
    rows: list[Row] = result["rows"]
    machine = result["machine"]
    parts = [
        f"Medians of {result['rounds']} rounds; {machine['processor']}, {machine['cores']} cores, "
        f"Python {machine['python']}; `json.loads` of a small object takes {machine['yardstick']} µs here.\n"
    ]
    if goals:
        parts.append(_table(["goal", "measured", "must be", ""], [_goal(goal) for goal in goals]))
    parts.append(_latencies(rows))
    parts += [_clients(rows, 0), _clients(rows, 50), _formats(rows), _libraries(rows), _memory(rows)]
    return "\n".join(part for part in parts if part)


def _goal(goal: Goal) -> list[str]:
    sign = "≥" if goal.at_least else "≤"
    unit = " times" if goal.unit == "x" else f" {goal.unit}"
    value = f"{goal.value:.2f}" if goal.bound < 10 else f"{goal.value:.1f}"
    return [goal.what, f"{value}{unit}", f"{sign} {goal.bound:g}", "" if goal.is_reached else "missed"]


def _latencies(rows: Sequence[Row]) -> str:
    lines = []
    for latency in LATENCIES:
        for in_flight in IN_FLIGHT:
            at = {"latency": latency, "in_flight": in_flight}
            ours, limit = (
                _find(rows, client="provider", source="jsonl", warm=True, **at),
                _find(rows, client="wrk", **at),
            )
            if ours is not None:
                share = f"{ours['rate'] / limit['rate']:.2f}" if limit else ""
                bound = f"{limit['rate']:,.0f}" if limit else ""
                lines.append([f"{latency} ms", str(in_flight), *_figures(ours), bound, share])
    head = ["latency", "in flight", *_FIGURES, "wrk", "share of it"]
    return _table(head, lines)


def _clients(rows: Sequence[Row], latency: int) -> str:
    lines = []
    for client in (OFFICIAL, "HttpHook", "requests", "provider", "aiohttp"):
        for in_flight in IN_FLIGHT:
            row = _find(rows, client=client, latency=latency, in_flight=in_flight, source="jsonl", warm=True)
            if row is None:
                continue
            name = _NAMES.get(client, client)
            how = "a loop" if in_flight == 1 else f"{in_flight} in flight"
            lines.append([f"{latency} ms", f"{name}, {how}", *_figures(row), *_beside(rows, row)])
    return _table(["latency", "client", *_FIGURES, *_PEERS], lines)


def _formats(rows: Sequence[Row]) -> str:
    lines_ = _find(rows, client="provider", source="jsonl", latency=0, in_flight=16, warm=True)
    lines = []
    for source, name in _SOURCES.items():
        row = _find(rows, client="provider", source=source, latency=0, in_flight=16, warm=True)
        if row is not None:
            lines.append([name, *_figures(row), f"{row['rate'] / lines_['rate']:.2f}" if lines_ else ""])
    return _table(["source, 0 ms, 16 in flight", *_FIGURES, "x JSONL"], lines)


def _libraries(rows: Sequence[Row]) -> str:
    """Return what the libraries leave to be had: the least work for an event, done by them."""
    lines = []
    for source in ("jsonl", "mapped"):
        for client in ("provider", "libraries"):
            row = _find(rows, client=client, source=source, latency=0, in_flight=16, warm=True)
            if row is not None:
                lines.append([_SOURCES[source], _NAMES[client], *_figures(row), *_beside(rows, row)])
    return _table(["source, 0 ms, 16 in flight", "by", *_FIGURES, *_PEERS], lines)


def _memory(rows: Sequence[Row]) -> str:
    cold = [row for row in rows if not row["warm"]]
    lines = [[_SOURCES[row["source"]], f"{row['events']:,}", f"{row['peak'] / 2**20:.1f} MiB"] for row in cold]
    return _table(["source, 0 ms, 64 in flight", "events", "peak above the process before"], lines)


def _find(rows: Sequence[Row], **wanted: Any) -> Row | None:
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return max(found, key=lambda row: (row["events"] <= MILLION, row["events"])) if found else None


def _figures(row: Row) -> list[str]:
    cpu = f"{row['cpu']:.2f}" if row["cpu"] is not None else ""
    return [f"{row['rate']:,.0f}", f"{row['least']:,.0f} - {row['most']:,.0f}", cpu]


def _beside(rows: Sequence[Row], row: Row) -> list[str]:
    """Return how many times the rate of each peer's loop a row has."""
    peers = [_find(rows, client=client, latency=row["latency"], in_flight=1) for client in (OFFICIAL, "HttpHook")]
    return [f"{row['rate'] / peer['rate']:.1f}" if peer else "" for peer in peers]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    ruler = ["---" if number == 0 else "---:" for number in range(len(head))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ruler, *lines))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw events per second over latency, and beside the other clients."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.6))
    for in_flight, colour in zip(IN_FLIGHT, ("#8da0cb", "#1f5fbf", "#0b2545"), strict=True):
        for client, line, mark in (("provider", "-", "o"), ("wrk", ":", "x")):
            found = [
                _find(rows, client=client, latency=latency, in_flight=in_flight, source="jsonl", warm=True)
                for latency in LATENCIES
            ]
            points = [(str(row["latency"]), row["rate"]) for row in found if row is not None]
            if points:
                name = f"{'this provider' if client == 'provider' else 'wrk'}, {in_flight} in flight"
                left.plot(*zip(*points, strict=True), line, marker=mark, color=colour, label=name)
    left.set(yscale="log", xlabel="latency of the server, ms", ylabel="events per second")
    left.grid(visible=True, axis="y", alpha=0.3)
    if left.lines:
        left.legend(fontsize=8)
    bars = [
        (
            f"{'this provider' if client == 'provider' else client}\n{'loop' if in_flight == 1 else in_flight}",
            row["rate"],
        )
        for client in (OFFICIAL, "HttpHook", "requests", "provider")
        for in_flight in IN_FLIGHT
        if (row := _find(rows, client=client, latency=50, in_flight=in_flight, source="jsonl", warm=True)) is not None
    ]
    if bars:
        names, rates = zip(*bars, strict=True)
        colours = ["#1f5fbf" if name.startswith("this") else "#b0b0b0" for name in names]
        shown = right.barh(names, rates, color=colours)
        right.bar_label(shown, [f"{rate:,.0f}" for rate in rates], padding=3, fontsize=8)
        right.invert_yaxis()
        right.set(xlabel="events per second, 50 ms")
        right.margins(x=0.15)
        right.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
