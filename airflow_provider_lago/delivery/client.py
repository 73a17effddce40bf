"""What every aiohttp client of a delivery needs: certificates, and what its exceptions mean."""

from __future__ import annotations

import os
import ssl

import aiohttp
import certifi

from airflow_provider_lago.api.connection import ConnectionSettingsError
from airflow_provider_lago.api.failures import Cause


def cause_of(error: Exception) -> Cause:
    """Return what a library's exception says by its kind, where what it wraps does not say more."""
    kinds: tuple[tuple[type[Exception], Cause], ...] = (
        (aiohttp.ClientSSLError, Cause.TLS),
        (aiohttp.ClientProxyConnectionError, Cause.PROXY),
        (aiohttp.ClientHttpProxyError, Cause.PROXY),
        (aiohttp.ConnectionTimeoutError, Cause.CONNECT_TIMEOUT),
        (aiohttp.ClientConnectorError, Cause.CONNECT),
        (TimeoutError, Cause.READ_TIMEOUT),
    )
    return next((cause for kind, cause in kinds if isinstance(error, kind)), Cause.BROKEN)


def tls_context(conn_id: str, verify: bool | str) -> ssl.SSLContext | bool:
    """
    Return the TLS context for a delivery; building one loads all certificates, so it is built once.

    :param conn_id: Id of the Airflow connection, for messages.
    :param verify: Which certificates are trusted, as in a connection's settings.
    :raises ConnectionSettingsError: if the bundle cannot be read.
    """
    if verify is False:
        return False
    bundle = verify if isinstance(verify, str) else certifi.where()
    try:
        if os.path.isdir(bundle):
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except (ssl.SSLError, OSError):
        raise ConnectionSettingsError(
            conn_id, f"the CA bundle {bundle!r} holds no readable certificate: give a PEM file"
        ) from None
