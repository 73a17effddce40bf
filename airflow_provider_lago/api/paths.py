"""Which URL a call goes to: an endpoint below ``/api/v1``, and ids that cannot lead to another object."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

#: Characters that stand in a path for themselves (RFC 3986 ``pchar`` without the unreserved ones), plus the
#: slash between segments and the percent sign of an escape that the caller wrote.
_SAFE_IN_PATH = "/%:@!$&'()*+,;="

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_STEP = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class PathError(ValueError):
    """An endpoint or an id that would lead a call to another object, another host or nowhere."""


def path(*parts: str | int) -> str:
    """
    Build an endpoint from its segments; each is percent-encoded, so an id may hold any character but a dot.

    ``path("customers", "a/b", "wallets")`` is ``customers/a%2Fb/wallets``. Whether a dotted id may be used is
    decided by :func:`refuse_dotted_ids`, which knows the verb.

    :param parts: The resource, then ids and sub-resources in turn.
    :return: The endpoint, relative to ``/api/v1``.
    :raises PathError: A part is empty (``DELETE customers/`` would hit the collection), holds a ``.`` or
        ``..`` step (as in ``a/../b``, which a proxy in front of Lago may resolve), a control character, or
        cannot be written in UTF-8.
    """
    if not parts:
        raise PathError("an endpoint needs at least the name of a resource")
    return "/".join(_segment(part) for part in parts)


def clean(endpoint: str) -> str:
    """
    Return an endpoint in the one form that is sent, logged and compared.

    A leading slash and one leading ``api/v1/`` are dropped, and characters that a URL cannot hold are
    escaped.

    :param endpoint: Path below ``/api/v1``, ids percent-encoded; build it with :func:`path`.
    :raises PathError: It is an absolute URL or ``//host``, has a query or fragment, holds ``.``/``..``/empty
        segments (also percent-encoded), a backslash, a control character, a broken ``%`` escape, or is empty.
    """
    if not isinstance(endpoint, str):
        raise PathError(f"an endpoint is text, not {type(endpoint).__name__}")
    _refuse_characters(endpoint)
    if _ABSOLUTE.match(endpoint) or endpoint.startswith("//"):
        raise PathError(
            "an endpoint is a path below /api/v1, such as 'customers', not a URL: the address comes from the connection"
        )
    bare = endpoint.removeprefix("/").removeprefix("api/v1/")
    if bare in {"", "api/v1"}:
        raise PathError("the endpoint is empty: name a resource such as 'customers'")
    for segment in bare.split("/"):
        _check_segment(segment, bare)
    try:
        return quote(bare, safe=_SAFE_IN_PATH)
    except UnicodeEncodeError:
        raise PathError("the endpoint cannot be written in UTF-8") from None


def url_for(api_url: str, endpoint: str) -> str:
    """
    Return the URL of an endpoint.

    :param api_url: The API's root, as in ``ConnectionSettings.api_url``.
    :param endpoint: See :func:`clean`.
    :raises PathError: See :func:`clean`.
    """
    return f"{api_url}/{clean(endpoint)}"


def refuse_dotted_ids(method: str, endpoint: str) -> None:
    """
    Refuse a path whose id holds a dot, because Lago would take it for another id.

    Lago's router ends a path id at its first dot: ``DELETE customers/a.b`` would delete customer ``a``, and
    ``GET customers/a.b`` would return it. Escaping does not help: HTTP clients turn ``%2E`` back into a dot,
    as RFC 3986 asks. The one route that takes dots in every release since 1.42.0 is ``GET
    events/{transaction_id}``, so that one passes; on an older server compare the returned ``transaction_id``.
    (Subscriptions take dots only in releases after 1.51.0, and a client cannot see the release.)

    :param method: HTTP verb.
    :param endpoint: Path below ``/api/v1``, as :func:`clean` returns it.
    :raises PathError: With the way out: the list filter for reads, and for writes that there is none by path.
    """
    segments = [unquote(segment) for segment in endpoint.split("/")]
    dotted = next((segment for segment in segments[1:] if "." in segment), None)
    if dotted is None:
        return
    reads = method.upper() in _READS
    if reads and segments[0] == "events" and len(segments) == 2:
        return
    resource, cut = segments[0], dotted.split(".", 1)[0]
    if reads:
        raise PathError(
            f"{method.upper()} {resource} by the id {dotted!r}: Lago cuts an id in a path at its first dot "
            "and would look "
            f"for {cut!r}; {_way_to_read(resource)}"
        )
    raise PathError(
        f"{method.upper()} {resource} by the id {dotted!r}: Lago cuts an id in a path at its first dot and "
        "would change "
        f"{cut!r} instead; do it in Lago's UI, or with an endpoint that takes the id in its body"
    )


def _way_to_read(resource: str) -> str:
    if resource in {"customers", "subscriptions"}:
        return (
            f"list instead: GET {resource} with params={{'external_id': ...}} (Lago 1.49.0 or newer) and "
            "compare the "
            "external_id of what comes back"
        )
    return f"list {resource} instead and compare the ids of what comes back"


def _segment(part: str | int) -> str:
    if isinstance(part, bool) or not isinstance(part, (str, int)):
        raise PathError(f"a part of an endpoint is text or a whole number, not {type(part).__name__}")
    text = str(part)
    if not text:
        raise PathError("an id in the endpoint is empty: the call would hit the whole collection")
    if _CONTROL.search(text):
        raise PathError("an id in the endpoint holds a control character")
    if _STEP.search(text):
        raise PathError(f"the id {text!r} cannot be sent in a path: '.' and '..' are steps to another path")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise PathError("an id in the endpoint cannot be written in UTF-8") from None


def _refuse_characters(endpoint: str) -> None:
    if _CONTROL.search(endpoint):
        raise PathError("the endpoint holds a control character (a line break from a template?)")
    if endpoint != endpoint.strip():
        raise PathError("the endpoint begins or ends with a space")
    if "\\" in endpoint:
        raise PathError(f"the endpoint {endpoint!r} holds a backslash; percent-encode ids with paths.path()")
    if "?" in endpoint or "#" in endpoint:
        raise PathError("the endpoint holds '?' or '#': pass query values as params, and percent-encode ids (%3F, %23)")
    if _BAD_ESCAPE.search(endpoint):
        raise PathError(f"the endpoint {endpoint!r} holds a '%' that starts no escape; percent-encode ids (% is %25)")


def _check_segment(segment: str, endpoint: str) -> None:
    if not segment:
        raise PathError(
            f"the endpoint {endpoint!r} has an empty segment: an id that a template left empty would make "
            "the call hit "
            "another object or the whole collection"
        )
    decoded = unquote(segment)
    if _STEP.search(decoded):  # also inside one segment, as a proxy may decode %2F before it resolves steps
        raise PathError(f"the endpoint {endpoint!r} holds a '.' or '..' step, which leads to another path")
    if _CONTROL.search(decoded):
        raise PathError("the endpoint holds an escaped control character")
