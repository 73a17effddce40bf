"""Read lists from Lago."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_lago.exceptions import (
    LagoApiError,
    LagoException,
    LagoFatalApiError,
    LagoInputError,
)
from airflow_provider_lago.extraction.extraction import Extraction, ListMoved, Plan, Stopped
from airflow_provider_lago.extraction.manifest import MANIFEST
from airflow_provider_lago.extraction.window import OutsideWindow, Window
from airflow_provider_lago.operators.arguments import as_bool, check_whole
from airflow_provider_lago.operators.folders import open_folder
from airflow_provider_lago.storage.folders import Folder

if TYPE_CHECKING:
    from datetime import date

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lago.hooks.calls import Page
    from airflow_provider_lago.hooks.lago import LagoHook

#: More of them make answers that take Lago longer than a connection's timeout.
_MOST_PER_PAGE = 1_000
_MOST_PAGES_PER_PART = 10_000
_MOST_ITEMS = 10**12


class LagoExtractOperator(BaseOperator):
    """
    Read a list of Lago into a folder of JSON lines: each item as Lago wrote it, with every digit of its numbers.

    The list is read page by page, written in parts, and gone on with where it stopped when Airflow retries the task.
    At most one part, and never more than 32 MiB and a page, is in memory. An item that comes twice because rows were
    inserted meanwhile is written once. See the guide for what a list that changes while it is read means.

    :param endpoint: The list, a path below ``/api/v1``: ``events``, ``invoices``, ``customers/acme/wallets``.
        (templated)
    :param path: Folder for the parts, ``part-000001.jsonl`` and so on, and for the manifest ``extract.json``: a local
        path, or the URI of an object store such as ``s3://bucket/lago``. One for each task, and better one for each
        run. A mapped task writes into a folder of its map index below it. (templated)
    :param filters: Query values of the list's own filters: ``{"external_subscription_id": "acme", "status[]":
        ["active"]}``. Lago ignores those that it does not know. (templated)
    :param timestamp_from: First time to read, a datetime or ISO 8601 text (UTC if it names no zone, cut to
        milliseconds). None and empty texts mean from the beginning. Only for lists of events. (templated)
    :param timestamp_to: First time not to read any more, so that windows that touch share no item; else like
        ``timestamp_from``. A time in the past makes a list that does not move while it is read. (templated)
    :param collection: Key of the list in Lago's answer; None takes the one list that the answer holds. (templated)
    :param object_store_conn_id: Airflow connection of the object store; None takes its default one. (templated)
    :param per_page: Items of a page, 1 to 1,000.
    :param pages_per_part: Pages of a part. What a killed worker has to read again is at most one part.
    :param limit: Stop after so many items; None reads all.
    :param skip_on_empty: Skip the task if there are no items. By default it succeeds without parts.
    :param lago_conn_id: The Airflow connection to Lago. (templated)
    :return: ``items``, ``pages``, ``parts``, ``duplicates_dropped``, ``at_end_dropped`` (items at ``timestamp_to``
        itself), ``total_count`` (Lago's own, ``first`` and ``last``), ``notes`` (what may be missing, and what to do),
        ``resumed_at_page``, ``seconds``, ``timestamp_from``, ``timestamp_to``, ``path``, ``files`` (a glob of the
        parts), ``manifest``.
    :raises LagoInputError: if an argument is wrong, or the folder is another task's or another run's; not
        retried by Airflow.
    :raises LagoFatalApiError: if Lago refuses the key, the permission or the address, or ignores the window; not
        retried.
    :raises LagoApiError: if Lago could not be reached, or answered what it should not; a retry goes on behind the last
        page that was read.
    :raises LagoException: if the list moved too fast, or Airflow ended the task.
    """

    template_fields: Sequence[str] = (
        "lago_conn_id",
        "endpoint",
        "path",
        "filters",
        "timestamp_from",
        "timestamp_to",
        "collection",
        "object_store_conn_id",
    )
    # No extensions: a path that ends in one would be replaced by the content of a file.
    template_ext: Sequence[str] = ()
    template_fields_renderers: ClassVar[dict[str, str]] = {"filters": "json"}
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        endpoint: str,
        path: str | os.PathLike[str],
        filters: Mapping[str, Any] | None = None,
        timestamp_from: date | str | None = None,
        timestamp_to: date | str | None = None,
        collection: str | None = None,
        object_store_conn_id: str | None = None,
        per_page: int = 100,
        pages_per_part: int = 100,
        limit: int | None = None,
        skip_on_empty: bool = False,
        lago_conn_id: str = "lago_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.path = path
        self.filters = filters
        self.timestamp_from = timestamp_from
        self.timestamp_to = timestamp_to
        self.collection = collection
        self.object_store_conn_id = object_store_conn_id
        self.per_page = per_page
        self.pages_per_part = pages_per_part
        self.limit = limit
        self.skip_on_empty = skip_on_empty
        self.lago_conn_id = lago_conn_id

    _extraction: Extraction | None = None

    @cached_property
    def hook(self) -> LagoHook:
        """The hook of this task's connection."""
        # Imported here because requests is most of what importing this module would cost every parsing of a DAG file.
        from airflow_provider_lago.hooks.lago import LagoHook

        return LagoHook(self.lago_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the list and return the summary."""
        run = _run_of(context)
        try:
            skip_on_empty = as_bool(self.skip_on_empty, "skip_on_empty")
            plan = self._plan()
            folder = self._folder(run)
        except ValueError as error:
            raise self._input_error(error) from None
        self.log.info(
            "Reading %s%s into %s", plan.endpoint, f" of {plan.window}" if plan.window.query() else "", folder
        )
        summary = self._extract(plan, folder, run)
        if not summary["items"] and skip_on_empty:
            raise AirflowSkipException(f"{plan.endpoint} holds no items that were asked for")
        return summary

    def on_kill(self) -> None:
        """End behind the page that is read at present, and keep what was read for a retry."""
        if self._extraction is not None:
            self._extraction.stop()

    def _plan(self) -> Plan:
        from airflow_provider_lago.api.wire import encode_query

        filters = self.filters or {}
        if not isinstance(filters, Mapping):
            raise ValueError(f"filters must be a dict of query values, not a {type(filters).__name__}")
        own = {"page", "per_page", "timestamp_from", "timestamp_to"} & set(filters)
        if own:
            raise ValueError(f"filters must not hold {sorted(own)}: these are set by the operator's own arguments")
        window = Window.of(self.timestamp_from, self.timestamp_to)
        return Plan(
            origin=self.hook.settings.api_url,
            endpoint=self.endpoint,
            collection=self.collection or None,
            query=tuple(encode_query({**filters, **window.query()})),
            window=window,
            per_page=check_whole("per_page", self.per_page, 1, _MOST_PER_PAGE),
            pages_per_part=check_whole("pages_per_part", self.pages_per_part, 1, _MOST_PAGES_PER_PART),
            limit=0 if self.limit is None else check_whole("limit", self.limit, 1, _MOST_ITEMS),
        )

    def _folder(self, run: Mapping[str, Any]) -> Folder:
        """Return where the parts go, and refuse what cannot be one before anything is read."""
        path = os.fspath(self.path) if isinstance(self.path, (str, os.PathLike)) else ""
        if not path.strip():
            raise ValueError(f"path must name a folder, not {self.path!r}")
        below = run["map_index"]
        return open_folder(
            "path", path, str(below) if below is not None and below >= 0 else "", self.object_store_conn_id
        )

    def _extract(self, plan: Plan, folder: Folder, run: Mapping[str, Any]) -> dict[str, Any]:
        def read(first: int) -> Iterator[Page]:
            return self.hook.pages(
                plan.endpoint,
                collection=plan.collection,
                params={**(self.filters or {}), **plan.window.query()},
                per_page=plan.per_page,
                first_page=first,
                raw=True,
            )

        self._extraction = extraction = Extraction(plan, folder, read, run, self.log)
        try:
            summary = extraction.extract()
        except ListMoved as error:
            raise LagoException(f"Task {self.task_id!r}: {error}; a retry starts anew") from None
        except Stopped as error:
            raise LagoException(f"Task {self.task_id!r}: {error}; a retry goes on there") from None
        except OutsideWindow as error:
            raise LagoFatalApiError(f"Task {self.task_id!r}: {error}", method="GET", path=plan.endpoint) from None
        except LagoApiError as error:
            if error.http_status_code != 422:
                raise
            raise self._input_error(error) from None  # a filter's value: Lago would say the same again
        except ValueError as error:
            raise self._input_error(error) from None
        finally:
            self.hook.close()
        return summary | {
            "path": str(folder),
            "files": f"{glob.escape(str(folder))}/part-*.jsonl",
            "manifest": f"{folder}/{MANIFEST}",
        }

    def _input_error(self, error: object) -> LagoInputError:
        return LagoInputError(f"Task {self.task_id!r}: {error}")


def _run_of(context: Context) -> dict[str, Any]:
    ti = context.get("ti")
    return {name: getattr(ti, name, None) for name in ("dag_id", "run_id", "task_id", "map_index", "try_number")}
