"""The HTTP session to one Lago: its headers, its key, its certificates, its proxy."""

from __future__ import annotations

from functools import cache
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from airflow_provider_lago import __version__
from airflow_provider_lago.api.addresses import origin_of
from airflow_provider_lago.api.unpacking import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_lago.api.connection import ConnectionSettings


class LagoBearerAuth(AuthBase):
    """
    Puts the API key on requests to Lago, and on no others.

    :param api_key: The API key.
    :param urls: URLs whose origins may have the key.
    """

    def __init__(self, api_key: str, urls: Iterable[str]) -> None:
        self._api_key = api_key
        self._origins = frozenset(origin_of(url) for url in urls)

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header if the request goes to one of the origins."""
        if r.url is not None and origin_of(r.url) in self._origins:
            r.headers["Authorization"] = f"Bearer {self._api_key}"
        return r

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


class _QuietConnection(urllib3.connection.HTTPConnection):
    debuglevel = 0


class _QuietTlsConnection(urllib3.connection.HTTPSConnection):
    debuglevel = 0


class _QuietPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _QuietConnection


class _QuietTlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _QuietTlsConnection


class QuietAdapter(HTTPAdapter):
    """
    Prints no headers, whatever ``http.client.HTTPConnection.debuglevel`` is.

    That switch is how people debug ``requests``. It prints the key to stdout, which is a task's log.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _quieten(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:
        """Make the pools of connections over a proxy."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        _quieten(manager)
        return manager


def _quieten(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _QuietPool, "https": _QuietTlsPool}


class LagoSession(requests.Session):
    """
    A ``requests`` session with limits that hold for every call made through it.

    It follows no redirect (the answer is returned as it is), it waits no longer than the connection's
    timeouts, it keeps no cookies, and it reads neither ``.netrc`` (which could replace the key) nor other settings
    of the environment: these are resolved once when the session is made.

    :param timeout: Connect and read timeouts in seconds, for calls that name none.
    """

    def __init__(self, timeout: tuple[float, float]) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self.mount(scheme, QuietAdapter())
        self._timeout = timeout

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: no answer is a redirect to follow, so the key cannot travel with one."""
        return None

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request; without a timeout it would wait forever."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout
        return super().send(request, **kwargs)


def open_session(settings: ConnectionSettings) -> LagoSession:
    """
    Return a session for a connection. Nothing is sent yet.

    ``Accept`` is needed because Lago answers malformed JSON with an empty web page otherwise, and
    ``Content-Type`` because it reads no body of another type.

    :param settings: The connection.
    """
    session = LagoSession((settings.connect_timeout, settings.read_timeout))
    session.auth = LagoBearerAuth(settings.api_key, filter(None, (settings.api_url, settings.ingest_url)))
    session.verify = settings.verify
    if settings.proxy is not None:
        session.proxies = {"http": settings.proxy, "https": settings.proxy}
    session.headers.update(
        {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPTED,
            "Content-Type": "application/json",
            "User-Agent": user_agent(),
        }
    )
    return session


@cache
def user_agent() -> str:
    """Return the User-Agent header; Lago keeps it in its audit log and in events."""
    try:
        airflow = version("apache-airflow")
    except PackageNotFoundError:
        airflow = "unknown"
    return f"airflow-provider-lago/{__version__} (+airflow/{airflow})"
