"""Requests to any endpoint: one for each record, or for each group of records."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import msgspec

from airflow_provider_lago.api.answers import Answer, read_error
from airflow_provider_lago.api.calls import READS, Call, build_call
from airflow_provider_lago.api.endpoints import is_final, moves_money
from airflow_provider_lago.api.paths import PathError, clean, path, refuse_dotted_ids
from airflow_provider_lago.api.records import InvalidRecord, encode, refuse_unsendable
from airflow_provider_lago.api.wire import WireError, encode_query
from airflow_provider_lago.delivery.calls.conversation import Conversation, Job, Reply, rejected
from airflow_provider_lago.delivery.calls.plan import CallPlan, as_invalid
from airflow_provider_lago.delivery.ledger import Entry, Ledger
from airflow_provider_lago.delivery.outcomes import Outcome, Settled
from airflow_provider_lago.delivery.paths import MISSING, getter
from airflow_provider_lago.delivery.shaping import RecordShaper
from airflow_provider_lago.sources.rows import Row

#: Records that wait in groups that are not full, their bytes, and such groups, before the oldest one goes out as it is.
_MOST_WAITING = 10_000
_MOST_BYTES = 32 << 20
_MOST_GROUPS = 1_000

#: Bits of the longest whole number that is taken for a name.
_LONGEST_NAME = 500

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

#: Columns that commonly name a record, for messages and receipts.
_NAMES = ("external_id", "transaction_id", "lago_id", "id", "code", "external_customer_id", "external_subscription_id")

_DUPLICATE = {"transaction_id": ["value_already_exist"]}

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
    query: tuple[tuple[str, str], ...]
    group: str | int | None


@dataclass(slots=True)
class _Group:
    members: list[_Shaped] = field(default_factory=list)
    size: int = 0


class _Waiting:
    """
    Groups of records that are not full yet.

    :param most: Records of a group.
    :param most_bytes: Bytes of a group.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._groups: dict[_Target, _Group] = {}
        self._records = 0
        self._bytes = 0

    def add(self, target: _Target, shaped: _Shaped, size: int) -> Iterator[tuple[_Target, list[_Shaped]]]:
        """Take a record; yield the groups that have to go out: full ones, and the oldest where too much waits."""
        group = self._groups.get(target)
        if group is not None and group.size + size > self._most_bytes:
            yield self._take(target)
        group = self._groups.setdefault(target, _Group())
        group.members.append(shaped)
        group.size += size
        self._records += 1
        self._bytes += size
        if len(group.members) >= self._most:
            yield self._take(target)
        while self._records > _MOST_WAITING or self._bytes > _MOST_BYTES or len(self._groups) > _MOST_GROUPS:
            yield self._take(next(iter(self._groups)))

    def rest(self) -> Iterator[tuple[_Target, list[_Shaped]]]:
        """Yield all that still waits."""
        while self._groups:
            yield self._take(next(iter(self._groups)))

    def _take(self, target: _Target) -> tuple[_Target, list[_Shaped]]:
        group = self._groups.pop(target)
        self._records -= len(group.members)
        self._bytes -= group.size
        return target, group.members


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
    :param accepts: Tells whether the answer to a call that succeeded is as it should be.
    :param filters: Makes of the answer to a call what is handed on; None for all of it.
    :param max_bytes: Most bytes of the payloads of a request.
    :raises ValueError: if the endpoint or the query can never be sent.
    """

    method: str
    endpoint: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=Body)
    batch_size: int = 1
    group_by: str | None = None
    idempotent: bool | None = None
    accepts: Callable[[Call, Answer], bool] | None = None
    filters: Callable[[Call, Answer], bytes] | None = None
    max_bytes: int = 1_000_000

    noun: ClassVar[str] = "records"
    id_field: ClassVar[str] = "id"
    what: ClassVar[str] = "a request"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.method, self.endpoint)
        encode_query(self.query)

    @property
    def goes_to(self) -> str:
        """Verb and URL, for the log."""
        return f"{self.method} {self.settings.api_url}/{self.endpoint}"

    @property
    def has_body(self) -> bool:
        """Whether records go into a body, and not only into the URL."""
        return takes_body(self.method)

    def units(self, ledger: Ledger) -> Iterator[Job]:
        """Return a job for each group of records; the ledger gets the outcome of records that cannot be sent."""
        return self._requests(RecordShaper(self.shaping, None, self.what), ledger)

    def job(self, row: Row, record: Mapping[str, Any], payload: dict[str, Any]) -> Job:
        """Return the request of one record."""
        return self._job(self._target(record), [_Shaped(row, record, payload)])

    def _requests(self, shaper: RecordShaper, ledger: Ledger) -> Iterator[Job]:
        waiting = _Waiting(self.batch_size, self.max_bytes)
        for row in self.source.rows():
            shaped = self.shaped(row, shaper, ledger)
            if shaped is None:
                continue
            try:
                target, size = self._target(shaped[0]), self._size(shaped[1])
            except Exception as error:  # noqa: BLE001 - one odd record must never end a delivery
                ledger.invalid(row, _fault_of(error))
                continue
            for group in waiting.add(target, _Shaped(row, *shaped), size):
                yield from self._flush(*group, ledger)
        for group in waiting.rest():
            yield from self._flush(*group, ledger)
        self.note_never_found(shaper, ledger)

    def _flush(self, target: _Target, group: list[_Shaped], ledger: Ledger) -> Iterator[Job]:
        try:
            job = self._job(target, group)
        except Exception as error:  # noqa: BLE001 - as above
            for shaped in group:
                ledger.invalid(shaped.row, _fault_of(error))
        else:
            yield job

    def _size(self, payload: dict[str, Any]) -> int:
        """Return the length of a payload that can be sent; 0 where none is sent."""
        if not self.has_body:
            return 0
        refuse_unsendable(payload, "")
        return len(encode(payload))

    def _target(self, record: Mapping[str, Any]) -> _Target:
        endpoint = fill_endpoint(self.endpoint, record)
        self._refuse_another_call(endpoint)
        filled = {name: _fill_query(name, value, record) for name, value in self.query.items()}
        return _Target(endpoint, tuple(encode_query(filled)), self._group_of(record))

    def _group_of(self, record: Mapping[str, Any]) -> str | int | None:
        if self.group_by is None:
            return None
        group = getter(self.group_by)(record)
        if group is MISSING or not isinstance(group, (str, int)):
            raise InvalidRecord(
                f"group_by: no {self.group_by}", f"the record has no text or whole number in {self.group_by!r}"
            )
        return group

    def _refuse_another_call(self, endpoint: str) -> None:
        """What was confirmed, and what may be sent once only, was decided by the endpoint before it was filled."""
        if endpoint == self.endpoint:
            return
        meant = neutral(self.endpoint)
        for what, does in (("moves money", moves_money), ("cannot be undone", is_final)):
            if does(self.method, endpoint) and not does(self.method, meant):
                raise InvalidRecord(
                    "endpoint: leads elsewhere",
                    f"the record makes it {endpoint!r}, which {what}: a value may stand for an id, not for a resource "
                    "or an action",
                )

    def _job(self, target: _Target, group: Sequence[_Shaped]) -> Job:
        # Encoded before the user's function sees the payloads: it may change them.
        entries = [
            Entry(shaped.row, _name_of(shaped.record), encode(shaped.payload) if self.has_body else None)
            for shaped in group
        ]
        body = self.body.of([dict(shaped.payload) for shaped in group]) if self.has_body else None
        call = build_call(self.method, target.endpoint, json=body, headers=self.headers, idempotent=self.idempotent)
        if target.query:
            call = replace(call, query=target.query)
        filters = None if self.filters is None else partial(self.filters, call)
        return Job(entries, call, lambda: self._talk(call), self._order(target), filters)

    def _order(self, target: _Target) -> str | None:
        if _PLACEHOLDER.search(self.endpoint):
            return target.endpoint
        return None if target.group is None else str(target.group)

    def _talk(self, call: Call) -> Conversation:
        reply = yield call
        if reply.succeeded:
            return self._accept(call, reply)
        if reply.unknown and not call.repeatable:
            return Settled(
                Outcome.REJECTED,
                reason="answer lost: Lago may have done it",
                detail=f"{reply.refusal.reason}; it was sent once and is not sent again: look in Lago first",
                code=reply.refusal.code,
                facts={"unknown": True},
            )
        if reply.repeated and _was_done(call, reply):
            return Settled(Outcome.ACCEPTED, detail="an earlier try did it, whose answer was lost")
        if _holds_all(call, reply):
            return Settled(Outcome.DUPLICATE, reason="in Lago already")
        if reply.status == 429:
            return rejected(reply, "a payment provider asked Lago to wait; a part may be done: look in Lago first")
        return rejected(reply, f"refused by Lago (HTTP {reply.status})")

    def _accept(self, call: Call, reply: Reply) -> Settled:
        if self.accepts is not None and isinstance(reply.result, Answer):
            why = ""
            try:
                fine = self.accepts(call, reply.result)
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


def _was_done(call: Call, reply: Reply) -> bool:
    """Tell whether Lago refuses a repetition because the first one worked: what is deleted is gone, a code is taken."""
    code = reply.refusal.code or ""
    if call.method == "DELETE":
        return reply.status == 404 and code.endswith("_not_found") and code != "resource_not_found"
    body = reply.json()
    details = body.get("error_details") if isinstance(body, dict) else None
    return reply.status == 422 and details == {"code": ["value_already_exist"]}


def takes_body(method: str) -> bool:
    """Tell whether Lago reads a body of calls with this verb."""
    return method not in READS and method != "DELETE"


def neutral(endpoint: str) -> str:
    """Return an endpoint with an id that means nothing in the place of each placeholder."""
    return _PLACEHOLDER.sub("0", endpoint)


def check_template(method: str, endpoint: str) -> None:
    """
    Check what can be known of an endpoint before its placeholders are filled.

    :param method: HTTP verb.
    :param endpoint: Path with ``{column}`` or ``{dotted.path}``.
    :raises ValueError: if a brace is left over, a placeholder names no column, or it can never be sent.
    """
    if not isinstance(endpoint, str) or not endpoint.strip():
        raise ValueError(f"endpoint must be a path such as 'coupons', not {endpoint!r}")
    if any(not name.strip() for name in _PLACEHOLDER.findall(endpoint)):
        raise ValueError(f"endpoint {endpoint!r}: {{}} names no column: write {{external_id}} or the like")
    if re.search(r"[{}]", _PLACEHOLDER.sub("", endpoint)):
        raise ValueError(f"endpoint {endpoint!r} has a brace without its other half")
    refuse_dotted_ids(method, clean(neutral(endpoint)))


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
    if isinstance(value, (list, tuple)):
        return [_fill_query(name, item, record) for item in value]
    if not isinstance(value, str):
        return value
    return _PLACEHOLDER.sub(lambda found: _text_of(found[1], record, f"query.{name}"), value)


def _text_of(column: str, record: Mapping[str, Any], where: str) -> str:
    column = column.strip()
    value = getter(column)(record)
    if value is MISSING or value is None or value == "":
        raise InvalidRecord(f"{where}: no {column}", f"the record has no value in {column!r}, which {where} names")
    if isinstance(value, bool) or not isinstance(value, (str, int, uuid.UUID)):
        raise InvalidRecord(f"{where}: {column} is no text", f"a {type(value).__name__} cannot stand in a URL")
    try:
        return str(value)
    except ValueError:
        raise InvalidRecord(f"{where}: {column} is no text", "a number of thousands of digits is no id") from None


def _fault_of(error: Exception) -> InvalidRecord:
    if isinstance(error, (InvalidRecord, PathError, WireError)):
        return as_invalid(error)
    return InvalidRecord("cannot be sent", f"{type(error).__name__}: {error}"[:200])


def _holds_all(call: Call, reply: Reply) -> bool:
    """Tell whether Lago refuses events because it has them all, as after an answer that was lost."""
    if reply.status != 422 or call.method != "POST" or not isinstance(reply.result, Answer):
        return False
    details = read_error(reply.result).details
    if call.path == "events":
        return bool(details == _DUPLICATE)
    if call.path != "events/batch" or not isinstance(details, dict):
        return False
    events = msgspec.json.decode(call.body or b"{}").get("events")
    return isinstance(events, list) and details == {str(index): _DUPLICATE for index in range(len(events))}


def _name_of(record: Mapping[str, Any]) -> str | None:
    """Return what names a record, for messages and receipts."""
    for name in _NAMES:
        value = record.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LONGEST_NAME:
            return str(value)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, uuid.UUID):
            return str(value)
    return None


def _lago_id(body: Any) -> str | None:
    """Return the id that Lago gave, where the answer is about one object."""
    if not isinstance(body, dict):
        return None
    found = body.get("lago_id")
    if found is None and len(body) == 1:
        (inner,) = body.values()
        found = inner.get("lago_id") if isinstance(inner, dict) else None
    return found if isinstance(found, str) else None
