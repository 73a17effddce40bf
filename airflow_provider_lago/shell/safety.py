"""What may be sent, and where to. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from airflow_provider_lago.api.connection import ConnectionSettings


def is_live(settings: ConnectionSettings) -> bool:
    """
    Tell whether an organization must be taken for one that bills customers: any that is not on this machine.

    A name that only might lead back here (``host.docker.internal``, an intranet's test server) counts as live: an
    event cannot be deleted again. A tunnel from this machine to a live organization cannot be told from the sandbox.

    :param settings: The connection.
    """
    return not all(_is_loopback(url) for url in (settings.api_url, settings.ingest_url) if url is not None)


def _is_loopback(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def why_not_billed(*, bills: bool, live: bool, agreed: bool, address: str) -> str | None:
    """
    Return why something must not be sent because Lago bills it, or None where it may be sent.

    :param bills: Whether Lago bills what is sent.
    :param live: Whether the organization is a live one.
    :param agreed: Whether the user said ``--yes-bill-it``.
    :param address: The address, for the message.
    """
    if not bills or not live or agreed:
        return None
    return (
        f"{address} is not on this machine, so it is taken for a live organization: what is sent there is billed and "
        "cannot be taken back. Add --yes-bill-it if that is meant, or try it with the sandbox "
        "(python -m airflow_provider_lago.sandbox)"
    )


def why_not_asked(*, agreed: bool, terminal: bool) -> str | None:
    """
    Return why the question cannot be asked, or None where it can or need not be.

    :param agreed: Whether the user said ``--yes``.
    :param terminal: Whether the standard input is a terminal.
    """
    if agreed or terminal:
        return None
    return "The standard input is not a terminal, so nobody can be asked: add --yes to send it without a question"
