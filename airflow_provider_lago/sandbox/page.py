"""The page at ``/``: what the sandbox holds, for people. Records are data here, never markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from airflow_provider_lago.sandbox.journal import SeenError
from airflow_provider_lago.sandbox.store import Store
from airflow_provider_lago.sandbox.times import iso_ms

_ROWS = 15
_LONGEST = 120
_COUNTS = (
    ("events", "events"),
    ("duplicates_refused", "duplicates refused"),
    ("customers", "customers"),
    ("subscriptions", "subscriptions"),
    ("billable_metrics", "metrics"),
    ("plans", "plans"),
    ("requests", "requests"),
)

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lago sandbox</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
ul.counts { display: flex; flex-wrap: wrap; gap: .6rem; list-style: none; padding: 0; }
ul.counts li { border: 1px solid #d5dae0; border-radius: 6px; padding: .5rem .9rem; }
ul.counts b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #e6e9ed;
         overflow-wrap: anywhere; vertical-align: top; }
th { color: #57606a; font-weight: 600; } td.n { font-variant-numeric: tabular-nums; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem; }
.none { color: #57606a; }
</style>
</head>
<body>
"""


def render(store: Store, state: dict[str, Any], errors: Sequence[SeenError]) -> str:
    """The whole page."""
    counts = "".join(f"<li><b>{_text(f'{state[name]:,}')}</b>{label}</li>" for name, label in _COUNTS)
    last = store.events(order="seq DESC", limit=f"LIMIT {_ROWS}")
    events = _table(
        ("transaction_id", "subscription", "code", "timestamp", "properties"),
        (
            (
                row.transaction_id,
                row.external_subscription_id,
                row.code,
                iso_ms(row.timestamp),
                row.properties.decode(errors="replace"),
            )
            for row in last
        ),
    )
    refusals = _table(
        ("status", "request", "body"),
        ((error.status, f"{error.method} {error.path}", error.body) for error in reversed(errors)),
    )
    faults = _table(
        ("kind", "requests", "matched", "fired"),
        (
            (rule["kind"], f"{rule.get('method', '')} {rule.get('path', '')}", rule["matched"], rule["fired"])
            for rule in state["faults"]
        ),
    )
    codes, subscriptions = store.tallies(_ROWS)
    by_code = _table(("metric", "events"), codes)
    by_subscription = _table(("subscription", "events"), subscriptions)
    return (
        f"{_HEAD}<h1>Lago sandbox <small>({_text(state['store'])} store)</small></h1>"
        f'<ul class="counts">{counts}</ul>'
        f'<div class="pair"><section><h2>Events per metric</h2>{by_code}</section>'
        f"<section><h2>Events per subscription</h2>{by_subscription}</section></div>"
        f"<h2>Last events</h2>{events}<h2>Last errors</h2>{refusals}<h2>Faults</h2>{faults}</body></html>\n"
    )


def _text(value: object) -> str:
    text = "—" if value is None else str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="n">{cell:,}</td>' if isinstance(cell, int) else f"<td>{_text(cell)}</td>" for cell in row
        )
        + "</tr>"
        for row in rows
    )
    if not body:
        return '<p class="none">none</p>'
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{body}</table>"
