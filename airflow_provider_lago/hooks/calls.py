"""One call to Lago before it is sent, and one page of a list after it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lago.api.calls import build_call
from airflow_provider_lago.api.paths import PathError
from airflow_provider_lago.api.wire import WireError
from airflow_provider_lago.exceptions import LagoApiError, LagoInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lago.api.calls import Call


def prepare(
    method: str,
    endpoint: str,
    *,
    params: Mapping[str, Any] | None = None,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    idempotent: bool | None = None,
) -> Call:
    """
    Check and encode a call; see :meth:`~airflow_provider_lago.hooks.lago.LagoHook.request` for the arguments.

    :raises LagoInputError: An argument cannot be sent.
    """
    try:
        return build_call(method, endpoint, params=params, json=json, headers=headers, idempotent=idempotent)
    except (PathError, WireError) as error:
        problem = str(error)
    raise LagoInputError(problem)


def read_page(body: Any, collection: str | None, page: int, path: str) -> tuple[list[Any], int | None]:
    """
    Return the items of one page of a list, and the number of the next page or None.

    :param body: Decoded answer.
    :param collection: Key of the list; None takes the only one.
    :param page: Number of this page.
    :param path: Path of the list below ``/api/v1``.
    :raises LagoApiError: There is no such list, or the pages do not advance.
    """
    lists = {name: value for name, value in body.items() if isinstance(value, list)} if isinstance(body, dict) else {}
    if collection is None:
        collection = next(iter(lists), None) if len(lists) == 1 else None
    if collection not in lists:
        found = ", ".join(map(str, lists)) or "none"
        raise LagoApiError(
            f"GET {path}: the answer does not hold the one list to page through (lists: {found}); name it "
            "with collection=",
            method="GET",
            path=path,
        )
    meta = body.get("meta")
    following = meta.get("next_page") if isinstance(meta, dict) else None
    if following is not None and (not isinstance(following, int) or following <= page):
        raise LagoApiError(
            f"GET {path}: page {page} names {following!r} as the next one, so the pages would never end",
            method="GET",
            path=path,
        )
    return lists[collection], following
