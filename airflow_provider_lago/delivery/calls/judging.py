"""What a reply means for the way it is sent: take it, try again, slow down, or stop. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_lago.api.advice import describe, is_web_page, lasts, missing_permission
from airflow_provider_lago.api.answers import Answer, is_of_lago, read_error
from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.api.rates import is_throttled_by_provider
from airflow_provider_lago.delivery.calls.conversation import holds, is_readable
from airflow_provider_lago.delivery.outcomes import SlowDown, Stop

#: Statuses below 500 that pass by themselves: timeouts, conflicts and locks of gateways.
_PASSING = frozenset({408, 409, 423, 425})

#: What gateways answer to a request that they did not pass on; of others of their own nobody knows.
_BEFORE_LAGO = frozenset({400, 403, 404, 405, 406, 411, 413, 414, 415, 431, 451})


@dataclass(frozen=True, slots=True)
class Take:
    """The reply is about the record: the conversation decides."""


@dataclass(frozen=True, slots=True)
class Again:
    """
    The call failed in a way that may pass.

    :param why: In words.
    :param executed: Whether Lago may have executed it nevertheless.
    :param outage: Whether it speaks of a server that cannot be reached or is unwell, rather than of the record.
    :param busy: Whether Lago asks for less at a time, as all calls meet the same lock.
    """

    why: str
    executed: bool
    outage: bool
    busy: bool = False


Verdict = Take | Again | SlowDown | Stop


def judge(
    result: Answer | Failure,
    *,
    repeatable: bool,
    conn_id: str,
    expects: str | None = None,
    known: bool = False,
    path: str = "",
) -> Verdict:
    """
    Return what to do about a reply.

    :param result: The answer, or why there is none.
    :param repeatable: Whether the call does no harm when Lago executes it twice.
    :param conn_id: Id of the Airflow connection, for messages.
    :param expects: Root of what a success must hold.
    :param known: Whether Lago has answered at this address before.
    :param path: Path of the call.
    """
    if isinstance(result, Failure):
        if result.lasts:
            return Stop(result.message)
        return Again(result.message, executed=not result.never_arrived, outage=True)
    status = result.status
    if 200 <= status < 300:
        return _judge_success(result, conn_id, expects)
    if _is_cut(result):
        return Again(f"HTTP {status} with a body that is cut", executed=status == 422 or status >= 500, outage=True)
    error = read_error(result)
    if status == 429:
        return _judge_429(result, repeatable)
    if error.code == "lock_acquisition_failed":
        return Again(error.message, executed=False, outage=True, busy=True)
    if status == 500:
        return Again("server error (HTTP 500)", executed=True, outage=False)
    if status > 500 or status in _PASSING:
        return Again(error.message, executed=status > 500 or status == 408, outage=True)
    if status == 404 and known and error.code is None:
        # What a proxy says while Lago is being restarted behind it.
        return Again(error.message, executed=False, outage=True)
    if (status == 403 or not lasts(result)) and not is_of_lago(result):
        # A gateway or a firewall: at one record's content or size, or at everything.
        return Again(error.message, executed=status not in _BEFORE_LAGO, outage=False)
    if status == 404 and "%2F" in path:
        # A proxy decodes the slash in this record's id, and Lago sees another path. A wrong address shows elsewhere.
        return Take()
    if status == 403 and missing_permission(error.code) is None and error.code is not None:
        return Take()  # a feature that this record asks for and the organization does not have
    return Stop(describe(result, conn_id)) if lasts(result) else Take()


def _judge_429(answer: Answer, repeatable: bool) -> Verdict:
    if not is_throttled_by_provider(answer):
        return SlowDown()
    # A part of the call may have been done.
    return Again(read_error(answer).message, executed=True, outage=False) if repeatable else Take()


def _is_cut(answer: Answer) -> bool:
    """Tell whether a body that says it is JSON is none: what Lago says is then not known, whatever the status."""
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind == "application/json" and bool(answer.body.strip()) and not _is_json(answer)


def _is_json(answer: Answer) -> bool:
    return answer.json() is not None or answer.body.strip() == b"null"


def _judge_success(answer: Answer, conn_id: str, expects: str | None) -> Verdict:
    if is_web_page(answer):
        return Stop(f"HTTP {answer.status} with a web page instead of Lago's answer: check the host of {conn_id!r}")
    if is_readable(answer) if expects is None else holds(answer, expects):
        return Take()
    if answer.json() is not None or not answer.body.strip():
        return Again(f"HTTP {answer.status} without the {expects} that was asked for", executed=True, outage=True)
    return Again(f"HTTP {answer.status} with a body that is cut or not Lago's", executed=True, outage=True)
