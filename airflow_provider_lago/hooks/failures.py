"""From a failed call to the exception that Airflow sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
import urllib3

from airflow_provider_lago.api.advice import describe, is_web_page, lasts, one_line
from airflow_provider_lago.api.answers import read_error
from airflow_provider_lago.api.failures import Cause, causes_of
from airflow_provider_lago.exceptions import LagoApiError, LagoFatalApiError, LagoTransportError

if TYPE_CHECKING:
    from airflow_provider_lago.api.answers import Answer
    from airflow_provider_lago.api.failures import Failure

#: Answers by which Lago says that it did nothing yet: an advisory lock that somebody else held.
_LOCKED = "lock_acquisition_failed"
#: A 429 of Lago itself, after a payment or tax provider throttled it: a part of the call may have been done.
_PROVIDER_THROTTLED = "too_many_provider_requests"


def may_repeat(answer: Answer, repeatable: bool) -> bool:
    """
    Tell whether a call with this answer may be sent again at once.

    :param answer: The answer.
    :param repeatable: Whether the call does no harm when Lago executed it already.
    """
    if answer.status == 429:
        return repeatable or read_error(answer).code != _PROVIDER_THROTTLED
    if answer.status == 422:
        return read_error(answer).code == _LOCKED
    return answer.status >= 500 and repeatable


def transport_cause(error: BaseException) -> Cause:
    """
    Return what broke as far as the types of ``requests`` and urllib3 say it.

    :param error: What ``requests`` raised.
    """
    wrapped = list(causes_of(error))
    if isinstance(error, (requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidSchema)):
        return Cause.PROXY  # the address was checked, so it is the environment's proxy that is malformed
    if any(isinstance(found, (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)) for found in wrapped):
        return Cause.PROXY
    if any(isinstance(found, urllib3.exceptions.ConnectTimeoutError) for found in wrapped):
        return Cause.CONNECT_TIMEOUT
    if any(isinstance(found, (urllib3.exceptions.ReadTimeoutError, requests.ReadTimeout)) for found in wrapped):
        return Cause.READ_TIMEOUT
    if any(isinstance(found, urllib3.exceptions.NewConnectionError) for found in wrapped):
        return Cause.CONNECT
    return Cause.BROKEN


def answer_error(answer: Answer, *, method: str, path: str, conn_id: str, api_key: str) -> LagoApiError:
    """
    Return the exception for an answer that is not a success.

    :param answer: The answer.
    :param method: HTTP verb of the call.
    :param path: Path of the call below ``/api/v1``.
    :param conn_id: Id of the Airflow connection.
    :param api_key: The API key, so that an answer that echoes it cannot leak it.
    """
    facts = read_error(answer)
    return (LagoFatalApiError if lasts(answer) else LagoApiError)(
        redact(f"{method} {path}: {describe(answer, conn_id)}", api_key),
        method=method,
        path=path,
        http_status_code=answer.status,
        code=redact(facts.code, api_key),
        error_details=redact(facts.details, api_key),
        request_id=redact(answer.request_id, api_key),
        rate_headers=redact(answer.rate_headers, api_key),
    )


def foreign_error(answer: Answer, *, method: str, path: str, conn_id: str) -> LagoApiError:
    """
    Return the exception for a success whose body is not Lago's.

    A web page comes from a UI or a proxy that answers 200 to anything, so that a write would seem to have
    worked.

    :param answer: The answer.
    :param method: HTTP verb of the call.
    :param path: Path of the call below ``/api/v1``.
    :param conn_id: Id of the Airflow connection.
    """
    facts: dict[str, Any] = {
        "method": method,
        "path": path,
        "http_status_code": answer.status,
        "rate_headers": answer.rate_headers,
    }
    if is_web_page(answer):
        return LagoFatalApiError(
            f"{method} {path}: HTTP {answer.status} with a web page, so this is not Lago's API: check the "
            "host of "
            f"connection {conn_id!r}",
            **facts,
        )
    kind = one_line(answer.headers.get("content-type", "no content type"), 100)
    return LagoApiError(f"{method} {path}: HTTP {answer.status} with a body that is not JSON ({kind})", **facts)


def transport_error(failure: Failure, *, method: str, path: str) -> LagoApiError:
    """
    Return the exception for a call without an answer.

    :param failure: What broke.
    :param method: HTTP verb of the call.
    :param path: Path of the call below ``/api/v1``.
    """
    kind = LagoFatalApiError if failure.lasts else LagoTransportError
    return kind(f"{method} {path}: {failure.message}", method=method, path=path)


def redact(value: Any, secret: str) -> Any:
    """
    Return a value with every occurrence of a secret in its texts replaced by ``***``.

    :param value: Text, or dicts and lists of texts.
    :param secret: What must not be shown.
    """
    if isinstance(value, str):
        return value.replace(secret, "***")
    if isinstance(value, dict):
        return {redact(name, secret): redact(item, secret) for name, item in value.items()}
    if isinstance(value, list):
        return [redact(item, secret) for item in value]
    return value
