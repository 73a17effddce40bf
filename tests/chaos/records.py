"""A random source, and what has to become of each of its records. Knows nothing of how the product decides."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from airflow_provider_lago.delivery.events.shaping import EventShaping
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.json_lines import LONGEST_LINE
from airflow_provider_lago.sources.values import ValueSource

SUBSCRIPTIONS = tuple(f"sub_{n}" for n in range(9))
CODES = ("calls", "storage", "seats")
#: The code of a metric whose expression needs the property ``b``.
EXPRESSION_CODE = "computed"
POISON = "poison7"
_EPOCH = 1_700_000_000
_CONFLICT = "transaction_id: conflict"


class Spec(NamedTuple):
    """What a stored event must be, found by the number in its properties; its id is None where it is derived."""

    subscription: str
    id: str | None
    code: str
    time_us: int


class Fate(NamedTuple):
    """
    What must become of a record.

    :param kind: ``valid``, ``rejected``, ``skipped``; ``conflict`` is rejected or a duplicate, as it is seen or not.
    :param n: Number of what the record says; twins share it.
    :param reason: What the reason must contain where it is rejected.
    """

    kind: str
    n: int
    reason: str = ""


class Shape(NamedTuple):
    """
    How the source is written.

    :param container: ``jsonl``, ``csv``, ``list`` or ``generator``.
    :param plain: Whether its records are events already.
    :param ids: ``own``, ``hash`` or ``columns``.
    :param files: Number of files.
    :param drops: Whether a transform leaves some records out.
    """

    container: str
    plain: bool
    ids: str
    files: int
    drops: bool


class Shares(NamedTuple):
    """How many of the records are what, each as a share."""

    invalid: float = 0.0
    twins: float = 0.0
    conflicts: float = 0.0
    shared_ids: float = 0.0
    refused: float = 0.0
    dropped: float = 0.0
    poison: int = 0
    too_long: bool = False


@dataclass
class Records:
    """
    A source.

    :param fates: What must become of each record, in order.
    :param specs: Number -> what a stored event with this number must be.
    """

    shape: Shape
    folder: Path
    fates: list[Fate] = field(default_factory=list)
    specs: dict[int, Spec] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)

    def source(self) -> FileSource | ValueSource:
        if self.paths:
            return FileSource(self.paths)
        if self.shape.container == "generator":
            return ValueSource(_one_by_one(self.rows))
        return ValueSource(self.rows)

    def shaping(self) -> EventShaping:
        shape = self.shape
        transform = drop_marked if shape.drops else None
        if shape.plain:
            return EventShaping(transform=transform)
        account = "account_key" if shape.container == "csv" else "account.key"
        fields = {"external_subscription_id": account, "code": "metric", "timestamp": "when"}
        if shape.ids == "own":
            fields["transaction_id"] = "usage_id"
        strategy = {"own": None, "hash": "hash", "columns": [account, "n"]}[shape.ids]
        return EventShaping(
            fields=fields,
            properties=["n", "v?", "b?"],
            constants={"properties.origin": "chaos"},
            transaction_id=strategy,
            transform=transform,
        )


def _one_by_one(rows: list[Any]) -> Iterator[Any]:
    yield from rows


def drop_marked(record: dict[str, Any]) -> dict[str, Any] | None:
    """The transform of sources that leave records out."""
    return None if record.pop("drop", None) else record


class _Usage(NamedTuple):
    """What a record says, before it is written in the form of its source."""

    n: int
    id: str
    subscription: str
    code: str
    seconds: int
    micros: int
    value: Any
    b: Any = None
    drop: bool = False


def make(seed: int, count: int, shape: Shape, shares: Shares, folder: Path) -> Records:
    """Write a source of so many records."""
    return _Maker(random.Random(seed), shape, shares, folder).make(count)


class _Maker:
    def __init__(self, rng: random.Random, shape: Shape, shares: Shares, folder: Path) -> None:
        self.rng = rng
        self.shares = shares
        self.made = Records(shape, folder)
        self.n = 0
        self.said: list[tuple[_Usage, Any, Fate]] = []
        self.contested: set[tuple[str, str]] = set()
        self.defects = _DEFECTS_OF[("csv" if shape.container == "csv" else "json", shape.plain)]
        if shape.container in ("list", "generator"):
            self.defects = [defect for defect in self.defects if defect not in _TEXT_DEFECTS] + ["nan"]

    def make(self, count: int) -> Records:
        rng, shares = self.rng, self.shares
        poisonous = set(rng.sample(range(count), min(shares.poison, count)))
        too_long = rng.randrange(count) if shares.too_long else -1
        edges = []
        for share in (
            shares.invalid,
            shares.twins,
            shares.conflicts,
            shares.shared_ids,
            shares.refused,
            shares.dropped,
        ):
            edges.append(share + (edges[-1] if edges else 0.0))
        makers = (self._invalid, self._twin, self._conflict, self._shared_id, self._refused, self._dropped)
        for at in range(count):
            if at == too_long:
                self._add(b'{"n":1,"v":"' + b"x" * LONGEST_LINE + b'"}', Fate("rejected", -1, "line too long"))
                continue
            if at in poisonous:
                self._valid(value=f"{POISON} {at}", fate=("rejected", "HTTP"))
                continue
            draw = rng.random()
            for edge, maker in zip(edges, makers, strict=True):
                if draw < edge:
                    maker()
                    break
            else:
                self._valid()
        self._write()
        return self.made

    def _usage(self, **changes: Any) -> _Usage:
        rng = self.rng
        self.n += 1
        values = {
            "n": self.n,
            "id": f"txn-{self.n}",
            "subscription": SUBSCRIPTIONS[int(rng.random() * 9)],
            "code": CODES[int(rng.random() * 3)],
            "seconds": _EPOCH + self.n,
            "micros": 0 if rng.random() < 0.9 else rng.randrange(1_000) * 1_000,
            "value": self.n % 97 if rng.random() < 0.97 else rng.choice(["ü", "a b", "x" * 300, '"quoted"', "1e-7"]),
        }
        return _Usage(**{**values, **changes})

    def _valid(self, fate: tuple[str, str] = ("valid", ""), **changes: Any) -> None:
        usage = self._usage(**changes)
        self._say(usage, Fate(fate[0], usage.n, fate[1]))

    def _say(self, usage: _Usage, fate: Fate) -> None:
        row = self._row(usage)
        self.said.append((usage, row, fate))
        if fate.kind in ("valid", "conflict"):
            own = self.made.shape.ids == "own"
            self.made.specs[usage.n] = Spec(
                usage.subscription, usage.id if own else None, usage.code, usage.seconds * 1_000_000 + usage.micros
            )
        self._add(row, fate)

    def _add(self, row: Any, fate: Fate) -> None:
        self.made.rows.append(row)
        self.made.fates.append(fate)

    def _earlier(self) -> tuple[_Usage, Any, Fate] | None:
        if not self.said:
            return None
        near = self.rng.random() < 0.5
        return self.said[-self.rng.randint(1, min(6, len(self.said)))] if near else self.rng.choice(self.said)

    def _twin(self) -> None:
        found = self._earlier()
        if found is None or found[2].kind == "conflict":
            return self._valid()
        usage, row, fate = found
        if (usage.id, usage.subscription) in self.contested:
            # Which of the two stands in the batch that is being filled decides which of them this one contradicts.
            fate = Fate("conflict", fate.n, _CONFLICT)
        return self._add(row, fate)

    def _conflict(self) -> None:
        found = self._earlier()
        if found is None or found[2].kind != "valid" or self.made.shape.ids != "own":
            return self._valid()
        usage = self._usage(id=found[0].id, subscription=found[0].subscription, code=found[0].code, b=found[0].b)
        if self.rng.random() < 0.5:
            usage = usage._replace(seconds=found[0].seconds, micros=found[0].micros)
        self.contested.add((usage.id, usage.subscription))
        return self._say(usage, Fate("conflict", usage.n, _CONFLICT))

    def _shared_id(self) -> None:
        found = self._earlier()
        if found is None or found[2].kind != "valid" or self.made.shape.ids != "own":
            return self._valid()
        # Each use of an id needs a subscription of its own, or it would be a conflict.
        usage = self._usage(id=found[0].id)
        return self._say(usage._replace(subscription=f"sub_of_{usage.n}"), Fate("valid", usage.n))

    def _refused(self) -> None:
        if self.rng.random() < 0.5:
            return self._valid(code=EXPRESSION_CODE, b=self.n)
        return self._valid(fate=("rejected", "expression_evaluation_failed"), code=EXPRESSION_CODE)

    def _dropped(self) -> None:
        usage = self._usage(drop=True)
        self._add(self._row(usage), Fate("skipped", usage.n))

    def _row(self, usage: _Usage) -> Any:
        shape = self.made.shape
        if shape.container == "csv":
            return self._cells(usage)
        when = self._when(usage)
        if shape.plain:
            properties = {"n": usage.n, "v": usage.value}
            if usage.b is not None:
                properties["b"] = usage.b
            row: dict[str, Any] = {
                "transaction_id": usage.id,
                "external_subscription_id": usage.subscription,
                "code": usage.code,
                "timestamp": when,
                "properties": properties,
            }
            if usage.n % 50 == 0:
                row["precise_total_amount_cents"] = "12.5"
        else:
            row = {
                "usage_id": usage.id,
                "account": {"key": usage.subscription, "name": "not sent"},
                "metric": usage.code,
                "when": when,
                "n": usage.n,
                "v": usage.value,
            }
            if usage.b is not None:
                row["b"] = usage.b
        if usage.drop:
            row["drop"] = True
        if shape.container != "jsonl":
            return row
        line = msgspec.json.encode(row)
        return line if usage.n % 40 else b" " + line.replace(b'":', b'" : ') + b"  "

    def _when(self, usage: _Usage) -> Any:
        if usage.micros == 0 and usage.n % 20:
            return usage.seconds
        fraction = Decimal(usage.seconds) + Decimal(usage.micros) / 1_000_000
        moment = datetime.fromtimestamp(usage.seconds, UTC).replace(microsecond=usage.micros)
        return [str(fraction), moment.isoformat(), moment.isoformat().replace("+00:00", "Z")][usage.n % 3]

    def _cells(self, usage: _Usage) -> list[str]:
        drop = "yes" if usage.drop else ""
        b = "" if usage.b is None else str(usage.b)
        return [
            usage.id,
            usage.subscription,
            usage.code,
            str(self._when(usage)),
            str(usage.n),
            str(usage.value),
            b,
            drop,
        ]

    def _invalid(self) -> None:
        defect = self.rng.choice(self.defects)
        usage = self._usage()
        fate = Fate("rejected", usage.n, _REASONS[defect])
        row = self._row(usage)
        if self.made.shape.container == "csv":
            self._add(_spoil_cells(row, defect), fate)
        elif self.made.shape.container == "jsonl":
            self._add(_spoil_line(row, defect), fate)
        else:
            self._add(_spoil_record(row, defect), fate)

    def _write(self) -> None:
        shape, made = self.made.shape, self.made
        if shape.container not in ("jsonl", "csv"):
            return
        share = -(-len(made.rows) // shape.files)
        for number in range(shape.files):
            path = made.folder / f"usage-{number}.{shape.container}"
            rows = made.rows[number * share : (number + 1) * share]
            path.write_bytes(_as_jsonl(rows) if shape.container == "jsonl" else _as_csv(rows))
            made.paths.append(path)
        made.rows = []


_HEADER = ["usage_id", "account_key", "metric", "when", "n", "v", "b", "drop"]


def _as_jsonl(rows: list[bytes]) -> bytes:
    return b"\n".join(rows) + b"\n" if rows else b"\n"


def _as_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_HEADER)
    writer.writerows(rows)
    return text.getvalue().encode()


#: Defect -> what the reason must contain.
_REASONS = {
    "no subscription": "missing",
    "no code": "missing",
    "no time": "missing",
    "milliseconds": "timestamp: not a time",
    "no date": "timestamp: not a time",
    "padded subscription": "external_subscription_id: surrounding space",
    "unknown field": "unknown field",
    "properties as text": "properties: not an object",
    "nul": "NUL character",
    "nan": "NaN or infinity",
    "not JSON": "not JSON",
    "literal NaN": "not JSON",
    "not UTF-8": "not UTF-8",
    "a number": "not an object",
    "cells": "wrong number of cells",
    "no n": "property missing: n",
}
_COMMON = ["no subscription", "no code", "no time", "milliseconds", "no date", "padded subscription"]
_TEXT_DEFECTS = frozenset({"not JSON", "literal NaN", "not UTF-8"})
_DEFECTS_OF = {
    ("json", True): [
        *_COMMON,
        "unknown field",
        "properties as text",
        "nul",
        "not JSON",
        "literal NaN",
        "not UTF-8",
        "a number",
    ],
    ("json", False): [*_COMMON, "nul", "not JSON", "literal NaN", "not UTF-8", "a number", "no n"],
    ("csv", False): [*_COMMON, "cells", "no n"],
}


def _spoil_line(line: bytes, defect: str) -> bytes:
    if defect == "not JSON":
        return line.strip()[:-3]
    if defect == "literal NaN":
        return b'{"v":NaN,' + line.strip()[1:]
    if defect == "not UTF-8":
        return b'{"v":"\xff\xfe",' + line.strip()[1:]
    return msgspec.json.encode(_spoil_record(msgspec.json.decode(line), defect))


def _spoil_record(row: dict[str, Any], defect: str) -> Any:
    plain = "transaction_id" in row
    code, time = ("code", "timestamp") if plain else ("metric", "when")
    properties = row["properties"] if plain else row
    match defect:
        case "a number":
            return 5
        case "no subscription" if plain:
            del row["external_subscription_id"]
        case "no subscription":
            del row["account"]["key"]
        case "no code":
            row[code] = None
        case "no time":
            row[time] = ""
        case "milliseconds":
            row[time] = 1_700_000_000_123
        case "no date":
            row[time] = "yesterday"
        case "padded subscription" if plain:
            row["external_subscription_id"] += " "
        case "padded subscription":
            row["account"]["key"] += " "
        case "unknown field":
            row["quantity"] = 3
        case "properties as text":
            row["properties"] = "none"
        case "nul":
            properties["v"] = "a\0b"
        case "nan":
            properties["v"] = float("nan")
        case "no n":
            del row["n"]
    return row


def _spoil_cells(cells: list[str], defect: str) -> list[str]:
    match defect:
        case "no subscription":
            cells[1] = ""
        case "no code":
            cells[2] = ""
        case "no time":
            cells[3] = ""
        case "milliseconds":
            cells[3] = "1700000000123"
        case "no date":
            cells[3] = "yesterday"
        case "padded subscription":
            cells[1] += " "
        case "cells":
            return cells[:-2]
        case "no n":
            cells[4] = ""
    return cells
