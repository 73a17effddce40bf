"""Answers, and the bodies of Lago's refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=UTF-8"


@dataclass(slots=True)
class Answer:
    """One HTTP answer before it is written."""

    status: int
    body: bytes = b""
    content_type: str | None = JSON
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """Raised by a handler to end a request with an answer other than 200."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def ok(body: object) -> Answer:
    """200 with a JSON body."""
    return Answer(200, msgspec.json.encode(body))


def _refusal(status: int, error: str, **rest: Any) -> Refusal:
    return Refusal(Answer(status, msgspec.json.encode({"status": status, "error": error, **rest})))


def missing_param(name: str) -> Refusal:
    """400: the root key is missing or blank."""
    return _refusal(400, f"BadRequest: param is missing or the value is empty or invalid: {name}")


def malformed_json(accept: str) -> Refusal:
    """400: Lago fails before it forces JSON, so only a client that asks for JSON gets JSON."""
    if "application/json" in accept:
        return _refusal(400, "Bad Request")
    return Refusal(Answer(400, content_type=HTML))


def unauthorized() -> Refusal:
    """401: a missing and a wrong key look the same."""
    return _refusal(401, "Unauthorized")


def forbidden(code: str) -> Refusal:
    """403 with a code."""
    return _refusal(403, "Forbidden", code=code)


def not_found(resource: str) -> Refusal:
    """404: the object, or for ``resource`` the route, does not exist."""
    return _refusal(404, "Not Found", code=f"{resource}_not_found")


def not_allowed(code: str) -> Refusal:
    """405: the state of an object forbids the call."""
    return _refusal(405, "Method Not Allowed", code=code)


def invalid(details: Mapping[str, object] | str) -> Refusal:
    """422 with ``error_details``."""
    return _refusal(422, "Unprocessable Entity", code="validation_errors", error_details=details)


def provider_refusal(fault: str, kind: str, code: str | None) -> Refusal:
    """
    What Lago answers when a payment provider refuses it.

    :param fault: ``provider_error``, ``third_party_error`` or ``too_many_provider_requests``.
    :param kind: of provider.
    :param code: of the account with it.
    """
    message = f"The sandbox's {kind} refused."
    if fault == "too_many_provider_requests":
        details: dict[str, object] = {"provider_name": kind, "message": message}
        return _refusal(429, "Too Many Provider Requests", code=fault, error_details=details)
    if fault == "third_party_error":
        details = {"third_party": kind, "thirdparty_error": message}
        return _refusal(422, "Unprocessable Entity", code=fault, error_details=details)
    details = {"code": "refused", "message": message, "request_id": "req_sandbox", "http_status": 402}
    return _refusal(422, "Unprocessable Entity", code=fault, provider={"code": code}, error_details=details)


def crash() -> Refusal:
    """500: inputs on which Lago raises an unhandled exception."""
    refusal = _refusal(500, "Internal Server Error")
    refusal.answer.content_type = "application/json; charset=UTF-8"
    return refusal
