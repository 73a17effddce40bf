"""Which reader a file needs: by its name, or as the user says."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from airflow_provider_lago.sources.avro import read_avro
from airflow_provider_lago.sources.compression import inner_name
from airflow_provider_lago.sources.csv_lines import check_csv_header, read_csv
from airflow_provider_lago.sources.csv_options import CsvOptions
from airflow_provider_lago.sources.finding import Piece
from airflow_provider_lago.sources.json_array import check_json, read_json
from airflow_provider_lago.sources.json_lines import read_json_lines
from airflow_provider_lago.sources.parquet import read_parquet
from airflow_provider_lago.sources.rejects import NAME, read_rejects
from airflow_provider_lago.sources.rows import Row, SourceError, Start

#: (open file, its name, where to begin, takes places to begin at) -> the rows; the number of records up to its end
Reader = Callable[[BinaryIO, str, Start, Callable[[Start], None]], Generator[Row, None, int]]

#: Formats by the ending of a name, without that of a compression.
ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".avro": "avro",
}

FORMATS = tuple(dict.fromkeys(ENDINGS.values()))


@dataclass(frozen=True, slots=True)
class Reading:
    """
    How files are read.

    :param format: One of :data:`FORMATS`; None to tell by the ending of each name.
    :param csv: How tables of text are written; None for as usual.
    :param columns: The columns that are needed, where a format can leave out others; None for all.
    """

    format: str | None = None
    csv: CsvOptions | None = None
    columns: frozenset[str] | None = None


def format_of(path: str, reading: Reading) -> str:
    """
    Return the format of a file: one of :data:`FORMATS`.

    :raises SourceError: if it is not known.
    """
    if reading.format is not None:
        return reading.format
    name = inner_name(path).lower()
    found = ENDINGS.get(os.path.splitext(name)[1])
    if found is None:
        known = ", ".join(ENDINGS)
        raise SourceError(
            f"{path!r}: the name must end in one of {known} (and .gz, .bz2 or .zst), which says how it is read; or set "
            f"file_format to one of {', '.join(FORMATS)}"
        )
    return found


def reader_of(piece: Piece, reading: Reading) -> Reader:
    """
    Return what reads a file.

    :raises SourceError: if the format is not known, or cannot be read in parts of this kind.
    """
    kind = format_of(piece.path, reading)
    if (piece.bytes and kind not in {"jsonl", "csv", "tsv"}) or (piece.row_groups and kind != "parquet"):
        raise SourceError(f"{piece.path!r}: a {kind} file has no such parts")
    if kind in {"csv", "tsv"}:
        return partial(read_csv, options=csv_options(reading))
    if kind == "parquet":
        return partial(read_parquet, columns=reading.columns, row_groups=piece.row_groups)
    if NAME.fullmatch(os.path.basename(inner_name(piece.path))):
        return read_rejects
    readers: dict[str, Reader] = {"jsonl": read_json_lines, "json": read_json, "avro": read_avro}
    return readers[kind]


def beginning_of(piece: Piece, reading: Reading) -> Callable[[BinaryIO], object] | None:
    """Return what checks the beginning of a file, unpacked, by a :class:`SourceError`; None where it shows nothing."""
    kind = format_of(piece.path, reading)
    if kind in {"csv", "tsv"}:
        return partial(check_csv_header, origin=piece.path, options=csv_options(reading))
    return partial(check_json, origin=piece.path) if kind == "json" else None


def csv_options(reading: Reading) -> CsvOptions:
    """Return how a table of texts is written."""
    options = reading.csv or CsvOptions()
    # Where the name says it too, the options do it by themselves, and know that the user has not.
    if reading.format == "tsv" and options.delimiter is None:
        return replace(options, delimiter="\t")
    return options
