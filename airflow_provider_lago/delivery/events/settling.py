"""
What one answer means for the events of its request. Pure: an answer in, a verdict out.

Lago stores a batch whole or not at all, and its 422 names the bad events by index. So the good ones are sent again in
one request without the bad ones, and halving is left for answers that name nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_provider_lago.api.advice import describe, is_web_page, lasts
from airflow_provider_lago.api.answers import Answer, LagoError, describe_details, is_of_lago, read_error
from airflow_provider_lago.delivery.outcomes import Refusal, SlowDown, Stop

#: Statuses below 500 that pass by themselves: timeouts, conflicts and locks of gateways.
_PASSING = frozenset({408, 409, 423, 425})

_PARAM_MISSING = "param is missing"
_BODY_LOST = (
    "Lago found no events in a request that held some: something between Airflow and Lago changes the body or the "
    "Content-Type header"
)

_DUPLICATE = {"transaction_id": ["value_already_exist"]}


@dataclass(frozen=True, slots=True)
class Accepted:
    """All events of the request are stored."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """Lago named events by index. Nothing of the request is stored; those not named go out again, in one request."""

    duplicates: frozenset[int]
    rejected: Mapping[int, Refusal]


@dataclass(frozen=True, slots=True)
class Opaque:
    """
    The request failed, and no event is named.

    :param refusal: What the server, or the network, says.
    :param lasts: Whether the same request would surely fail again.
    :param blames: Whether the answer by itself proves that an event is at fault, and not the server.
    :param outage: Whether it speaks of a server that cannot be reached or is unwell, rather than of the request.
    :param stored: Whether the events may be stored nevertheless.
    """

    refusal: Refusal
    lasts: bool = False
    blames: bool = False
    outage: bool = False
    stored: bool = False


Verdict = Accepted | Sorted | Opaque | SlowDown | Stop


class _Stored(msgspec.Struct):
    lago_id: str | None = None


class _Identities(msgspec.Struct):
    event: _Stored | None = None
    events: list[_Stored] = []


class _Echo(msgspec.Struct):
    events: list[msgspec.Raw]


class _SingleEcho(msgspec.Struct):
    event: msgspec.Raw


_read_identities = msgspec.json.Decoder(_Identities).decode
_read_echo = msgspec.json.Decoder(_Echo).decode
_read_single_echo = msgspec.json.Decoder(_SingleEcho).decode


def settle(answer: Answer, size: int, *, conn_id: str, single: bool = False) -> Verdict:
    """
    Return what an answer to an ingestion request means.

    :param answer: The answer.
    :param size: Number of events in the request.
    :param conn_id: Id of the Airflow connection, for messages.
    :param single: Whether it was ``POST /events`` (one event) and not ``/events/batch``.
    """
    status = answer.status
    if status == 200:
        return _settle_success(answer, size, conn_id, single)
    error = read_error(answer)
    if status == 422:
        return _settle_refusal(answer, error, size, single)
    if status == 429:
        return SlowDown()
    if status == 413:
        return Opaque(Refusal("request too large (HTTP 413)", "413"), lasts=True, blames=True)
    if status == 400:
        if _PARAM_MISSING in error.message:
            return Stop(_BODY_LOST)
        # Lago's own answer says that the server works and the body is at fault; a gateway's says nothing.
        by_lago = is_of_lago(answer)
        return Opaque(Refusal(error.message, "400"), lasts=by_lago, blames=by_lago)
    if status == 500:
        return Opaque(Refusal("server error (HTTP 500)", "500"), stored=True)
    if status == 403 and not is_of_lago(answer):
        return Opaque(Refusal(error.message, "403"))  # a firewall, perhaps at one record's content
    if status > 500 or status in _PASSING:
        return Opaque(Refusal(error.message, str(status)), outage=True, stored=True)
    if 200 < status < 300:
        return _doubtful(f"HTTP {status} is not an answer of Lago to events")
    return Stop(describe(answer, conn_id), final=lasts(answer))


def lago_ids(answer: Answer, *, single: bool) -> list[str | None]:
    """
    Return Lago's own ids of the events of an answer, in their order; ClickHouse organizations have none at first.

    :param answer: The answer.
    :param single: Whether it was ``POST /events``.
    """
    try:
        found = _read_identities(answer.body)
    except msgspec.DecodeError:
        return []
    return [stored.lago_id for stored in ([found.event] if single and found.event else found.events)]


def _settle_success(answer: Answer, size: int, conn_id: str, single: bool) -> Verdict:
    if not answer.body.strip():
        return Accepted()  # Lago answers some successes without a body
    if is_web_page(answer):
        return Stop(f"HTTP 200 with a web page instead of Lago's answer: check the host of connection {conn_id!r}")
    try:
        stored = 1 if single and _read_single_echo(answer.body) else len(_read_echo(answer.body).events)
    except msgspec.DecodeError:
        # Cut on its way, or somebody else's page: whether Lago stored anything is not known, and sending again tells.
        return _doubtful("HTTP 200 with a body that is not Lago's answer to events")
    if stored != size:
        return _doubtful(f"HTTP 200 for {stored} of {size} events")
    return Accepted()


def _doubtful(why: str) -> Opaque:
    return Opaque(Refusal(why, "200"), outage=True, stored=True)


def _settle_refusal(answer: Answer, error: LagoError, size: int, single: bool) -> Verdict:
    if error.code == "lock_acquisition_failed":
        return Opaque(Refusal(error.message, "lock_acquisition_failed"), outage=True)
    details = error.details
    if single:
        return _sort({0: details}) if details is not None else _opaque_422(answer, error)
    named = _by_index(details, size)
    if named:
        return _sort(named)
    if details == {"events": ["no_events"]}:
        return Stop(_BODY_LOST)
    return _opaque_422(answer, error)


def _by_index(details: Any, size: int) -> dict[int, Any]:
    """Return the map index -> errors of a batch; empty where it is something else."""
    if not isinstance(details, dict):
        return {}
    named = {int(index): errors for index, errors in details.items() if index.isascii() and index.isdigit()}
    return named if len(named) == len(details) and all(index < size for index in named) else {}


def _sort(named: Mapping[int, Any]) -> Sorted:
    duplicates = frozenset(index for index, errors in named.items() if errors == _DUPLICATE)
    return Sorted(
        duplicates,
        {
            index: Refusal(describe_details(errors, 200), "validation_errors")
            for index, errors in named.items()
            if index not in duplicates
        },
    )


def _opaque_422(answer: Answer, error: LagoError) -> Opaque:
    by_lago = is_of_lago(answer)
    # Emptied or cut on its way, it may have said that Lago has the events already: nobody can be held to be at fault.
    lost = answer.json() is None and not is_web_page(answer)
    return Opaque(Refusal(error.message, error.code or "422"), lasts=by_lago, blames=by_lago, outage=lost)
