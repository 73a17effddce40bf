"""One answer of Lago, and the line of JSON that tells of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_provider_lago.delivery.report import printable

#: Longest body that is kept of an answer that is not JSON, in characters: a proxy's error page says enough by then.
LONGEST_TEXT = 10_000

_LONGEST_ID = 60

_encode = msgspec.json.Encoder().encode
_check_syntax = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(frozen=True, slots=True)
class Response:
    """
    One answer of Lago that gave records their outcome.

    :param records: Position in the source and id of each record of the request, in the order of the request.
    :param method: HTTP verb.
    :param path: Path below ``/api/v1``, percent-encoded.
    :param status: HTTP status.
    :param request_id: The id under which Lago logged the request.
    :param body: As Lago sent it; it may be empty or not JSON.
    :param at: When it came.
    """

    records: Sequence[tuple[int, str | None]]
    method: str
    path: str
    status: int
    request_id: str | None
    body: bytes
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def line(self) -> bytes:
        """
        Return the answer as a JSON object in one line, without the line break.

        Lago's JSON stands in ``body`` as it came, every digit of it; a body that is not JSON is a text, cut at
        ``LONGEST_TEXT`` characters (then ``body_length`` says how many bytes it had), and an empty one is null.
        ``position`` and ``id`` stand at the top where the answer is about one record alone.
        """
        records = [{"position": position, "id": name} for position, name in self.records]
        line: dict[str, Any] = dict(records[0]) if len(records) == 1 else {}
        line |= {
            "records": records,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "request_id": self.request_id,
            **_shown(self.body),
            "at": self.at.isoformat(timespec="milliseconds"),
        }
        try:
            return _encode(line)
        except UnicodeEncodeError:  # half a surrogate pair in an id
            return _encode(printable(line))

    @property
    def where(self) -> str:
        """Which records it is about, for messages."""
        if not self.records:
            return f"no record ({self.method} {self.path})"
        position, name = self.records[0]
        shown = "" if name is None else f" (id {name[:_LONGEST_ID]!r})"
        if len(self.records) == 1:
            return f"record {position}{shown}"
        return f"{len(self.records)} records from {position}{shown} to {self.records[-1][0]}"


def key_of(line: bytes) -> str:
    """
    Return a key that is the same whenever the same line is sent: a receiver that saw it may drop the second copy.

    Positions, path and body alone would not do: an answer with an empty body to the records 1 to 100 comes every day.
    The line also holds the time and Lago's request id.
    """
    return hashlib.blake2b(line, digest_size=16).hexdigest()


def with_fields(line: bytes, **fields: str) -> bytes:
    """Return a line with some more fields at its end."""
    return line[:-1] + b"," + _encode(printable(fields))[1:]


def _shown(body: bytes) -> dict[str, Any]:
    if not body:
        return {"body": None}
    try:
        _check_syntax(body)
        body.decode()  # the syntax check passes strings that are not UTF-8
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _as_text(body)
    # Outside strings, where JSON allows none, a line break is only a space.
    return {"body": msgspec.Raw(body.replace(b"\r", b" ").replace(b"\n", b" "))}


def _as_text(body: bytes) -> dict[str, Any]:
    text = body[: 4 * LONGEST_TEXT].decode("utf-8", "backslashreplace")
    if len(text) <= LONGEST_TEXT:
        return {"body": text}
    return {"body": text[:LONGEST_TEXT], "body_length": len(body)}
