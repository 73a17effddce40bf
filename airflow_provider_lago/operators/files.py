"""Arguments about files: how they are read, and which object store a URI leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_lago.operators.arguments import check_choice
from airflow_provider_lago.sources.csv_options import CsvOptions
from airflow_provider_lago.sources.formats import FORMATS, Reading
from airflow_provider_lago.sources.places import conn_of


def file_reading(
    file_format: str | None, csv_options: Mapping[str, Any] | None, columns: frozenset[str] | None = None
) -> Reading:
    """
    Return how files are read.

    :param file_format: One of the formats, or None to tell by the names.
    :param csv_options: How tables of text are written; None for as usual.
    :param columns: The columns that are needed; None for all.
    :raises ValueError: if one of them is wrong.
    """
    form = None if file_format is None else check_choice("file_format", file_format, FORMATS)
    return Reading(form, None if csv_options is None else CsvOptions.of(csv_options), columns)


def object_store(uri: str, conn_id: str | None = None) -> Any:
    """
    Return the file system of an object store, through Airflow.

    :param uri: Of anything in the store, such as ``s3://aws_default@bucket/usage/*.jsonl``.
    :param conn_id: Airflow connection of the store; None for the URI's own, or the store's default.
    :raises ValueError: if the connection is missing, or the store's provider.
    """
    # Imported where it is used: it brings fsspec, which parsing a DAG file should not cost.
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, ObjectStoragePath

    named = conn_id or conn_of(uri)
    try:
        if named:
            BaseHook.get_connection(named)  # Amazon's provider would go on without it, as an anonymous user
        # On Airflow 2.11 a conn_id of None hides the one in the URI. The bucket alone: a glob is no path.
        scheme, _, rest = uri.partition("://")
        root = f"{scheme}://{rest.partition('/')[0]}/"
        return (ObjectStoragePath(root, conn_id=conn_id) if conn_id else ObjectStoragePath(root)).fs
    except AirflowNotFoundException as error:
        problem = str(error)
    except (ValueError, ImportError) as error:
        problem = f"{error}; is the provider of this store installed, with its file system?"
    raise ValueError(problem)
