"""A seed -> one delivery with its faults, all of it decided before anything runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chaos.records import POISON, Shape, Shares

#: Faults of the sandbox that a delivery meets and gets over; each with what its rule takes.
_SANDBOX = (
    "lost_response",
    "error_after_commit",
    "reset",
    "cut_body",
    "broken_json",
    "empty",
    "error 500",
    "error 503",
    "storm",
    "storm with headers",
    "quiet second",
    "slow",
)
_PROXY = (
    "reset_before",
    "reset_mid_request",
    "cut_request",
    "drop_answer",
    "reset_mid_answer",
    "cut_answer",
    "close_after",
    "half_open",
    "late_request",
    "late_answer",
    "stall",
    "slow_loris",
    "refuse",
)
#: Those that cost the client a timeout each, so only some of them fit into a run.
_COSTLY = frozenset({"half_open", "late_request", "late_answer", "stall", "slow_loris"})

#: Stands for the address of another server, to which nothing may ever be carried on.
ELSEWHERE = "http://elsewhere"

#: Share of the runs with single events or few in a request: they make a hundred times as many requests.
_SMALL_BATCHES = 0.02

CONNECT_TIMEOUT = 0.5
READ_TIMEOUT = 0.4


class Trigger(NamedTuple):
    """
    Something that happens when a request of the run reaches the server, or its answer leaves it.

    :param at: Number of the request, over all tries.
    :param phase: ``request`` (before the server has it) or ``answer`` (before the client has it).
    :param action: ``kill``, ``stop`` or ``interrupt`` the delivering process; ``revoke`` the key; ``refuse``
        connections; ``restart`` the server in order, or ``crash`` it.
    """

    at: int
    phase: str
    action: str


@dataclass
class Scenario:
    """
    One run.

    :param earlier: Records of the source that an earlier delivery brought to Lago.
    :param on_disk: Whether the server keeps its events in a file, so that it can be restarted.
    :param deadlines: Try -> (seconds after its start, what is done to it then).
    :param disks: Try -> bytes that a file of the report may have, or the size of the disk it is on.
    :param durable: Where tries keep a checkpoint: ``store`` (as in Airflow's task state store), ``folder`` (in the
        report's) or nowhere.
    :param rhythm: Records and seconds after which a checkpoint is due.
    :param elsewhere: Address of the other server; known when the run begins.
    """

    seed: int
    events: int
    store: str
    shape: Shape
    shares: Shares
    batch_size: int
    concurrency: int
    max_bytes: int
    receipts: bool
    requests_per_second: float | None
    earlier: int = 0
    on_disk: bool = False
    durable: str = ""
    rhythm: tuple[int, float] = (2_000, 3.0)
    elsewhere: str = ""
    sandbox_faults: list[dict[str, Any]] = field(default_factory=list)
    proxy_faults: list[dict[str, Any]] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    deadlines: dict[int, tuple[float, str]] = field(default_factory=dict)
    disks: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        kinds = [rule["kind"] for rule in (*self.sandbox_faults, *self.proxy_faults)]
        kinds += [trigger.action for trigger in self.triggers] + [end for _, end in self.deadlines.values()]
        kinds += ["disk full"] * len(self.disks)
        return (
            f"{self.store}, {self.shape.container}, ids {self.shape.ids}, {self.batch_size} x {self.concurrency}"
            f"{', receipts' if self.receipts else ''}{f', durable in {self.durable}' if self.durable else ''}"
            f"{f', {self.earlier} known' if self.earlier else ''}; {', '.join(kinds) or 'no faults'}"
        )


def scenario(seed: int, events: int) -> Scenario:
    """Draw a run."""
    rng = random.Random(f"scenario {seed}")
    batch_size = rng.choice([100, 100, 100, 50, 25, rng.randint(10, 100)])
    concurrency = rng.choice([1, 2, 4, 8, 8, 16, 32])
    if rng.random() < _SMALL_BATCHES:
        batch_size, concurrency = rng.choice([1, 1, 2, 5]), rng.choice([8, 16, 32])
    shape = _shape(rng)
    made = Scenario(
        seed=seed,
        events=events,
        store=rng.choice(["postgres", "clickhouse"]),
        shape=shape,
        shares=_shares(rng, shape),
        batch_size=batch_size,
        concurrency=concurrency,
        max_bytes=rng.choice([1_000_000, 1_000_000, 1_000_000, 100_000, rng.randint(3_000, 30_000)]),
        receipts=rng.random() < 0.5,
        requests_per_second=None,
    )
    requests = -(-events // batch_size)
    if rng.random() < 0.05 and requests <= 500:
        made.requests_per_second = 150.0
    if rng.random() < 0.2 and not made.shares.poison:
        made.earlier = rng.randint(1, events)
    for kind in rng.sample(_SANDBOX, rng.choice([0, 0, 1, 1, 2, 3])):
        made.sandbox_faults += _sandbox_fault(kind, rng, requests)
    for kind in rng.sample(_PROXY, rng.choice([0, 0, 1, 1, 2])):
        made.proxy_faults.append(_proxy_fault(kind, rng, requests))
    if rng.random() < 0.03:
        elsewhere = {"kind": "redirect", "path": "/events", "location": ELSEWHERE}
        made.sandbox_faults.append({**elsewhere, "skip": rng.randrange(requests + 1), "times": 1})
    if made.shares.poison:
        status = rng.choice([400, 403, 413, 500])
        # First, because the first rule that strikes wins, and a poisonous event must never be stored.
        made.sandbox_faults.insert(0, {"kind": "poison", "contains": POISON, "status": status})
    _add_interruptions(made, rng, requests)
    made.durable = rng.choice(["store", "store", "folder", ""])
    if rng.random() < 0.7:
        made.rhythm = (rng.randint(1, max(1, events // 3)), rng.choice([0.01, 0.1, 3.0]))
    return made


def _shape(rng: random.Random) -> Shape:
    container = rng.choice(["jsonl", "jsonl", "jsonl", "csv", "list", "generator"])
    plain = container != "csv" and rng.random() < 0.5
    ids = "own" if plain else rng.choice(["own", "hash", "columns"])
    return Shape(container, plain, ids, rng.choice([1, 1, 2, 4]), drops=rng.random() < 0.3)


def _shares(rng: random.Random, shape: Shape) -> Shares:
    def share(*choices: float) -> float:
        return rng.choice(choices)

    return Shares(
        invalid=share(0, 0.001, 0.01, 0.1),
        twins=share(0, 0, 0.01, 0.05),
        conflicts=share(0, 0, 0.002),
        shared_ids=share(0, 0, 0.02),
        refused=share(0, 0, 0.002, 0.02),
        dropped=share(0.01, 0.1) if shape.drops else 0.0,
        poison=rng.choice([1, 2, 3]) if rng.random() < 0.1 else 0,
        too_long=shape.container == "jsonl" and rng.random() < 0.03,
    )


def _sandbox_fault(kind: str, rng: random.Random, requests: int) -> list[dict[str, Any]]:
    when = _when(rng, requests)
    rule: dict[str, Any] = {"path": "/events", **when}
    match kind:
        case "error 500" | "error 503":
            return [{**rule, "kind": "error", "status": int(kind[-3:])}]
        case "storm":
            return [{**rule, "kind": "rate_limit"}]
        case "storm with headers":
            return [{**rule, "kind": "rate_limit", **rng.choice([{"reset": 0}, {"retry_after": 0}])}]
        case "quiet second":
            asked = rng.choice([{"reset": 1}, {"retry_after": 1}])
            return [{"kind": "rate_limit", "path": "/events", "skip": rng.randrange(requests + 1), "times": 1, **asked}]
        case "slow":
            seconds = rng.choice([0.05, READ_TIMEOUT * 1.5, READ_TIMEOUT * 2])
            return [{**_rarely(rng, requests), "path": "/events", "kind": "slow", "seconds": seconds}]
    return [{**rule, "kind": kind}]


def _when(rng: random.Random, requests: int) -> dict[str, Any]:
    """Say which requests meet a fault: a share of them, every so-manieth, the first of each, or some in a row."""
    return rng.choice(
        [
            {"probability": rng.choice([0.02, 0.1, 0.3]), "seed": rng.randrange(10_000)},
            {"probability": rng.choice([0.02, 0.1, 0.3]), "seed": rng.randrange(10_000)},
            {"every": rng.choice([2, 3, 7, 20])},
            {"first_of_each_body": True},
            {"skip": rng.randrange(requests + 1), "times": rng.choice([1, 5, 30])},
        ]
    )


def _rarely(rng: random.Random, requests: int) -> dict[str, Any]:
    return {"skip": rng.randrange(requests + 1), "times": rng.randint(1, 4)}


def _proxy_fault(kind: str, rng: random.Random, requests: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"kind": kind, "seed": rng.randrange(10_000)}
    if kind in _COSTLY:
        rule |= _rarely(rng, requests)
        rule["seconds"] = rng.choice([0.03, READ_TIMEOUT * 1.3, READ_TIMEOUT * 2])
    elif kind == "refuse":
        rule |= {
            "skip": rng.randrange(requests + 1),
            "times": rng.randint(1, 3),
            "seconds": rng.choice([0.02, 0.2, 0.6]),
        }
    else:
        rule["probability"] = rng.choice([0.02, 0.1, 0.25])
    if kind == "slow_loris":
        rule["seconds"] = 0.05
    return rule


def _add_interruptions(made: Scenario, rng: random.Random, requests: int) -> None:
    def trigger(action: str) -> None:
        made.triggers.append(Trigger(rng.randint(1, requests + 1), rng.choice(["request", "answer"]), action))

    if rng.random() < 0.5:
        for _ in range(rng.randint(1, 3)):
            trigger(rng.choice(["kill", "kill", "stop", "interrupt"]))
    if rng.random() < 0.1:
        trigger("revoke")
    if rng.random() < 0.15:
        made.on_disk = True
        for _ in range(rng.randint(1, 2)):
            trigger(rng.choice(["crash", "restart"]))
    for number in range(1, 3):
        if rng.random() < 0.1:
            # Also where no request is on its way: at the start, while files are written, at the end.
            made.deadlines[number] = (rng.random() * (0.02 + requests / 300), rng.choice(["kill", "kill", "stop"]))
    if rng.random() < 0.1:
        made.disks[rng.randint(1, 2)] = rng.choice([rng.randint(0, 5_000), rng.randint(0, 200_000)])
    made.triggers.sort()
