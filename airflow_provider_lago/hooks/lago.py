"""LagoHook: one connection to Lago's API."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import requests
import tenacity
import urllib3
from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.connection import (
    LONGEST_CONNECT_TIMEOUT,
    ConnectionSettings,
    ConnectionSettingsError,
    parse_connection,
)
from airflow_provider_lago.api.failures import Cause, Failure, read_failure
from airflow_provider_lago.api.retry import RetryPolicy, wait_after_429
from airflow_provider_lago.api.secrecy import Blot, secrets_of
from airflow_provider_lago.api.unpacking import AnswerTooLong, Body, NotUnpackable
from airflow_provider_lago.exceptions import LagoApiError, LagoConnectionError, LagoInputError
from airflow_provider_lago.hooks import environment, form
from airflow_provider_lago.hooks.calls import Page, decode_raw, prepare, read_page
from airflow_provider_lago.hooks.doctor import diagnose
from airflow_provider_lago.hooks.extras import read_extra
from airflow_provider_lago.hooks.failures import (
    answer_error,
    foreign_error,
    may_repeat,
    transport_cause,
    transport_error,
)
from airflow_provider_lago.hooks.session import LagoSession, open_session, user_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["LagoHook", "user_agent"]

#: Longest answer that is read, in bytes: a page of a list is below 1 MB, and a worker's memory is finite.
LONGEST_ANSWER = 64 * 1024 * 1024

_DEFAULT_POLICY = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How one try of a call ended.

    :param result: The successful answer, or what to raise if there is no further try.
    :param repeat: Whether another try is safe and sensible.
    :param throttled: Whether Lago asked for patience (429).
    :param asked_wait: Seconds that a 429 asks to wait.
    """

    result: Answer | LagoApiError
    repeat: bool = False
    throttled: bool = False
    asked_wait: float | None = None

    def wait(self, tries: int, policy: RetryPolicy) -> float:
        """Return the seconds to wait before the next try."""
        return wait_after_429(self.asked_wait, tries, policy) if self.throttled else policy.wait(tries)


class LagoHook(BaseHook):
    """
    Call Lago's API with an Airflow connection of type ``lago``.

    One HTTP session with kept-alive connections; use the hook as a context manager, or :meth:`close` it. The
    connection is looked up at the first call, never when a Dag is parsed.

    **Retries.** A call is tried up to ``retry_limit`` times. What Lago cannot have executed is always sent
    again: a refused connection, an unresolved host name, a connect timeout, a 429 (after the wait that Lago
    asks for). A timeout, a broken connection or a 5xx leaves open whether Lago executed the call, and Lago
    has no idempotency keys: then only reads and calls that Lago recognises when they come twice (events, by
    their ``transaction_id``) are repeated, and those for which the caller says ``idempotent=True``.

    **The key** goes to the connection's address only. No redirect is followed and ``.netrc`` is not read.

    :param lago_conn_id: Id of the Airflow connection.
    :param retry_limit: Tries of one call in all, the first one included.
    :param retry_delay: Upper bound of the wait before the second try, in seconds; it doubles with each try up
        to 30 seconds (or ``retry_delay``, if that is longer), with full jitter.
    :param timeout: Longest wait for an answer, in seconds, instead of the connection's.
    """

    conn_name_attr = "lago_conn_id"
    default_conn_name = "lago_default"
    conn_type = "lago"
    hook_name = "Lago"

    def __init__(
        self,
        lago_conn_id: str = default_conn_name,
        *,
        retry_limit: int = _DEFAULT_POLICY.attempts,
        retry_delay: float = _DEFAULT_POLICY.base,
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        if retry_limit < 1:
            raise LagoInputError("retry_limit counts the first try too, so it must be at least 1")
        if not retry_delay >= 0:
            raise LagoInputError("retry_delay must be a number of seconds, 0 or more")
        if timeout is not None and not timeout > 0:
            raise LagoInputError("timeout must be a number of seconds above 0")
        self.lago_conn_id = lago_conn_id
        self.timeout = timeout
        self.retry_policy = RetryPolicy(retry_limit, retry_delay, max(_DEFAULT_POLICY.cap, retry_delay))
        self._session: LagoSession | None = None
        self._lock = threading.Lock()
        self._next_send = 0.0

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form fields of the connection's extra (Airflow 2.11 to 3.1; newer ones read the declaration)."""
        return form.form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows the standard fields (Airflow 2.11 to 3.1)."""
        return form.field_behaviour()

    @cached_property
    def settings(self) -> ConnectionSettings:
        """
        The checked connection, with the environment's CA bundle and proxy where it names none itself.

        Whatever calls Lago goes by these settings alone, so that the hook and a delivery trust the same servers and
        take the same way.

        :raises LagoConnectionError: The connection is wrongly configured.
        :raises AirflowNotFoundException: There is no such connection.
        """
        connection = self.get_connection(self.lago_conn_id)
        try:
            settings = parse_connection(
                conn_id=self.lago_conn_id,
                host=connection.host,
                schema=connection.schema,
                port=connection.port,
                login=connection.login,
                password=connection.password,
                extra=read_extra(self.lago_conn_id, connection, '{"timeout": 30}'),
            )
        except ConnectionSettingsError as error:
            raise LagoConnectionError(str(error)) from None
        if settings.api_key != connection.password:
            mask_secret(settings.api_key)  # Airflow masks the password as it is stored, spaces around it included
        settings = replace(settings, verify=environment.verify_with(settings), proxy=environment.proxy_for(settings))
        for secret in secrets_of(settings.proxy):
            mask_secret(secret)
        problem = environment.problem_of(settings)
        if problem is not None:
            raise LagoConnectionError(f"Connection {self.lago_conn_id!r}: {problem}")
        if self.timeout is None:
            return settings
        return replace(settings, read_timeout=self.timeout, connect_timeout=min(LONGEST_CONNECT_TIMEOUT, self.timeout))

    def get_conn(self) -> requests.Session:
        """
        Return the session, for calls that the hook's methods do not cover.

        It sends the key to the connection's address only, follows no redirects and has the connection's
        timeouts, but it neither retries nor raises on an error status.

        :raises LagoConnectionError: The connection is wrongly configured.
        """
        with self._lock:
            if self._session is None:
                self._session = open_session(self.settings)
            return self._session

    def request(
        self,
        method: str,
        endpoint: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
    ) -> Any:
        """
        Call Lago and return what it answers.

        :param method: HTTP verb.
        :param endpoint: Path below ``/api/v1``, such as ``customers``; put ids in with
            :func:`airflow_provider_lago.api.paths.path`.
        :param params: Query values; a list goes out as ``key[]``, which is how Lago reads one.
        :param json: Body. Lago wants most bodies under their root, as in ``{"customer": {...}}``.
        :param headers: Additional headers; the hook's own (``Authorization``, ``Host`` ...) cannot be given.
        :param idempotent: Whether the call does no harm when it is executed twice. None decides by verb and
            endpoint: reads, events, estimates. See the class.
        :return: The decoded JSON; None for an empty body, which some successes have; a text if Lago answers
            plain text (``webhooks/public_key``).
        :raises LagoInputError: An argument cannot be sent.
        :raises LagoConnectionError: The connection is wrongly configured.
        :raises LagoFatalApiError: Wrong key, permission, address or certificate: no retry helps.
        :raises LagoTransportError: No answer.
        :raises LagoApiError: Lago refused the call, or an answer is not Lago's.
        """
        call = prepare(method, endpoint, params=params, json=json, headers=headers, idempotent=idempotent)
        answer = self._tried(call)
        return self._decoded(call, answer)

    def get(self, endpoint: str, **kwargs: Any) -> Any:
        """``GET`` an endpoint; see :meth:`request`."""
        return self.request("GET", endpoint, **kwargs)

    def post(self, endpoint: str, **kwargs: Any) -> Any:
        """``POST`` to an endpoint; see :meth:`request`."""
        return self.request("POST", endpoint, **kwargs)

    def put(self, endpoint: str, **kwargs: Any) -> Any:
        """``PUT`` to an endpoint; see :meth:`request`."""
        return self.request("PUT", endpoint, **kwargs)

    def patch(self, endpoint: str, **kwargs: Any) -> Any:
        """``PATCH`` an endpoint; see :meth:`request`."""
        return self.request("PATCH", endpoint, **kwargs)

    def delete(self, endpoint: str, **kwargs: Any) -> Any:
        """``DELETE`` an endpoint; see :meth:`request`."""
        return self.request("DELETE", endpoint, **kwargs)

    def paginate(
        self,
        endpoint: str,
        *,
        collection: str | None = None,
        params: Mapping[str, Any] | None = None,
        per_page: int = 100,
    ) -> Iterator[Any]:
        """
        Yield the items of a list, page after page, holding one page in memory.

        Lago pages by number: a row that is added or deleted meanwhile shifts the rest, so an item may come
        twice or not at all. A list without ``meta`` (billing entities, analytics, entitlements) is one page.

        :param endpoint: Path of the list below ``/api/v1``.
        :param collection: Key of the list in the answer; None takes the one list that the answer holds.
        :param params: Filters. Lago ignores those that it does not know, so compare what comes back.
        :param per_page: Items per page. 0 is refused because Lago answers it with an error, a negative number
            because Lago takes it for 25.
        :raises LagoInputError: ``per_page`` is below 1, or the params hold ``page`` or ``per_page``.
        :raises LagoApiError: An answer is not a list, or its pages do not advance.
        """
        pages = self.pages(endpoint, collection=collection, params=params, per_page=per_page)
        return (item for page in pages for item in page.items)

    def pages(
        self,
        endpoint: str,
        *,
        collection: str | None = None,
        params: Mapping[str, Any] | None = None,
        per_page: int = 100,
        first_page: int = 1,
        raw: bool = False,
    ) -> Iterator[Page]:
        """
        Yield the pages of a list: what :meth:`paginate` does, for callers that go on where they stopped.

        :param endpoint: See :meth:`paginate`.
        :param collection: See :meth:`paginate`.
        :param params: See :meth:`paginate`.
        :param per_page: See :meth:`paginate`.
        :param first_page: Number of the page to begin with, from 1. Lago answers a page beyond the end with no items.
        :param raw: Whether items are left as the bytes that came (``msgspec.Raw``), with every digit of their numbers.
        :raises LagoInputError: ``per_page`` or ``first_page`` is below 1, or the params hold ``page`` or ``per_page``.
        :raises LagoApiError: An answer is not a list, or its pages do not advance.
        """
        for name, value in (("per_page", per_page), ("first_page", first_page)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise LagoInputError(f"{name} must be a whole number, 1 or more")
        taken = {"page", "per_page"} & set(params or {})
        if taken:
            raise LagoInputError(f"params must not hold {sorted(taken)}: the page is counted, per_page= sets its size")
        call = prepare("GET", endpoint, params=params)
        return self._pages(call, collection, per_page, first_page, decode_raw if raw else msgspec.json.decode)

    def test_connection(self) -> tuple[bool, str]:
        """
        Ask Lago for the organization of the API key, once and within a few seconds.

        :return: Whether the connection works, and a sentence for a person, without the key. Never raises.
        """
        return diagnose(self)

    def close(self) -> None:
        """Close the kept-alive connections. The next call opens new ones."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def exchange(self, call: Call, timeout: float | None = None) -> Answer | Failure:
        """
        Send a call once and return what came of it, whatever the status.

        :param call: The call.
        :param timeout: Longest wait for a connection and for an answer, in seconds, instead of the
            connection's.
        :return: The answer, or why there is none.
        :raises LagoConnectionError: The connection is wrongly configured.
        """
        session, settings = self.get_conn(), self.settings
        try:
            response = session.request(
                call.method,
                f"{settings.api_url}/{call.path}",
                params=list(call.query),
                data=call.body,
                headers=dict(call.headers),
                timeout=timeout,
                stream=True,
            )
            with response:
                body = _read_body(response)
                return Answer.of(response.status_code, response.headers.items(), body, Blot(settings.api_key))
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            return read_failure(
                error, origin=_origin(settings), conn_id=settings.conn_id, otherwise=transport_cause(error)
            )
        except NotUnpackable as error:
            return Failure(Cause.BROKEN, f"the answer of {_origin(settings)} cannot be unpacked: {error}")
        except AnswerTooLong:
            return Failure(
                Cause.TOO_LONG,
                f"the answer is longer than {LONGEST_ANSWER // 2**20} MiB; ask for less, per_page for a list",
            )

    def _pages(
        self, call: Call, collection: str | None, per_page: int, first: int, decode: Callable[[bytes], Any]
    ) -> Iterator[Page]:
        number: int | None = first
        while number is not None:
            paged = replace(call, query=(*call.query, ("page", str(number)), ("per_page", str(per_page))))
            body = self._decoded(paged, self._tried(paged), decode)
            page = read_page(body, collection, number, call.path)
            yield page
            number = page.following

    def _tried(self, call: Call) -> Answer:
        policy = self.retry_policy
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(policy.attempts),
            retry=tenacity.retry_if_result(lambda outcome: outcome.repeat),
            wait=lambda state: _outcome_of(state).wait(state.attempt_number, policy),
            before_sleep=self._log_retry,
            retry_error_callback=_outcome_of,
        )
        outcome: Outcome = retrying(self._try, call)
        if isinstance(outcome.result, LagoApiError):
            raise outcome.result
        return outcome.result

    def _try(self, call: Call) -> Outcome:
        self._keep_pace()
        result = self.exchange(call)
        names = {"method": call.method, "path": call.path}
        if isinstance(result, Failure):
            repeat = not result.lasts and (result.never_arrived or call.repeatable)
            return Outcome(transport_error(result, **names), repeat)
        if 200 <= result.status < 300:
            return Outcome(result)
        return Outcome(
            answer_error(result, **names, conn_id=self.lago_conn_id, api_key=self.settings.api_key),
            repeat=may_repeat(result, call.repeatable),
            throttled=result.status == 429,
            asked_wait=result.asked_wait,
        )

    def _log_retry(self, state: tenacity.RetryCallState) -> None:
        self.log.warning(
            "%s; try %d of %d in %.1f s",
            _outcome_of(state).result,
            state.attempt_number + 1,
            self.retry_policy.attempts,
            state.upcoming_sleep,
        )

    def _keep_pace(self) -> None:
        pace = self.settings.requests_per_second
        if pace is None:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next_send)
            self._next_send = turn + 1 / pace
        time.sleep(turn - now)

    def _decoded(self, call: Call, answer: Answer, decode: Callable[[bytes], Any] = msgspec.json.decode) -> Any:
        if not answer.body.strip():
            return None
        kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind == "text/plain":
            return answer.body.decode("utf-8", "replace")
        try:
            return decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        raise foreign_error(answer, method=call.method, path=call.path, conn_id=self.lago_conn_id)


def _read_body(response: requests.Response) -> bytes:
    body = Body(response.headers.get("Content-Encoding"), LONGEST_ANSWER)
    # Not ``iter_content``: urllib3 unpacks a piece at once, however much it holds.
    for piece in response.raw.stream(65536, decode_content=False):
        body.add(piece)
    return body.whole()


def _origin(settings: ConnectionSettings) -> str:
    return "/".join(settings.api_url.split("/", 3)[:3])


def _outcome_of(state: tenacity.RetryCallState) -> Outcome:
    if state.outcome is None:
        raise RuntimeError("tenacity asks for the outcome of a call that was not made")
    outcome: Outcome = state.outcome.result()
    return outcome
