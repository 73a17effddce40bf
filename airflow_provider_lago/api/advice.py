"""What an answer of Lago means for the person who runs the task: can another try help, and what to change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_lago.api.answers import read_error
from airflow_provider_lago.api.plain_text import plain

if TYPE_CHECKING:
    from airflow_provider_lago.api.answers import Answer

_PERMISSION = re.compile(r"(read|write)_action_not_allowed_for_(\w+)")


def missing_permission(code: str | None) -> str | None:
    """
    Return the permission that a 403 says the key lacks, such as ``event:write``; None for any other code.

    :param code: Lago's error code.
    """
    found = _PERMISSION.fullmatch(code or "")
    return f"{found[2]}:{found[1]}" if found else None


def is_redirect(answer: Answer) -> bool:
    """Tell whether the answer sends the caller to another URL. No redirect is followed: the API key would go along."""
    return 300 <= answer.status < 400 and answer.status != 304


def is_wrong_url(answer: Answer) -> bool:
    """
    Tell a 404 for a URL that Lago does not serve from one for an object that it does not hold.

    Lago's own is ``resource_not_found``, which it gives for any unknown route and before it looks at the key.
    A 404 that is not Lago's JSON comes from another server.
    """
    return answer.status == 404 and read_error(answer).code in {None, "resource_not_found"}


def lasts(answer: Answer) -> bool:
    """Tell whether the same call would fail the same way an hour later: key, permission, address or proxy."""
    return answer.status in {401, 403, 407} or is_redirect(answer) or is_wrong_url(answer)


def is_web_page(answer: Answer) -> bool:
    """Tell whether a body is a web page, which Lago's API never answers with: the URL leads to a UI or a proxy."""
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"} or answer.body.lstrip()[:9].lower() == b"<!doctype"


def redirect_origin(answer: Answer) -> str:
    """Return where a redirect leads: scheme, host and port alone, as the rest may hold secrets."""
    try:
        parts = urlsplit(answer.headers.get("location", ""))
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an unreadable address"
    if not host:
        return "another path of the same server"
    name = plain(f"[{host}]" if ":" in host else host)
    return f"{parts.scheme or 'https'}://{name}{f':{port}' if port else ''}"


def advise(answer: Answer, conn_id: str) -> str:
    """
    Return what a person should do about a failed call, or an empty text where there is nothing to change.

    :param answer: An answer that is not a success.
    :param conn_id: Id of the Airflow connection.
    """
    if is_redirect(answer):
        return (
            f"redirects are not followed, as the API key would go along; if {redirect_origin(answer)} is "
            "your Lago, "
            f"make it the host of connection {conn_id!r}"
        )
    if is_wrong_url(answer):
        return f"no such URL in this Lago: check the host of connection {conn_id!r}, the endpoint, and Lago's release"
    if answer.status == 403:
        return _advise_403(answer, conn_id)
    return {
        401: f"check the password (API key) of connection {conn_id!r}",
        407: f"the proxy wants credentials: check extra 'proxy' of connection {conn_id!r}",
        413: "send less in one request",
    }.get(answer.status, "")


def describe(answer: Answer, conn_id: str) -> str:
    """
    Return a failed answer as one line: status, what Lago says, what to do.

    :param answer: An answer that is not a success.
    :param conn_id: Id of the Airflow connection.
    """
    if is_redirect(answer):
        said = f"HTTP {answer.status}, a redirect to {redirect_origin(answer)}"
    else:
        said = read_error(answer).message
        said = said if said.startswith("HTTP ") else f"HTTP {answer.status} {said}"
    advice = advise(answer, conn_id)
    return one_line(f"{said}; {advice}" if advice else said)


def one_line(text: str, limit: int = 1000) -> str:
    """Return text without line breaks and other control characters, and no longer than ``limit`` characters."""
    flat = plain(" ".join(text.split()))
    return flat if len(flat) <= limit else f"{flat[: limit - 3]}..."


def _advise_403(answer: Answer, conn_id: str) -> str:
    code = read_error(answer).code
    permission = missing_permission(code)
    if permission is not None:
        return f"the API key of connection {conn_id!r} lacks {permission}: grant it in Lago (Developers, API keys)"
    if code == "feature_unavailable":
        return "this feature needs a Lago premium licence"
    return f"the API key of connection {conn_id!r} may not do this: check its permissions and the organization's plan"
