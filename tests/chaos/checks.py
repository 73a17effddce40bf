"""What must hold after a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from chaos.records import Records
from chaos.scenario import Scenario
from chaos.tries import Ended

_SHOWN = 5


class Problem(NamedTuple):
    """
    Something that does not hold.

    :param kind: ``lost``, ``doubled``, ``miscounted``, ``evidence``, ``hung`` or ``broken``.
    """

    kind: str
    text: str


class Stored(NamedTuple):
    """What the server holds: by identity, as it would be billed."""

    rows: int
    identities: set[tuple[Any, ...]]
    problems: list[Problem]


def check(
    made: Scenario, records: Records, held: list[tuple[Any, ...]], tries: list[Ended], folder: Path
) -> list[Problem]:
    """Return everything that does not hold after the last, complete try."""
    report = _read(folder / "rejected.jsonl")
    refused = {line["position"]: line["reason"] for line in report}
    stored = _stored(made, records, held)
    return [
        *stored.problems,
        *_check_stored(made, records, stored, refused),
        *_check_rejected(records, refused, len(report)),
        *_check_counts(made, records, stored, tries, refused),
        *_check_summary(folder, tries[-1]),
        *(_check_receipts(records, folder, tries[-1]) if made.receipts else ()),
        *_check_lines(folder),
    ]


def _stored(made: Scenario, records: Records, held: list[tuple[Any, ...]]) -> Stored:
    problems: list[Problem] = []
    seen: Counter[tuple[Any, ...]] = Counter()
    ids: dict[int, str] = {}
    by_time = made.store == "clickhouse"
    for transaction_id, subscription, code, time_us, properties in held:
        n = int(msgspec.json.decode(properties)["n"])
        spec = records.specs.get(n)
        if spec is None:
            problems.append(Problem("doubled", f"event {n} is in Lago, and is no valid record"))
            continue
        if (subscription, code, time_us) != (spec.subscription, spec.code, spec.time_us):
            problems.append(Problem("doubled", f"event {n} is in Lago as {subscription, code, time_us}, not {spec}"))
        if (spec.id or ids.setdefault(n, transaction_id)) != transaction_id:
            problems.append(Problem("doubled", f"event {n} is in Lago as {transaction_id!r} too"))
        seen[_identity(spec.subscription, spec.id or f"derived {n}", code, time_us, by_time=by_time)] += 1
    if not by_time:
        problems += [Problem("doubled", f"{key} is in Lago {times} times") for key, times in seen.items() if times > 1]
    return Stored(len(held), set(seen), problems)


def _identity(subscription: str, name: str, code: str, time_us: int, *, by_time: bool) -> tuple[Any, ...]:
    """What Lago's store takes for one event: on ClickHouse the code and the time belong to it."""
    return (subscription, name, code, time_us) if by_time else (subscription, name)


def _check_stored(made: Scenario, records: Records, stored: Stored, refused: dict[int, str]) -> Iterable[Problem]:
    wanted, possible = set(), set()
    for position, fate in enumerate(records.fates, 1):
        if fate.kind not in ("valid", "conflict"):
            continue
        spec = records.specs[fate.n]
        key = _identity(
            spec.subscription,
            spec.id or f"derived {fate.n}",
            spec.code,
            spec.time_us,
            by_time=made.store == "clickhouse",
        )
        possible.add(key)
        if fate.kind == "valid" or position not in refused:
            wanted.add(key)
    yield from _some("lost", "not in Lago", wanted - stored.identities)
    # An earlier try may have sent a contradicting event that the last one saw to contradict another.
    yield from _some("doubled", "in Lago and in no record", stored.identities - possible)


def _check_rejected(records: Records, refused: dict[int, str], lines: int) -> Iterable[Problem]:
    if lines != len(refused):
        yield Problem("evidence", f"rejected.jsonl has {lines} lines for {len(refused)} records")
    must = {position: fate for position, fate in enumerate(records.fates, 1) if fate.kind == "rejected"}
    may = {position for position, fate in enumerate(records.fates, 1) if fate.kind == "conflict"}
    yield from _some("lost", "rejected without reason", ((p, refused[p]) for p in refused.keys() - must.keys() - may))
    yield from _some("evidence", "missing in rejected.jsonl", ((p, must[p]) for p in must.keys() - refused.keys()))
    wrong = [
        (position, reason, records.fates[position - 1].reason)
        for position, reason in refused.items()
        if position <= len(records.fates) and records.fates[position - 1].reason not in reason
    ]
    yield from _some("evidence", "rejected for another reason", wrong)


def _check_counts(
    made: Scenario, records: Records, stored: Stored, tries: list[Ended], refused: dict[int, str]
) -> Iterable[Problem]:
    counts = tries[-1].counts
    kinds = Counter(fate.kind for fate in records.fates)
    delivered = len(records.fates) - len(refused) - kinds["skipped"]
    expected = {"read": len(records.fates), "rejected": len(refused), "skipped": kinds["skipped"]}
    wrong = {name: (counts[name], value) for name, value in expected.items() if counts[name] != value}
    if counts["accepted"] + counts["duplicate"] != delivered:
        wrong["accepted + duplicate"] = (counts["accepted"] + counts["duplicate"], delivered)
    if sum(counts["reasons"].values()) != counts["rejected"]:
        wrong["reasons"] = (counts["reasons"], counts["rejected"])
    if len(tries) == 1 and not made.earlier and made.store == "postgres":
        # Where an id comes again and the answer is lost, nobody can tell whose work the stored one is.
        repeated = delivered - stored.rows
        if not stored.rows <= counts["accepted"] <= stored.rows + repeated:
            wrong["accepted"] = (counts["accepted"], stored.rows)
    if wrong:
        yield Problem("miscounted", f"(counted, true): {wrong}")


def _check_summary(folder: Path, last: Ended) -> Iterable[Problem]:
    summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    if any(summary.get(name) != value for name, value in last.counts.items()) or "halted" in summary:
        yield Problem("evidence", f"summary.json says {summary}, the delivery {last.counts}")


def _check_receipts(records: Records, folder: Path, last: Ended) -> Iterable[Problem]:
    lines = _read(folder / "receipts.jsonl")
    positions = Counter(line["position"] for line in lines)
    yield from _some("evidence", "without receipt", set(range(1, len(records.fates) + 1)) - positions.keys())
    yield from _some("evidence", "with several receipts", (p for p, times in positions.items() if times > 1))
    outcomes = Counter(line["outcome"] for line in lines)
    if any(outcomes[name] != last.counts[name] for name in ("accepted", "duplicate", "rejected", "skipped")):
        yield Problem("miscounted", f"receipts say {dict(outcomes)}, the summary {last.counts}")
    allowed = {
        "valid": ("accepted", "duplicate"),
        "rejected": ("rejected",),
        "skipped": ("skipped",),
        "conflict": ("accepted", "duplicate", "rejected"),
    }
    wrong = [
        (line["position"], line["outcome"], records.fates[line["position"] - 1])
        for line in lines
        if line["outcome"] not in allowed[records.fates[line["position"] - 1].kind]
    ]
    yield from _some("evidence", "receipts of another outcome", wrong)


def _check_lines(folder: Path) -> Iterable[Problem]:
    """Every file, of every try, holds whole lines and nothing else."""
    for path in sorted(folder.rglob("*.jsonl")):
        text = path.read_bytes()
        if text and not text.endswith(b"\n"):
            yield Problem("evidence", f"{path.name} ends in half a line: {text[-80:]!r}")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                msgspec.json.decode(line)
            except msgspec.DecodeError:
                yield Problem("evidence", f"{path.name} line {number} is not JSON: {line[:80]!r}")
                break


def _read(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            found.append(msgspec.json.decode(line))
        except msgspec.DecodeError:
            continue  # told by the check of lines
    return found


def _some(kind: str, what: str, found: Iterable[Any]) -> Iterable[Problem]:
    listed = list(found)
    if listed:
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        yield Problem(kind, f"{len(listed)} {what}: {sorted(listed, key=str)[:_SHOWN]}{more}")
