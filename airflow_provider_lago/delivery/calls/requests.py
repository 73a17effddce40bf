"""Requests to any endpoint: one for each record, or for each group of records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import READS, Call, build_call
from airflow_provider_lago.api.paths import PathError, path
from airflow_provider_lago.api.records import InvalidRecord, encode, refuse_unsendable
from airflow_provider_lago.api.wire import WireError
from airflow_provider_lago.delivery.calls.conversation import Conversation, Job, Reply, rejected
from airflow_provider_lago.delivery.calls.plan import CallPlan, as_invalid
from airflow_provider_lago.delivery.ledger import Entry, Ledger
from airflow_provider_lago.delivery.outcomes import Outcome, Settled
from airflow_provider_lago.delivery.paths import MISSING, getter
from airflow_provider_lago.delivery.shaping import RecordShaper
from airflow_provider_lago.sources.rows import Row

#: Records that wait in groups that are not full, and such groups, before the oldest group goes out as it is.
_MOST_WAITING = 10_000
_MOST_GROUPS = 1_000

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

#: Columns that commonly name a record, for messages and receipts.
_NAMES = ("external_id", "transaction_id", "lago_id", "id", "code", "external_customer_id", "external_subscription_id")

BuildRequest = Callable[[list[dict[str, Any]]], Any]


@dataclass(frozen=True, slots=True)
class Body:
    """
    How payloads become the body of a request.

    :param root: Key that the one payload stands under; None for the payload itself.
    :param envelope: Key of the list that holds the payloads; None where each goes alone.
    :param extra: What stands beside them.
    :param build: Callable list of payloads -> body, instead of all that.
    """

    root: str | None = None
    envelope: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    build: BuildRequest | None = None

    @property
    def groups(self) -> bool:
        """Whether a request may hold several payloads."""
        return self.envelope is not None or self.build is not None

    def of(self, payloads: list[dict[str, Any]]) -> Any:
        """
        Return the body.

        :raises InvalidRecord: if the user's function fails.
        """
        if self.build is not None:
            try:
                return self.build(payloads)
            except Exception as error:
                raise InvalidRecord("build_request failed", f"{type(error).__name__}: {error}"[:200]) from error
        if self.envelope is not None:
            return {**self.extra, self.envelope: payloads}
        if self.root is not None:
            return {**self.extra, self.root: payloads[0]}
        return {**self.extra, **payloads[0]}


class _Shaped(NamedTuple):
    row: Row
    record: Mapping[str, Any]
    payload: dict[str, Any]


class _Target(NamedTuple):
    """Where a record goes: records of one request share it."""

    endpoint: str
    query: tuple[tuple[str, Any], ...]
    group: Any


@dataclass(frozen=True, kw_only=True)
class RequestPlan(CallPlan):
    """
    What requests are to be sent; see :class:`~airflow_provider_lago.delivery.calls.plan.CallPlan` for the rest.

    :param method: HTTP verb.
    :param endpoint: Path below ``/api/v1``; ``{column}`` stands for a record's value.
    :param query: Query values; ``{column}`` stands for a record's value.
    :param headers: Headers besides the connection's.
    :param body: How payloads become a body.
    :param batch_size: Most records of a request.
    :param group_by: Column whose value the records of a request share; None for any.
    :param idempotent: Whether a request does no harm when Lago executes it twice; None decides by verb and endpoint.
    :param accepts: Tells whether an answer that succeeded is as it should be.
    :param filters: Makes of an answer what is handed on; None for all of it.
    :param max_bytes: Most bytes of the payloads of a request.
    """

    method: str
    endpoint: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=Body)
    batch_size: int = 1
    group_by: str | None = None
    idempotent: bool | None = None
    accepts: Callable[[Answer], bool] | None = None
    filters: Callable[[Answer], bytes] | None = None
    max_bytes: int = 1_000_000

    noun: ClassVar[str] = "records"
    id_field: ClassVar[str] = "id"
    what: ClassVar[str] = "a request"

    @property
    def goes_to(self) -> str:
        """Verb and URL, for the log."""
        return f"{self.method} {self.settings.api_url}/{self.endpoint}"

    @property
    def has_body(self) -> bool:
        """Whether records go into a body, and not only into the URL."""
        return self.method not in READS and self.method != "DELETE"

    def units(self, ledger: Ledger) -> Iterator[Job]:
        """Return a job for each group of records; the ledger gets the outcome of records that cannot be sent."""
        check_template(self.endpoint)
        return self._requests(RecordShaper(self.shaping, None, self.what), ledger)

    def job(self, row: Row, record: Mapping[str, Any], payload: dict[str, Any]) -> Job:
        """Return the request of one record."""
        return self._job(self._target(record), [_Shaped(row, record, payload)])

    def _requests(self, shaper: RecordShaper, ledger: Ledger) -> Iterator[Job]:
        waiting: dict[Any, list[_Shaped]] = {}
        sizes: dict[Any, int] = {}
        count = 0
        for row in self.source.rows():
            shaped = self.shaped(row, shaper, ledger)
            if shaped is None:
                continue
            try:
                target = self._target(shaped[0])
                refuse_unsendable(shaped[1], "")
                size = len(encode(shaped[1]))
            except (InvalidRecord, PathError, WireError) as error:
                ledger.invalid(row, as_invalid(error))
                continue
            if target in waiting and sizes[target] + size > self.max_bytes:
                count -= len(waiting[target])
                yield from self._flush(target, waiting.pop(target), ledger)
            waiting.setdefault(target, []).append(_Shaped(row, *shaped))
            sizes[target] = size + (sizes.get(target, 0) if len(waiting[target]) > 1 else 0)
            count += 1
            full = target if len(waiting[target]) >= self.batch_size else None
            if full is None and (count > _MOST_WAITING or len(waiting) > _MOST_GROUPS):
                full = next(iter(waiting))
            if full is not None:
                count -= len(waiting[full])
                yield from self._flush(full, waiting.pop(full), ledger)
        for target, group in waiting.items():
            yield from self._flush(target, group, ledger)
        self.note_never_found(shaper, ledger)

    def _flush(self, target: _Target, group: list[_Shaped], ledger: Ledger) -> Iterator[Job]:
        try:
            job = self._job(target, group)
        except (InvalidRecord, PathError, WireError) as error:
            for shaped in group:
                ledger.invalid(shaped.row, as_invalid(error))
        else:
            yield job

    def _target(self, record: Mapping[str, Any]) -> _Target:
        endpoint = fill_endpoint(self.endpoint, record)
        query = tuple((name, _fill_query(name, value, record)) for name, value in self.query.items())
        group = None
        if self.group_by is not None:
            group = getter(self.group_by)(record)
            if group is MISSING or group is None or not isinstance(group, (str, int)):
                raise InvalidRecord(
                    f"group_by: no {self.group_by}", f"the record has no text or whole number in {self.group_by!r}"
                )
        return _Target(endpoint, tuple((name, _hashable(value)) for name, value in query), group)

    def _job(self, target: _Target, group: Sequence[_Shaped]) -> Job:
        body = self.body.of([dict(shaped.payload) for shaped in group]) if self.has_body else None
        call = build_call(
            self.method,
            target.endpoint,
            params=dict(target.query),
            json=body,
            headers=self.headers,
            idempotent=self.idempotent,
        )
        entries = [
            Entry(shaped.row, _name_of(shaped.record), encode(shaped.payload) if self.has_body else None)
            for shaped in group
        ]
        order = target.endpoint if _PLACEHOLDER.search(self.endpoint) else None
        return Job(entries, call, lambda: self._talk(call), order, self.filters)

    def _talk(self, call: Call) -> Conversation:
        reply = yield call
        if reply.succeeded:
            return self._accept(reply)
        if reply.unknown and not call.repeatable:
            return Settled(
                Outcome.REJECTED,
                reason="answer lost: Lago may have done it",
                detail=f"{reply.refusal.reason}; it was sent once and is not sent again: look in Lago first",
                code=reply.refusal.code,
                facts={"unknown": True},
            )
        return rejected(reply, "refused by Lago")

    def _accept(self, reply: Reply) -> Settled:
        if self.accepts is not None and isinstance(reply.result, Answer):
            why = ""
            try:
                fine = self.accepts(reply.result)
            except Exception as error:  # noqa: BLE001 - the user's function, after Lago has done its work
                fine, why = False, f": {type(error).__name__}: {error}"[:200]
            if not fine:
                return Settled(
                    Outcome.REJECTED,
                    reason="response_check failed" if why else "response_check returned False",
                    detail=f"Lago did what it was asked for and answered {reply.status}{why}",
                    code=str(reply.status),
                )
        return Settled(Outcome.ACCEPTED, lago_id=_lago_id(reply.json()))


def check_template(endpoint: str) -> None:
    """
    Check an endpoint's placeholders.

    :raises ValueError: if a brace is left over, or one names no column.
    """
    if any(not name.strip() for name in _PLACEHOLDER.findall(endpoint)):
        raise ValueError(f"endpoint {endpoint!r}: {{}} names no column: write {{external_id}} or the like")
    if re.search(r"[{}]", _PLACEHOLDER.sub("", endpoint)):
        raise ValueError(f"endpoint {endpoint!r} has a brace without its other half")


def fill_endpoint(endpoint: str, record: Mapping[str, Any]) -> str:
    """
    Return an endpoint with a record's values, each percent-encoded.

    :param endpoint: Path with ``{column}`` or ``{dotted.path}``.
    :param record: The record.
    :raises InvalidRecord: if a value is missing or no identifier.
    :raises PathError: if a value would lead to another path.
    """

    def value_of(found: re.Match[str]) -> str:
        return path(_text_of(found[1], record, "endpoint"))

    return _PLACEHOLDER.sub(value_of, endpoint)


def _fill_query(name: str, value: Any, record: Mapping[str, Any]) -> Any:
    if not isinstance(value, str):
        return value
    return _PLACEHOLDER.sub(lambda found: _text_of(found[1], record, f"query.{name}"), value)


def _text_of(column: str, record: Mapping[str, Any], where: str) -> str:
    value = getter(column.strip())(record)
    if value is MISSING or value is None or value == "":
        raise InvalidRecord(f"{where}: no {column}", f"the record has no value in {column!r}, which {where} names")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidRecord(f"{where}: {column} is no text", f"a {type(value).__name__} cannot stand in a URL")
    return str(value)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, set)) else value


def _name_of(record: Mapping[str, Any]) -> str | None:
    value = next((record[name] for name in _NAMES if record.get(name) not in (None, "")), None)
    return None if value is None else str(value)


def _lago_id(body: Any) -> str | None:
    """Return the id that Lago gave, where the answer is about one object."""
    if not isinstance(body, dict):
        return None
    found = body.get("lago_id")
    if found is None and len(body) == 1:
        (inner,) = body.values()
        found = inner.get("lago_id") if isinstance(inner, dict) else None
    return found if isinstance(found, str) else None
