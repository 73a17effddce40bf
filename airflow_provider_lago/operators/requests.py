"""Call any endpoint of Lago."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from airflow.providers.common.compat.sdk import AirflowSkipException, determine_kwargs

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import Call, build_call
from airflow_provider_lago.api.endpoints import bills, is_final, moves_money
from airflow_provider_lago.api.retry import is_repeatable
from airflow_provider_lago.api.wire import check_method, encode_json, read_headers
from airflow_provider_lago.delivery.calls.requests import (
    Body,
    BuildRequest,
    RequestPlan,
    check_template,
    neutral,
    takes_body,
)
from airflow_provider_lago.exceptions import LagoDeliveryError, LagoFatalDeliveryError, LagoRejectedError
from airflow_provider_lago.extraction.items import line_of
from airflow_provider_lago.operators.answers import Noted, as_response, decoded, write_lines
from airflow_provider_lago.operators.arguments import Threshold, as_bool, as_count, check_whole
from airflow_provider_lago.operators.base import LagoDeliveryOperator, so_far
from airflow_provider_lago.sources.rows import Source
from airflow_provider_lago.sources.values import ValueSource

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lago.delivery.checkpoint import Durability
    from airflow_provider_lago.delivery.delivery import Result
    from airflow_provider_lago.delivery.plan import Plan
    from airflow_provider_lago.delivery.report import Report
    from airflow_provider_lago.storage.folders import Folder

#: Records of a request where several may go together.
_BATCH = 100

#: Failures of the user's response_filter that the log names.
_NAMED = 5

_BODY = ("data", "root", "envelope", "extra_body", "build_request")

#: What a list that is paged through has no use for.
_NOT_PAGED = (
    "records",
    "files",
    *_BODY,
    "group_by",
    "headers",
    "response_check",
    "response_webhook_conn_id",
)


class LagoGenericRequestOperator(LagoDeliveryOperator):
    """
    Call any endpoint of Lago: once, or for each record or group of records of a source.

    Without ``records``, ``files`` and ``sql`` one request is sent, with ``data`` as its body, and its answer is
    returned. With a source each record is a request, or each group of records where ``envelope``, ``group_by`` or
    ``build_request`` say so, and the summary of a delivery is returned.

    **Repeating.** A request that Lago may have executed although its answer was lost is repeated only if it reads, or
    with ``idempotent=True``; else its records are rejected with that reason. Requests that move money (invoices,
    wallets, credit notes, payments, applied coupons, subscriptions ...) are sent once, whatever is said, and a second
    try of the task by Airflow refuses to send them. What was refused before Lago saw it (429, a refused connection) is
    always tried again.

    Takes all arguments of :class:`~airflow_provider_lago.operators.base.LagoDeliveryOperator`, and raises the same.
    With ``fields`` a payload has just those; without, it is the record.

    :param endpoint: Path below ``/api/v1``, such as ``coupons``; ``{column}`` stands for a value of the record, as in
        ``customers/{external_id}``, which is percent-encoded. A record without it is rejected. (templated)
    :param method: ``POST`` (default), ``PUT``, ``PATCH``, ``DELETE`` or ``GET``.
    :param data: Body of the one request, where there are no records: a dict, or JSON text of one. Query values of a
        ``GET`` go into ``query``. (templated)
    :param query: Query values; ``{column}`` stands for a value of the record, a list goes out as ``key[]``. (templated)
    :param headers: Additional headers, as a dict or as text: ``"h1:v1,h2:v2"``. ``Authorization`` and others that the
        connection gives cannot be given. (templated)
    :param root: Key under which a payload stands in the body: ``"wallet"`` makes ``{"wallet": {...}}``.
    :param envelope: Key of the list that holds the payloads of a group: ``"events"`` makes ``{"events": [...]}``.
    :param extra_body: What stands beside the payloads in each body. (templated)
    :param group_by: Column, or dotted path, whose value the records of a request share. The values in ``endpoint`` and
        ``query`` are shared too. Requests of one group are sent one after the other, in the order of the source.
    :param build_request: Callable list of payloads -> body, instead of ``root``, ``envelope`` and ``extra_body``. Where
        it fails, the records of the request are rejected.
    :param batch_size: Most records of a request: by default 100 where they are grouped, and else 1.
    :param idempotent: Say True where the request does no harm when Lago executes it twice.
    :param confirm: Must be True for what cannot be undone: ``DELETE``, ``.../void``, ``.../terminate``,
        ``.../lose_dispute``. A dry run needs none.
    :param response_check: Callable response -> bool, as in Airflow's HttpOperator: a ``requests.Response``, and the
        context by keyword. False rejects the records of the request, though Lago did what it was asked for.
    :param response_filter: Callable response -> value, as in Airflow's HttpOperator. Without records it is what the
        task returns; with records it is what goes to ``responses_path`` and the webhook. With ``paginate`` it gets the
        list of all items.
    :param paginate: For ``GET`` without records: return the items of all pages of a list; with ``responses_path`` they
        are written there, one a line, and counted. ``limit`` bounds their number.
    :param collection: Key of the list to page through; by default the only one in the answer.
    :param concurrency: Requests in flight.
    :return: Without records the decoded answer, or what ``response_filter`` makes of it; with records the summary.
    """

    template_fields: Sequence[str] = (
        *LagoDeliveryOperator.template_fields,
        "endpoint",
        "method",
        "data",
        "query",
        "headers",
        "extra_body",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **LagoDeliveryOperator.template_fields_renderers,
        "data": "json",
        "query": "json",
        "headers": "json",
        "extra_body": "json",
    }

    def __init__(
        self,
        *,
        endpoint: str,
        method: str = "POST",
        data: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | str | None = None,
        root: str | None = None,
        envelope: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        group_by: str | None = None,
        build_request: BuildRequest | None = None,
        batch_size: int | None = None,
        idempotent: bool | None = None,
        confirm: bool = False,
        response_check: Callable[..., bool] | None = None,
        response_filter: Callable[..., Any] | None = None,
        paginate: bool = False,
        collection: str | None = None,
        concurrency: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(concurrency=concurrency, **kwargs)
        # What another task returns may turn out to be None: that is no word for one request without records.
        self._has_source = not kwargs.keys().isdisjoint(("records", "files", "sql"))
        self.endpoint = endpoint
        self.method = method
        self.data = data
        self.query = query
        self.headers = headers
        self.root = root
        self.envelope = envelope
        self.extra_body = extra_body
        self.group_by = group_by
        self.build_request = build_request
        self.batch_size = batch_size
        self.idempotent = idempotent
        self.confirm = confirm
        self.response_check = response_check
        self.response_filter = response_filter
        self.paginate = paginate
        self.collection = collection
        self._context: Context | None = None
        self._answered: tuple[Call, Answer] | None = None
        self._objection: Exception | None = None
        self._unfiltered = 0

    @property
    def bills(self) -> bool:
        """Whether the endpoint moves money or takes usage."""
        return bills(check_method(self.method), neutral(self.endpoint))

    @property
    def once(self) -> bool:
        """Whether a request must never be sent twice."""
        return moves_money(self.method, neutral(self.endpoint))

    def execute(self, context: Context) -> Any:
        """Send the request, or those of all records, and return the answer or the summary."""
        if self.paginate:
            self._context = context
            return self._pages(context)
        summary = super().execute(context)
        if not self._is_single or "preview" in summary:
            return summary
        return self._returned()

    @property
    def _is_single(self) -> bool:
        return not self._has_source and self.records is None and self.files is None and self.sql is None

    def _source(self) -> Source:
        if not self._is_single:
            if self.data is not None:
                raise ValueError(
                    "data is the body of the one request without records: give records, files, sql or data"
                )
            return super()._source()
        return ValueSource([_as_object("data", self.data)])

    def _plan(self, common: dict[str, Any]) -> RequestPlan:
        method = check_method(self.method)
        check_template(method, self.endpoint)
        body = self._body(method)
        size = self.batch_size if self.batch_size is not None else (_BATCH if body.groups or self.group_by else 1)
        check_whole("batch_size", size, 1, 10_000)
        if size > 1 and not body.groups:
            raise ValueError("several records in a request need envelope='...' or build_request: say how they are sent")
        confirmed = as_bool(self.confirm, "confirm") or as_bool(self.preview, "dry_run")
        if is_final(method, neutral(self.endpoint)) and not confirmed:
            raise ValueError(f"{method} {self.endpoint} cannot be undone: set confirm=True where it is meant")
        if self.idempotent not in (None, True, False):
            raise ValueError(f"idempotent must be True, False or None, not {self.idempotent!r}")
        if self.once and self.idempotent:
            raise ValueError(f"{method} {self.endpoint} moves money and is sent once: take idempotent=True away")
        self._advise(size)
        return RequestPlan(
            shaping=self._shaping(),
            method=method,
            endpoint=self.endpoint,
            query=_as_object("query", self.query),
            headers=read_headers(self.headers),
            body=body,
            batch_size=size,
            group_by=self.group_by,
            idempotent=False if self.once else self.idempotent,
            accepts=self._accepts if self.response_check is not None or self._is_single else None,
            filters=None if self.response_filter is None else self._filtered,
            **common,
        )

    def _body(self, method: str) -> Body:
        given = [name for name in _BODY if getattr(self, name) is not None]
        if given and not takes_body(method):
            raise ValueError(f"Lago reads no body of {method}: take {given[0]} away; values of a query go into query")
        given = [name for name in ("root", "envelope", "build_request") if name in given]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}: each says how the body is made")
        extra = _as_object("extra_body", self.extra_body)
        if self.build_request is not None:
            if not callable(self.build_request):
                raise ValueError(f"build_request must be a function, not {self.build_request!r}")
            if extra:
                raise ValueError("build_request makes the whole body: let it put in what extra_body holds")
        for name in ("root", "envelope"):
            key = getattr(self, name)
            if key is not None and (not isinstance(key, str) or not key):
                raise ValueError(f"{name} must be the name of a key, not {key!r}")
            if key in extra:
                raise ValueError(f"{key!r} is given twice by {name} and extra_body: keep one")
        return Body(self.root, self.envelope, extra, self.build_request)

    def _advise(self, size: int) -> None:
        if self.endpoint.strip("/").removeprefix("api/v1/") in {"events", "events/batch"} and size > 1:
            self.log.warning(
                "Lago stores the events of a request all or none, so that here one bad event rejects the up to %d "
                "records of its request: LagoIngestEventsOperator checks events before, and sends the good ones again",
                size,
            )

    def _before_sending(self, plan: Plan[Any], context: Context) -> None:
        self._context = context
        if self.once and _is_retry(context, self.retries or 0):
            raise LagoFatalDeliveryError(
                f"Task {self.task_id!r}: {self.method} {self.endpoint} moves money and is sent once, and an earlier "
                "try of this task may have sent it: look in Lago, and in the report of that try, what was done; then "
                "clear the task, with the records that are left"
            )

    @property
    def _is_resumable(self) -> bool:
        """Whether a retry may go on; what moves money is never retried, and one request has nothing to go on with."""
        return not self.once and not self._is_single

    def _open_report(
        self, folder: Folder | None, run: Mapping[str, Any], durability: Durability | None, *, receipts: bool
    ) -> tuple[Report, Durability | None]:
        report, durability = super()._open_report(folder, run, durability, receipts=receipts)
        return (Noted(report) if self._is_single else report), durability

    def _judge(self, result: Result, threshold: Threshold, report: Report) -> None:
        if isinstance(report, Noted) and result.halt is None and result.tally.rejected:
            if isinstance(self._objection, AirflowSkipException):
                raise self._objection
            raise LagoRejectedError(f"Task {self.task_id!r}: {self.method} {self.endpoint}: {report.rejection}")
        super()._judge(result, threshold, report)

    def _stopped(self) -> LagoDeliveryError:
        return self._ended("Ended by Airflow. A request that was on its way may have been executed")

    def _halted(self, result: Result) -> LagoDeliveryError:
        if result.halt is None:
            raise RuntimeError("the delivery was not halted")
        kind = LagoFatalDeliveryError if result.halt.final else LagoDeliveryError
        return self._ended(f"Delivery stopped: {result.halt.why}. So far {so_far(result.tally)}", kind)

    def _ended(self, what: str, kind: type[LagoDeliveryError] = LagoDeliveryError) -> LagoDeliveryError:
        """Return the error for a delivery that did not come to its end; Airflow must not retry one that moves money."""
        call = f"{self.method} {self.endpoint}"
        if self.once:
            kind = LagoFatalDeliveryError
            next_step = "It moves money, so nothing is sent again: look in Lago what was done before you clear the task"
        elif self.idempotent or is_repeatable(self.method, neutral(self.endpoint)):
            next_step = "A rerun sends all records again, which does no harm"
        else:
            next_step = "A rerun sends all records again, also those that were accepted"
        return kind(f"Task {self.task_id!r}: {call}: {what}. {next_step}")

    def _accepts(self, call: Call, answer: Answer) -> bool:
        self._answered = (call, answer)
        try:
            return self.response_check is None or bool(self._call(self.response_check, call, answer))
        except Exception as error:
            self._objection = error
            raise

    def _filtered(self, call: Call, answer: Answer) -> bytes:
        try:
            return encode_json(self._call(self.response_filter, call, answer))
        except Exception as error:  # noqa: BLE001 - the user's function, after Lago has done its work
            self._unfiltered += 1
            if self._unfiltered <= _NAMED:
                self.log.warning(
                    "response_filter failed (%s: %s): the whole answer is handed on", type(error).__name__, error
                )
            return answer.body

    def _returned(self) -> Any:
        if self._answered is None:
            return None
        call, answer = self._answered
        if self.response_filter is None:
            return decoded(answer)
        try:
            return self._call(self.response_filter, call, answer)
        except AirflowSkipException:
            raise
        except Exception as error:
            raise LagoRejectedError(
                f"Task {self.task_id!r}: Lago did what it was asked for and answered {answer.status}; response_filter "
                f"failed: {type(error).__name__}: {error}"
            ) from error

    def _call(self, function: Any, call: Call, answer: Answer) -> Any:
        return self._with_context(function, as_response(answer, f"{self.hook.settings.api_url}/{call.target}"))

    def _with_context(self, function: Any, value: Any) -> Any:
        return function(value, **determine_kwargs(function, [value], self._context or {}))

    def _pages(self, context: Context) -> Any:
        """Return the items of all pages of a list, or write them to a file and count them."""
        try:
            if check_method(self.method) != "GET":
                raise ValueError("paginate=True is for method='GET'")
            given = [name for name in _NOT_PAGED if getattr(self, name) is not None]
            if given:
                raise ValueError(f"paginate=True reads a list, for which {given[0]} means nothing: take it away")
            if self.response_filter is not None and self.responses_path:
                raise ValueError("response_filter gets the list of all items, which responses_path is there to spare")
            check_template("GET", self.endpoint)
            most = as_count(self.limit, "limit")
            query = _as_object("query", self.query)
            preview = as_bool(self.preview, "dry_run")
        except ValueError as error:
            raise self._input_error(error) from None
        if preview:
            return self._preview_of_pages(query)
        with self.hook as hook:
            if not self.responses_path:
                items = hook.paginate(self.endpoint, collection=self.collection, params=query)
                found = list(islice(items, most))
                return found if self.response_filter is None else self._with_context(self.response_filter, found)
            pages = hook.pages(self.endpoint, collection=self.collection, params=query, raw=True)
            lines = (line_of(item) for page in pages for item in page.items)
            try:
                path = self._answers_file(self.responses_path, context)
                return {"items": write_lines(path, islice(lines, most)), "path": str(path)}
            except OSError as error:
                problem = f"responses_path: {error.strerror or error}"
            except ValueError as error:
                problem = str(error)
        raise self._input_error(problem)

    def _preview_of_pages(self, query: Mapping[str, Any]) -> dict[str, Any]:
        call = build_call("GET", self.endpoint, params={**query, "page": 1, "per_page": 100})
        url = f"{self.hook.settings.api_url}/{call.target}"
        self.log.info("Dry run, not sent: GET %s", url)
        return {"dry_run": True, "preview": [{"method": "GET", "url": url, "records": 0, "body": ""}], "report": {}}


def _as_object(argument: str, value: Any) -> dict[str, Any]:
    """
    Return an argument that is a JSON object; a template may have made text of it.

    :raises ValueError: naming the argument.
    """
    if isinstance(value, str):
        try:
            value = exact_json.decode(value) if value.strip() else {}
        except (msgspec.DecodeError, UnicodeError, ArithmeticError, RecursionError):
            raise ValueError(f"{argument} is text that is not JSON: give a dict, or JSON text of an object") from None
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{argument} must be a dict, not a {type(value).__name__}")
    return dict(value or {})


def _is_retry(context: Context, retries: int) -> bool:
    """Tell whether Airflow runs the task again by itself, and not because somebody cleared it."""
    ti = context.get("ti")
    tries = getattr(ti, "try_number", None) or 1
    most = getattr(ti, "max_tries", None)
    # Clearing a task moves the end of its tries: the first one after it is not a retry. Airflow itself reckons so, too.
    first = 1 if not isinstance(most, int) else most - retries + 1
    return bool(tries > 1 and tries != first)
