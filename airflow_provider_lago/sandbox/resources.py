"""What the handlers of most resources have in common: one by its code or id, and pages of them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_lago.sandbox.answers import Answer, invalid, not_found, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.pages import cut, meta
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.world import World

MANDATORY = ["value_is_mandatory"]


def must_find(world: World, kind: str, code: str) -> Doc:
    """The document of a path, or 404."""
    doc = world.store.find(kind, code)
    if doc is None:
        raise not_found(kind)
    return doc


def must_get(world: World, kind: str, lago_id: str) -> Doc:
    """The document with an id of Lago's, or 404."""
    doc = world.store.present(kind, lago_id)
    if doc is None:
        raise not_found(kind)
    return doc


def must_be_new(world: World, kind: str, code: str) -> None:
    """Refuse a code that is taken."""
    if world.store.find(kind, code) is not None:
        raise invalid({"code": ["value_already_exist"]})


def require(given: dict[str, Any], *names: str) -> dict[str, object]:
    """The errors of fields that are missing or blank."""
    return {name: MANDATORY for name in names if given.get(name) in (None, "")}


def decimal(value: object) -> Decimal | None:
    """A number as Lago takes amounts: a JSON number or its text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def text(value: object) -> str:
    """Ids and names are stringified and stripped; numbers are accepted."""
    return "" if value is None or isinstance(value, (dict, list)) else str(value).replace("\0", "").strip()


def listed(
    call: Call,
    world: World,
    kind: str,
    name: str,
    *,
    owner: str | None = None,
    shown: Callable[[Doc, World], Doc] = lambda doc, _world: doc,
) -> Answer:
    """A page of all documents of a kind, or of a customer's, newest first."""
    page, size = call.page()
    numbers = meta(page, size, world.store.count(kind, owner=owner))
    docs = world.store.page(kind, owner=owner, limit=size, offset=(page - 1) * size)
    return ok({name: [shown(doc, world) for doc in docs], "meta": numbers})


def listed_docs(call: Call, name: str, docs: list[Doc]) -> Answer:
    """A page of documents that were picked one by one."""
    page, size = call.page()
    numbers = meta(page, size, len(docs))
    return ok({name: list(cut(docs, page, size)), "meta": numbers})
