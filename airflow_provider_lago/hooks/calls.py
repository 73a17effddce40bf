"""One call to Lago before it is sent, and one page of a list after it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

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


@dataclass(frozen=True, slots=True)
class Page:
    """
    One page of a list.

    :param number: Its number, from 1.
    :param items: Its items.
    :param following: Number of the next page; None on the last one.
    :param total_count: How many items Lago says that the whole list has; None where it does not say.
    """

    number: int
    items: list[Any]
    following: int | None
    total_count: int | None


def decode_raw(body: bytes) -> Any:
    """
    Decode the answer to a list, and leave each item as the bytes that came (``msgspec.Raw``).

    :param body: JSON.
    :raises msgspec.DecodeError: It is no JSON.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:  # JSON, but no object
        return msgspec.json.decode(body)
    return {name: _decode_field(value) for name, value in fields.items()}


def _decode_field(value: msgspec.Raw) -> Any:
    is_list = bytes(memoryview(value)[:1]) == b"["
    return msgspec.json.decode(value, type=list[msgspec.Raw]) if is_list else msgspec.json.decode(value)


def read_page(body: Any, collection: str | None, page: int, path: str) -> Page:
    """
    Return one page of a list.

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
    total = meta.get("total_count") if isinstance(meta, dict) else None
    return Page(page, lists[collection], following, total if isinstance(total, int) else None)
