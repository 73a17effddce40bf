"""Releases of Lago, as far as a client can tell them apart."""

from __future__ import annotations

import re

Release = tuple[int, ...]

# The state of Lago's code that was recorded, later than 1.51.0.
NEWEST: Release = (9999,)

EXTERNAL_ID_FILTERS: Release = (1, 49)
EVENTS_STORE_SHOWN: Release = (1, 47)
INCOMPLETE_REFUSED: Release = (1, 45, 2)
# No release up to 1.51.0 has these.
DOTS_IN_SUBSCRIPTION_PATHS: Release = (1, 52)
CURRENCY_FREE_TO_CHANGE: Release = (1, 52)


def parse_release(text: str | None) -> Release:
    """
    Read ``1.48.0`` or ``v1.48``; None is the newest.

    :raises ValueError: for anything else.
    """
    if text is None:
        return NEWEST
    if not re.fullmatch(r"v?\d+(\.\d+){1,2}", text):
        raise ValueError(f"{text!r} is no release of Lago; write 1.48.0.")
    return tuple(int(part) for part in text.removeprefix("v").split("."))
