"""The extra of an Airflow connection, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_provider_lago.api.connection import ConnectionSettingsError


def read_extra(conn_id: str, connection: Any, example: str) -> Mapping[str, Any]:
    """
    Return a connection's extra.

    Airflow reads a broken one as an empty one, and its settings would be ignored silently.

    :param conn_id: Id of the connection.
    :param connection: The connection.
    :param example: A good extra, for the message.
    :raises ConnectionSettingsError: if it is not a JSON object.
    """
    extra = connection.extra_dejson
    if not extra and connection.extra:
        try:
            extra = msgspec.json.decode(connection.extra)
        except msgspec.DecodeError:
            extra = None
    if isinstance(extra, dict):
        return extra
    raise ConnectionSettingsError(conn_id, f"extra is not a JSON object such as {example}")
