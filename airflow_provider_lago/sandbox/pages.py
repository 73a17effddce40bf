"""List answers and their ``meta``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from airflow_provider_lago.sandbox.answers import crash

Row = TypeVar("Row")


def meta(page: int, size: int, total: int) -> dict[str, Any]:
    """
    The numbers under a list.

    An empty result counts as page 0; a page of size 0 is a division by zero in Lago.
    """
    if size == 0 and total:
        raise crash()
    if not total:
        return {"current_page": 0, "next_page": None, "prev_page": None, "total_pages": 0, "total_count": 0}
    pages = -(-total // size)
    return {
        "current_page": page,
        "next_page": page + 1 if page < pages else None,
        "prev_page": page - 1 if page > 1 else None,
        "total_pages": pages,
        "total_count": total,
    }


def cut(rows: Sequence[Row], page: int, size: int) -> Sequence[Row]:
    """The rows of one page."""
    return rows[(page - 1) * size : page * size]
