"""Call any endpoint of Lago."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import determine_kwargs

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.endpoints import bills, is_final, moves_money
from airflow_provider_lago.api.wire import check_method, encode_json, read_headers
from airflow_provider_lago.delivery.calls.requests import Body, BuildRequest, RequestPlan, check_template
from airflow_provider_lago.exceptions import LagoDeliveryError, LagoFatalDeliveryError, LagoRejectedError
from airflow_provider_lago.operators.arguments import Threshold, as_bool, check_whole
from airflow_provider_lago.operators.base import LagoDeliveryOperator
from airflow_provider_lago.sources.rows import Source
from airflow_provider_lago.sources.values import ValueSource

if TYPE_CHECKING:
    import requests
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lago.delivery.delivery import Result
    from airflow_provider_lago.delivery.plan import Plan
    from airflow_provider_lago.delivery.report import Report

#: Records of a request where several may go together.
_BATCH = 100


class LagoGenericRequestOperator(LagoDeliveryOperator):
    """
    Call any endpoint of Lago: once, or for each record or group of records of a source.

    Without ``records`` and ``files`` one request is sent, with ``data`` as its body, and its answer is returned. With a
    source each record is a request, or each group of records where ``envelope``, ``group_by`` or ``build_request`` say
    so, and the summary of a delivery is returned.

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
    :param data: Body of the one request, where there are no records: a dict. (templated)
    :param query: Query values; ``{column}`` stands for a value of the record, a list goes out as ``key[]``. (templated)
    :param headers: Additional headers, as a dict or as text: ``"h1:v1,h2:v2"``. ``Authorization`` and others that the
        connection gives cannot be given. (templated)
    :param root: Key under which a payload stands in the body: ``"wallet"`` makes ``{"wallet": {...}}``.
    :param envelope: Key of the list that holds the payloads of a group: ``"events"`` makes ``{"events": [...]}``.
    :param extra_body: What stands beside the payloads in each body. (templated)
    :param group_by: Column, or dotted path, whose value the records of a request share. The values in ``endpoint`` and
        ``query`` are shared too.
    :param build_request: Callable list of payloads -> body, instead of ``root``, ``envelope`` and ``extra_body``.
    :param batch_size: Most records of a request: by default 100 where they are grouped, and else 1.
    :param idempotent: Say True where the request does no harm when Lago executes it twice.
    :param confirm: Must be True for what cannot be undone: ``DELETE``, ``.../void``, ``.../terminate``.
    :param response_check: Callable response -> bool, as in Airflow's HttpOperator: a ``requests.Response``, and the
        context by keyword. False rejects the records of the request.
    :param response_filter: Callable response -> value, as in Airflow's HttpOperator. Without records it is what the
        task returns; with records it is what goes to ``responses_path`` and the webhook.
    :param paginate: For ``GET`` without records: return the items of all pages of a list; with ``responses_path`` they
        are written there, one a line, and counted. For much use ``LagoExtractOperator``.
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
        self._answer: Answer | None = None

    @property
    def bills(self) -> bool:
        """Whether the endpoint moves money or takes usage."""
        return bills(check_method(self.method), self.endpoint)

    @property
    def once(self) -> bool:
        """Whether a request must never be sent twice."""
        return moves_money(self.method, self.endpoint)

    def execute(self, context: Context) -> Any:
        """Send the request, or those of all records, and return the answer or the summary."""
        self._context = context
        if self.paginate:
            return self._pages()
        summary = super().execute(context)
        if not self._is_single or "preview" in summary:
            return summary
        return self._returned()

    @property
    def _is_single(self) -> bool:
        return self.records is None and self.files is None

    def _source(self) -> Source:
        if not self._is_single:
            if self.data is not None:
                raise ValueError("data is the body of the one request without records: give records, files or data")
            return super()._source()
        return ValueSource([{} if self.data is None else self.data])

    def _plan(self, common: dict[str, Any]) -> RequestPlan:
        method = check_method(self.method)
        check_template(self.endpoint)
        body = self._body()
        size = self.batch_size if self.batch_size is not None else (_BATCH if body.groups or self.group_by else 1)
        check_whole("batch_size", size, 1, 10_000)
        if size > 1 and not body.groups:
            raise ValueError("several records in a request need envelope='...' or build_request: say how they are sent")
        if is_final(method, self.endpoint) and not as_bool(self.confirm, "confirm"):
            raise ValueError(f"{method} {self.endpoint} cannot be undone: set confirm=True where it is meant")
        if self.once and self.idempotent:
            raise ValueError(f"{method} {self.endpoint} moves money and is sent once: take idempotent=True away")
        return RequestPlan(
            shaping=self._shaping(),
            method=method,
            endpoint=self.endpoint,
            query=self.query or {},
            headers=read_headers(self.headers),
            body=body,
            batch_size=size,
            group_by=self.group_by,
            idempotent=False if self.once else self.idempotent,
            accepts=self._accepts if self.response_check is not None or self._is_single else None,
            filters=None if self.response_filter is None else self._filtered,
            **common,
        )

    def _body(self) -> Body:
        given = [name for name in ("root", "envelope", "build_request") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}: each says how the body is made")
        if self.build_request is not None and not callable(self.build_request):
            raise ValueError(f"build_request must be a function, not {self.build_request!r}")
        return Body(self.root, self.envelope, self.extra_body or {}, self.build_request)

    def _before_sending(self, plan: Plan[Any], context: Context) -> None:
        if self.once and _is_retry(context, self.retries or 0):
            raise LagoFatalDeliveryError(
                f"Task {self.task_id!r}: {self.method} {self.endpoint} moves money and is sent once, and an earlier "
                "try of this task may have sent it: look in Lago, and in the report of that try, what was done; then "
                "clear the task, with the records that are left"
            )

    def _judge(self, result: Result, threshold: Threshold, report: Report) -> None:
        if self._is_single and result.halt is None and result.tally.rejected:
            (reason,) = result.tally.reasons
            raise LagoRejectedError(f"Task {self.task_id!r}: {self.method} {self.endpoint}: {reason}")
        super()._judge(result, threshold, report)

    def _stopped(self) -> LagoDeliveryError:
        return self._final(super()._stopped())

    def _halted(self, result: Result) -> LagoDeliveryError:
        return self._final(super()._halted(result))

    def _final(self, error: LagoDeliveryError) -> LagoDeliveryError:
        """Return an error that Airflow does not retry, where a retry would send money's requests again."""
        if not self.once:
            return error
        return LagoFatalDeliveryError(f"{error} - except that {self.endpoint} moves money: look in Lago what was done")

    def _accepts(self, answer: Answer) -> bool:
        self._answer = answer
        return self.response_check is None or bool(self._call(self.response_check, answer))

    def _filtered(self, answer: Answer) -> bytes:
        return encode_json(self._call(self.response_filter, answer))

    def _returned(self) -> Any:
        answer = self._answer
        if answer is None:
            return None
        if self.response_filter is None:
            decoded = answer.json()
            return decoded if decoded is not None else answer.body.decode("utf-8", "replace").strip() or None
        try:
            return self._call(self.response_filter, answer)
        except Exception as error:
            raise LagoRejectedError(
                f"Task {self.task_id!r}: Lago did what it was asked for and answered {answer.status}; response_filter "
                f"failed: {type(error).__name__}: {error}"
            ) from error

    def _call(self, function: Any, answer: Answer) -> Any:
        response = as_response(answer, f"{self.hook.settings.api_url}/{self.endpoint}")
        return function(response, **determine_kwargs(function, [response], self._context or {}))

    def _pages(self) -> Any:
        """Return the items of all pages of a list, or write them to a file and count them."""
        if check_method(self.method) != "GET" or not self._is_single or self.data is not None:
            raise self._input_error("paginate=True is for GET without records, files and data")
        with self.hook as hook:
            items = hook.paginate(self.endpoint, collection=self.collection, params=self.query)
            if not self.responses_path:
                found = list(items)
                return found if self.response_filter is None else self.response_filter(found)
            path = self._local("responses_path", self.responses_path, "file")
            return {"items": _write_lines(path, items), "path": str(path)}


def _write_lines(path: Path, items: Iterable[Any]) -> int:
    from airflow_provider_lago.delivery.responses.file import LineFile

    file, count = LineFile(path, what="responses_path"), 0
    try:
        for item in items:
            file.write(encode_json(item))
            count += 1
    finally:
        file.close()
    return count


def as_response(answer: Answer, url: str) -> requests.Response:
    """
    Return an answer as the class that users of Airflow's HttpOperator know.

    :param answer: The answer.
    :param url: Where it came from.
    """
    import requests

    response = requests.Response()
    response.status_code = answer.status
    response.headers.update(answer.headers)
    response.url = url
    response.encoding = "utf-8"
    response.raw = BytesIO(answer.body)
    return response


def _is_retry(context: Context, retries: int) -> bool:
    """Tell whether Airflow runs the task again by itself, and not because somebody cleared it."""
    ti = context.get("ti")
    tries = getattr(ti, "try_number", None) or 1
    most = getattr(ti, "max_tries", None)
    # Clearing a task moves the end of its tries: the first one after it is not a retry.
    first = 1 if not isinstance(most, int) else most - retries + 1
    return bool(tries > max(first, 1))
