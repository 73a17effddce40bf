"""
What can go wrong with Lago, as Airflow sees it.

Two families. Errors that another try may heal derive from :class:`LagoException` alone: Airflow retries the
task. Errors that no retry heals (a wrong key, a wrong address, refused records) derive from
``AirflowFailException`` too: Airflow fails the task at once, whatever ``retries`` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Mapping


class LagoException(AirflowException):
    """Base of every error that this provider raises."""


class LagoConnectionError(LagoException, AirflowFailException):
    """The Airflow connection is wrongly configured; the message names the field and the fix. Not retried."""


class LagoInputError(LagoException, AirflowFailException):
    """An argument or a record of the caller can never be sent to Lago. Not retried."""


class LagoApiError(LagoException):
    """
    One call to Lago failed.

    All attributes survive pickling. None of them holds the API key, a request body or query values.

    :param message: One line: what happened, to which call, what to do.
    :param method: HTTP verb of the call.
    :param path: Path of the call below ``/api/v1``, without query.
    :param http_status_code: Status of Lago's answer; None where there was no answer. The name is not
        ``status_code`` because ``AirflowException`` has a class attribute of that name that is always 500.
    :param code: Lago's error code, such as ``validation_errors`` or ``customer_not_found``.
    :param error_details: Lago's ``error_details``: field -> codes, index -> errors of a batch, or a string.
    :param request_id: The id under which Lago logged the request.
    :param rate_headers: The rate-limit headers of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        method: str = "",
        path: str = "",
        http_status_code: int | None = None,
        code: str | None = None,
        error_details: Any = None,
        request_id: str | None = None,
        rate_headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.method = method
        self.path = path
        self.http_status_code = http_status_code
        self.code = code
        self.error_details = error_details
        self.request_id = request_id
        self.rate_headers: dict[str, str] = dict(rate_headers or {})


class LagoFatalApiError(LagoApiError, AirflowFailException):
    """A call failed for a reason that lasts: key, permission, address or certificate. Not retried."""


class LagoTransportError(LagoApiError):
    """No answer came: the server could not be reached or the connection broke; no ``http_status_code``."""


class LagoDeliveryError(LagoException):
    """A delivery stopped before its end for a reason that another try may heal."""


class LagoRejectedError(LagoException, AirflowFailException):
    """Everything deliverable was delivered, and more records were rejected than allowed. Not retried."""


class LagoFatalDeliveryError(LagoDeliveryError, AirflowFailException):
    """A delivery stopped before its end, and somebody has to change something first. Not retried."""
