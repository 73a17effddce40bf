"""Single calls over the two transports of the provider, so that one test holds both to the same rule."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.delivery.transport import Transport

GET = Call("GET", "plans")


def over_hook(hook: Any, call: Call = GET) -> Any:
    """Return the answer or the failure of one call over ``requests``."""
    return hook.exchange(call)


def over_transport(hook: Any, call: Call = GET) -> Any:
    """Return the answer or the failure of one call over aiohttp, with the settings of the same connection."""

    async def main() -> Any:
        async with Transport(hook.settings, "test", 2) as transport:
            return await transport.send(call)

    return asyncio.run(main())


BOTH = [over_hook, over_transport]
