"""What the process environment says about proxies and certificates where a connection does not say it itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from requests.utils import get_environ_proxies, select_proxy

if TYPE_CHECKING:
    from airflow_provider_lago.api.connection import ConnectionSettings


def proxy_for(settings: ConnectionSettings) -> str | None:
    """
    Return the connection's proxy, or else that of ``HTTPS_PROXY``/``HTTP_PROXY``/``ALL_PROXY`` and ``NO_PROXY``.

    :param settings: The connection.
    """
    return settings.proxy if settings.proxy is not None else proxy_of_environment(settings.api_url)


def verify_with(settings: ConnectionSettings) -> bool | str:
    """
    Return the certificates to trust: the connection's choice, or else ``REQUESTS_CA_BUNDLE``/``CURL_CA_BUNDLE``.

    An explicit ``verify_tls`` false or ``ca_bundle`` wins over the environment (in ``requests`` alone it would not).

    :param settings: The connection.
    """
    return settings.verify if settings.verify is not True else bundle_of_environment()


def proxy_of_environment(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, or None."""
    found = select_proxy(url, get_environ_proxies(url, no_proxy=None))
    return found if not found or "://" in found else f"http://{found}"


def bundle_of_environment() -> bool | str:
    """Return the CA bundle that the environment names, or True for the usual certificates."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


def problem_of(settings: ConnectionSettings) -> str | None:
    """
    Return why the settings cannot work on this machine, or None.

    :param settings: The connection, with the environment's choices in it.
    """
    if isinstance(settings.verify, str) and not os.path.exists(settings.verify):
        return (
            f"the CA bundle {settings.verify!r} (extra 'ca_bundle', or REQUESTS_CA_BUNDLE/CURL_CA_BUNDLE of the "
            "environment) does not exist on this machine"
        )
    if settings.proxy is not None and not settings.proxy.lower().startswith(("http://", "https://")):
        return (
            "the proxy of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) is not an http one: set extra 'proxy', "
            "or add Lago's host to NO_PROXY"
        )
    return None
