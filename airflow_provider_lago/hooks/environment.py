"""What the process environment says about proxies and certificates, for connections that do not say it themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from requests.utils import get_environ_proxies, select_proxy

if TYPE_CHECKING:
    from airflow_provider_lago.api.connection import ConnectionSettings


def proxy_for(settings: ConnectionSettings, url: str) -> str | None:
    """
    Return the proxy for a URL: the connection's, or else that of ``HTTPS_PROXY``/``HTTP_PROXY``/``NO_PROXY``.

    :param settings: The connection.
    :param url: URL that is to be called.
    """
    if settings.proxy is not None:
        return settings.proxy
    return select_proxy(url, get_environ_proxies(url, no_proxy=None)) or None


def verify_with(settings: ConnectionSettings) -> bool | str:
    """
    Return the certificates to trust: the connection's choice, or else
    ``REQUESTS_CA_BUNDLE``/``CURL_CA_BUNDLE``.

    An explicit ``verify_tls`` false or ``ca_bundle`` wins over the environment (in ``requests`` alone it
    would not).

    :param settings: The connection.
    """
    if settings.verify is not True:
        return settings.verify
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
