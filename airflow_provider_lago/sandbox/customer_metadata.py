"""The metadata of customers."""

from __future__ import annotations

import uuid

from airflow_provider_lago.sandbox.answers import invalid
from airflow_provider_lago.sandbox.resources import MANDATORY, text
from airflow_provider_lago.sandbox.store import Doc

LIMIT = 5
_LONGEST = (("key", 20), ("value", 100))


def replaced(held: list[Doc], given: object, created_at: str) -> list[Doc]:
    """
    Replace the whole set, matched by ``id``.

    Lago goes through the items in their order and deletes what was not among them only then: a key sent
    again without its id collides with the row that was about to go.

    :raises Refusal: 422 for the first item that does not fit.
    """
    items = [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    rows = {row["lago_id"]: row for row in held}
    named: set[str] = set()
    for item in items:
        row = rows.get(str(item.get("id")))
        key, value = (text(item.get(name, row and row[name])) for name in ("key", "value"))
        _check(key, value, {other["key"] for other in rows.values() if other is not row})
        lago_id = row["lago_id"] if row else str(uuid.uuid4())
        rows[lago_id] = {
            "lago_id": lago_id,
            "key": key,
            "value": value,
            # Not kept when it is left out, unlike the others.
            "display_in_invoice": bool(item.get("display_in_invoice")),
            "created_at": row["created_at"] if row else created_at,
        }
        named.add(lago_id)
    return [row for lago_id, row in rows.items() if lago_id in named]


def _check(key: str, value: str, taken: set[str]) -> None:
    errors: dict[str, object] = {}
    for (name, longest), given in zip(_LONGEST, (key, value), strict=True):
        if not given:
            errors[name] = MANDATORY
        elif len(given) > longest:
            errors[name] = ["value_is_too_long"]
    if key in taken:
        errors.setdefault("key", ["value_already_exist"])
    if errors:
        raise invalid(errors)
