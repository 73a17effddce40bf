"""The API key in what comes back: some proxies echo headers, and answers go into files, XComs and messages. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote, unquote, urlsplit

#: A text as short as this is no key of Lago's (those are UUIDs), but may well be a word of an answer.
_SHORTEST = 8

_BLOT = "***"


class Blot:
    """
    Replaces a secret by ``***``: as it is, in another case, escaped for JSON or a URL, and inside of base64.

    :param secret: What must not be shown.
    :param as_it_is: Look for it as it is alone, which takes a fifth of the time.
    """

    def __init__(self, secret: str, *, as_it_is: bool = False) -> None:
        forms = {form for form in ((secret,) if as_it_is else _forms(secret)) if len(form) >= _SHORTEST}
        self._texts = sorted(forms, key=lambda form: (-len(form), form))
        self._bytes = [form.encode() for form in self._texts]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def text(self, text: str) -> str:
        """Return a text without the secret."""
        for form in self._texts:
            if form in text:
                text = text.replace(form, _BLOT)
        return text

    def data(self, data: bytes) -> bytes:
        """Return bytes without the secret; the same object where it is not in them, as nearly always."""
        for form in self._bytes:
            if form in data:
                data = data.replace(form, _BLOT.encode())
        return data


def _forms(secret: str) -> Iterator[str]:
    for cased in (secret, secret.lower(), secret.upper(), secret.swapcase()):
        yield cased
        yield quote(cased, safe="")
        yield json.dumps(cased)[1:-1]
        yield json.dumps(cased)[1:-1].replace("/", "\\/")
    yield from _inside_base64(secret.encode())


def _inside_base64(secret: bytes) -> Iterator[str]:
    """Yield what base64 makes of a secret in the midst of other bytes: three bytes are four characters."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode()
        inner = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def secrets_of(proxy: str | None) -> set[str]:
    """Return the texts of a proxy's URL that no log may show: its password as it stands there, and decoded."""
    password = urlsplit(proxy or "").password
    return {password, unquote(password)} if password else set()
