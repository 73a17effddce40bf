"""Finding what Lago holds under an id of the user's own, dots in it or not."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from airflow_provider_lago.api.calls import Call, build_call
from airflow_provider_lago.api.paths import path
from airflow_provider_lago.delivery.calls.conversation import Reply, rejected
from airflow_provider_lago.delivery.outcomes import Outcome, Settled

Held = Mapping[str, Any]

#: Yields the calls of a look-up; returns what was found, None for nothing, or why it cannot be known.
LookUp = Generator[Call, Reply, Held | Settled | None]

#: Rows of a page of a list that is filtered by an id, more than there should be: a release that does not know the
#: filter fills it with others.
_ROWS = 20

_NOT_FILTERED = "external_id: cannot be looked up"


def find(resource: str, external_id: str, **params: Any) -> LookUp:
    """
    Look up one object by its ``external_id``.

    Lago ends an id in a path at its first dot, so that a dotted one is looked for in the list. Its filter came with
    release 1.49; older ones ignore it, which shows in what they answer.

    :param resource: ``customer`` or ``subscription``.
    :param external_id: The id.
    :param params: Query values, such as the ``status`` of a subscription.
    """
    if "." in external_id:
        found = yield from find_all(resource, external_id, **params)
        return found if isinstance(found, Settled) else next(iter(found), None)
    reply = yield build_call("GET", path(f"{resource}s", external_id), params=params, expects=resource)
    if reply.succeeded:
        held = reply.part(resource)
        if held.get("external_id") == external_id:
            return held
        return _mistaken(resource, external_id, held.get("external_id"))
    if reply.status == 404 and reply.refusal.code == "resource_not_found":
        # A proxy on the way decodes the slash in the id; the list takes it as a query value.
        found = yield from find_all(resource, external_id, **params)
        return found if isinstance(found, Settled) else next(iter(found), None)
    if reply.status == 404:
        return None
    return _unknown(reply, resource)


def find_all(resource: str, external_id: str, **params: Any) -> Generator[Call, Reply, list[Held] | Settled]:
    """Look up all objects with an ``external_id`` in the list; see :func:`find`."""
    rows: list[Held] = []
    page: int | None = 1
    while page is not None:
        query = {"external_id": external_id, "per_page": _ROWS, "page": page if page > 1 else None, **params}
        reply = yield build_call("GET", f"{resource}s", params=query, expects=f"{resource}s")
        body = reply.json() if reply.succeeded else None
        if not isinstance(body, dict):
            return _unknown(reply, resource)
        found = body[f"{resource}s"]
        if any(row.get("external_id") != external_id for row in found):
            return Settled(
                Outcome.REJECTED,
                reason=_NOT_FILTERED,
                detail="this release of Lago does not filter its lists by external_id (1.49.0 does), and an id with a "
                "dot cannot be looked up in another way",
            )
        rows += found
        meta = body.get("meta")
        following = meta.get("next_page") if isinstance(meta, dict) else None
        page = following if found and isinstance(following, int) and following > page else None
    return rows


def is_not_filtered(found: object) -> bool:
    """Tell whether a look-up in the list failed because this release of Lago does not filter it."""
    return isinstance(found, Settled) and found.reason == _NOT_FILTERED


def _unknown(reply: Reply, resource: str) -> Settled:
    return rejected(reply, f"Lago did not say whether it holds the {resource}; nothing was sent")


def _mistaken(resource: str, wanted: str, found: Any) -> Settled:
    return Settled(
        Outcome.REJECTED,
        reason="external_id: Lago answers another one",
        detail=f"asked for {resource} {wanted!r}, Lago answered {found!r}; nothing was sent",
    )
