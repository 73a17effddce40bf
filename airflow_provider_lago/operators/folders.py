"""Folders that an argument names: local ones, and prefixes in object stores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow_provider_lago.operators.files import object_store
from airflow_provider_lago.sources.places import name_in
from airflow_provider_lago.storage.folders import Folder, LocalFolder, StoreFolder

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def open_folder(argument: str, path: str | os.PathLike[str], below: str = "", conn_id: str | None = None) -> Folder:
    """
    Return a folder; made where it is missing.

    :param argument: Name of the operator's argument, for messages.
    :param path: A local path, a ``file://`` URI, or the URI of a prefix in an object store, such as
        ``s3://aws_default@bucket/reports``, which needs the provider of that store.
    :param below: A folder below it.
    :param conn_id: Airflow connection of the object store; None for the URI's own, or the store's default.
    :raises ValueError: if it is no path or cannot be written.
    """
    try:
        text = os.fspath(path)
        scheme, separator, rest = text.partition("://")
        if not separator or scheme == "file":
            return LocalFolder(os.path.join(rest if separator else text, below))
    except OSError as error:
        raise ValueError(f"{argument} {str(path)!r} cannot be written: {error.strerror or error}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument}: {error}") from None
    uri = "/".join(part for part in (text.rstrip("/"), below) if part)
    try:
        fs = object_store(uri, conn_id)
    except ValueError as error:
        raise ValueError(f"{argument} {text!r}: {error}") from None
    return StoreFolder(fs, name_in(fs, uri), uri)


def map_folder(context: Context) -> str:
    """Return the folder of a mapped task's own files, so that its siblings write elsewhere."""
    map_index = getattr(context.get("ti"), "map_index", None)
    return str(map_index) if map_index is not None and map_index >= 0 else ""
