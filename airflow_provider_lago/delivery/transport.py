"""The sender's wire: one aiohttp session with one TLS context for a whole delivery."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from airflow_provider_lago.api.answers import Answer
from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.connection import ConnectionSettings
from airflow_provider_lago.api.failures import Cause, Failure, read_failure
from airflow_provider_lago.api.secrecy import Blot
from airflow_provider_lago.api.unpacking import ACCEPTED, AnswerTooLong, Body, NotUnpackable
from airflow_provider_lago.delivery.client import cause_of, tls_context

#: Longest answer that is held, in bytes: Lago's to a full batch of large events is far below it.
_LONGEST_ANSWER = 64 << 20


class Transport:
    """
    Sends requests to Lago. Use it as an asynchronous context manager.

    :param settings: The connection.
    :param user_agent: ``User-Agent`` header.
    :param connections: Most connections at the same time.
    """

    def __init__(self, settings: ConnectionSettings, user_agent: str, connections: int) -> None:
        self._settings = settings
        self._blot = Blot(settings.api_key)
        self._quick_blot = Blot(settings.api_key, as_it_is=True)
        self._headers = {
            "Authorization": f"Bearer {settings.api_key}",
            "Accept": "application/json",
            "Accept-Encoding": ACCEPTED,
            "Content-Type": "application/json",
            "User-Agent": user_agent,
        }
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        settings = self._settings
        secure = any(
            (url or "").startswith("https:") for url in (settings.api_url, settings.ingest_url, settings.proxy)
        )
        tls = tls_context(settings.conn_id, settings.verify) if secure else True
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=tls),
            timeout=aiohttp.ClientTimeout(
                total=settings.connect_timeout + 2 * settings.read_timeout,
                sock_connect=settings.connect_timeout,
                sock_read=settings.read_timeout,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=settings.proxy,
            auto_decompress=False,  # it would be done before anybody can say how much is enough
        )
        # aiohttp sends GET, PUT and DELETE again by itself when a connection breaks, without a word: what must be sent
        # once would be sent twice, and nobody could tell whose work it was. A test holds this switch to its effect.
        self._session._retry_connection = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, body: bytes) -> Answer | Failure:
        """Post a body and return what came back; never raises for what happens on the wire."""
        return await self._exchange("POST", url, body, None)

    async def send(self, call: Call) -> Answer | Failure:
        """Send a call and return what came back; never raises for what happens on the wire."""
        # What the call has percent-encoded stays as it is: decoded, an id could lead to another object.
        url = URL(f"{self._settings.api_url}/{call.target}", encoded=True)
        return await self._exchange(call.method, url, call.body, call.headers)

    async def _exchange(
        self, method: str, url: str | URL, body: bytes | None, headers: Mapping[str, str] | None
    ) -> Answer | Failure:
        if self._session is None:
            raise RuntimeError("the transport is not open")
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                # Some proxies echo headers, and answers go into files, webhooks and XComs.
                # Events that were taken come by the thousand a second, and say what was sent.
                blot = (
                    self._quick_blot if method == "POST" and headers is None and response.status == 200 else self._blot
                )
                return Answer.of(response.status, response.headers.items(), await _read(response), blot)
        except AnswerTooLong:
            return Failure(
                Cause.TOO_LONG, f"{_origin(url)} answers with more than {_LONGEST_ANSWER >> 20} MiB: is it Lago?"
            )
        except NotUnpackable as error:
            return Failure(Cause.BROKEN, f"the answer of {_origin(url)} cannot be unpacked: {error}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return read_failure(error, origin=_origin(url), conn_id=self._settings.conn_id, otherwise=cause_of(error))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    encoding, length = response.headers.get("Content-Encoding"), response.content_length
    if encoding is None and length is not None and length <= _LONGEST_ANSWER:
        return await response.read()
    body = Body(encoding, _LONGEST_ANSWER)
    async for piece in response.content.iter_any():
        body.add(piece)
    return body.whole()


def _origin(url: str | URL) -> str:
    parts = urlsplit(str(url))
    return f"{parts.scheme}://{parts.netloc}"
