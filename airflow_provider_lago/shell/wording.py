"""The words that commands print. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_lago.delivery.plan import Sample
from airflow_provider_lago.delivery.preview import shown_header
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import RECORDS

#: What a receipt says in its own place; anything else are facts of one kind of delivery.
_OWN = frozenset({"position", "origin", "line", "id", "outcome", "kind", "lago_id", "request_id", "reason", "code"})


def request_lines(number: int, sample: Sample) -> Iterator[str]:
    """
    Return a request in lines, as it would be sent.

    :param number: Which request it is, from 1.
    :param sample: The request.
    """
    yield f"Request {number} ({records(sample.records)}): {sample.method} {sample.url}"
    for name, value in sample.headers:
        yield f"{name}: {shown_header(name, value)}"
    if sample.body:
        yield pretty(sample.body)


def pretty(body: str) -> str:
    """Return a JSON text laid out for reading, every number digit by digit; another text as it is."""
    try:
        return msgspec.json.format(body, indent=2)
    except msgspec.DecodeError:
        return body


def records(count: int) -> str:
    """Return a number of records in words."""
    return f"{count:,} record{'' if count == 1 else 's'}"


def counts(tally: Tally) -> str:
    """Return what became of the records that a preview took."""
    waiting = tally.read - tally.settled
    parts = (f"{waiting:,} in requests", f"{tally.rejected:,} rejected", f"{tally.skipped:,} skipped")
    return f"{records(tally.read)} read: {', '.join(parts)}."


def receipt(line: Mapping[str, Any], id_field: str, detail: str) -> str:
    """
    Return the receipt of a record as a sentence.

    :param line: The receipt.
    :param id_field: What its id is called.
    :param detail: More about the reason, or nothing.
    """
    place = "" if line["origin"] == RECORDS else f"{line['origin']} line {line['line']}"
    where = ", ".join(filter(None, (place, f"{id_field} {line['id']}" if line.get("id") else "")))
    said = [f"{line['outcome']}{_in_brackets(line.get('kind'))}"]
    if line.get("reason"):
        code = line.get("code") if line.get("code") != line["reason"] else None
        said.append(f"{line['reason']}{_in_brackets(code)}" + (f" - {detail}" if detail else ""))
    said += [f"{name} {line[name]}" for name in ("lago_id", "request_id") if line.get(name)]
    said += [f"{name} {value}" for name, value in line.items() if name not in _OWN and value is not None]
    return f"Record {line['position']}{_in_brackets(where)}: {'; '.join(said)}"


def _in_brackets(text: Any) -> str:
    return f" ({text})" if text else ""


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows with their columns aligned, indented."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"  {line}".rstrip() for line in lines)
