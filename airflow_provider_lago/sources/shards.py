"""Splitting files among tasks: who reads which part of which file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from airflow_provider_lago.sources.compression import decompressed
from airflow_provider_lago.sources.finding import Files, Piece, expand
from airflow_provider_lago.sources.formats import Reading, csv_options, format_of, reader_of
from airflow_provider_lago.sources.parquet import row_group_sizes
from airflow_provider_lago.sources.places import State, Stores
from airflow_provider_lago.sources.splitting import cut_lines, cut_table


@dataclass(frozen=True, slots=True)
class _Share:
    """
    A part of a file that one task reads.

    :param order: Number of the file, and of its part.
    :param piece: What is read.
    :param size: Its bytes.
    """

    order: tuple[int, int]
    piece: Piece
    size: int


def plan(files: Files, shards: int, reading: Reading, stores: Stores | None = None) -> list[list[dict[str, Any]]]:
    """
    Return what each of some tasks reads: together all records of the files, and each of them once.

    Lines of JSONL and CSV files and row groups of Parquet files are divided; other files, and compressed ones, are read
    by one task each.

    :param files: What the files are, as for a delivery.
    :param shards: How many tasks. There may be fewer shards, where the files cannot be divided so often.
    :param reading: How the files are read.
    :param stores: Gives the file systems of object stores.
    :return: For each task a list of parts, each a mapping that ``files`` takes.
    :raises SourceError: if a file cannot be read.
    """
    pieces = expand(files, stores)
    states = [piece.state() for piece in pieces]
    even = sum(state.size for state in states) / shards
    shares: list[_Share] = []
    for number, (piece, state) in enumerate(zip(pieces, states, strict=True)):
        reader_of(piece, reading)  # a format that is not known is found before any task starts
        whole = replace(piece, expected=state)
        count = math.ceil(state.size / even) if even else 1
        parts = [_Share((number, 0), whole, state.size)]
        if count > 1 and piece.bytes is None and piece.row_groups is None:
            parts = list(_divided(number, whole, state, count, reading)) or parts
        shares += parts
    return [_described(shard) for shard in _dealt(shares, shards)]


def _divided(number: int, piece: Piece, state: State, count: int, reading: Reading) -> Iterator[_Share]:
    """Yield parts of a file; nothing where it is read as a whole."""
    kind = format_of(piece.path, reading)
    with closing(piece.open()) as stream:
        if decompressed(stream, piece.path) is not stream:
            return
        if kind == "parquet":
            yield from _row_groups(number, piece, row_group_sizes(stream, piece.path), count)
            return
        targets = [state.size * part // count for part in range(1, count)]
        if kind == "jsonl":
            cuts = cut_lines(stream, targets)
        elif kind in {"csv", "tsv"}:
            cuts = cut_table(stream, piece.path, targets, csv_options(reading))
        else:
            return
    bounds = [0, *cuts, state.size]
    for part, (begin, end) in enumerate(pairwise(bounds)):
        if begin < end:
            yield _Share((number, part), replace(piece, bytes=(begin, end)), end - begin)


def _row_groups(number: int, piece: Piece, groups: Sequence[tuple[int, int]], count: int) -> Iterator[_Share]:
    """Yield runs of row groups of about the same size."""
    whole = sum(size for _, size in groups)
    begin = runs = done = held = 0
    for at, (_, size) in enumerate(groups, 1):
        held += size
        if (done + held) * count >= whole * (runs + 1) or at == len(groups):
            yield _Share((number, begin), replace(piece, row_groups=(begin, at)), held)
            begin, runs, done, held = at, (done + held) * count // whole if whole else 0, done + held, 0


def _dealt(shares: Sequence[_Share], shards: int) -> list[list[_Share]]:
    """Deal parts to tasks so that each has about the same: the largest first, each to the one that has least."""
    dealt: list[list[_Share]] = [[] for _ in range(shards)]
    sizes = [0] * shards
    for share in sorted(shares, key=lambda share: -share.size):
        least = sizes.index(min(sizes))
        dealt[least].append(share)
        sizes[least] += share.size or 1
    in_order = [sorted(shard, key=lambda share: share.order) for shard in dealt if shard]
    return sorted(in_order, key=lambda shard: shard[0].order)


def _described(shard: Sequence[_Share]) -> list[dict[str, Any]]:
    """Return parts as JSON can hold them; neighbours as one."""
    described: list[dict[str, Any]] = []
    for share in shard:
        piece, expected = share.piece, share.piece.expected
        part: dict[str, Any] = {"file": piece.path}
        for name, held in (("bytes", piece.bytes), ("row_groups", piece.row_groups)):
            if held is not None:
                part[name] = list(held)
                before = described[-1] if described else {}
                if before.get("file") == piece.path and before.get(name, [0, -1])[1] == held[0]:
                    before[name][1] = held[1]
                    part = {}
                    break
        if part and expected is not None:
            described.append({**part, "size": expected.size, "version": expected.version})
    return described
