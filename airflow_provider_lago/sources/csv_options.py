"""What a user says about CSV files: how they are written, and what their cells mean."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from airflow_provider_lago.sources.compression import inner_name
from airflow_provider_lago.sources.rows import Cells, SourceError

#: What a message shows of a cell, in characters.
_SHOWN = 60

_TAB_SUFFIXES = (".tsv", ".tab")

#: Signs that a header is often separated by.
_SEPARATORS = ",;\t|"

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_BOOLEANS = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0"), False
)

_read_json = msgspec.json.Decoder(float_hook=Decimal).decode


class CellReader(Protocol):
    """What :func:`csv.reader` returns."""

    @property
    def line_num(self) -> int:
        """Number of lines that were read."""

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


class UnfitCell(ValueError):
    """
    A cell that is not of its column's type.

    :param reason: Column and type, without the value.
    :param detail: What was found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def _integer(cell: str) -> int:
    if not _INTEGER.fullmatch(cell):
        raise ValueError
    return int(cell)


def _decimal(cell: str) -> Decimal:
    if not _NUMBER.fullmatch(cell):
        raise ValueError
    return Decimal(cell)


def _number(cell: str) -> int | Decimal:
    return int(cell) if _INTEGER.fullmatch(cell) else _decimal(cell)


def _boolean(cell: str) -> bool:
    return _BOOLEANS[cell.lower()]


#: Type -> (what a cell of it is, how it is read)
_TYPES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "text": ("text", str),
    "integer": ("a whole number such as 1234", _integer),
    "decimal": ("a number such as 1234.56", _decimal),
    "number": ("a number such as 1234 or 1234.56", _number),
    "boolean": ("true or false, yes or no, 1 or 0", _boolean),
    "json": ("JSON", _read_json),
}


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """
    How CSV files are written, and what their cells mean.

    :param delimiter: The sign between two cells; None for a tab in ``.tsv`` and ``.tab`` files, and a comma in others.
    :param quotechar: The sign around a cell; None where quotation marks mean nothing.
    :param escapechar: The sign before one that means itself.
    :param doublequote: Whether two quotation marks within a quoted cell are one.
    :param encoding: Of the files' text.
    :param header: Names of the columns, where the files have no header line.
    :param skip_lines: Number of lines before the header, or before the first record.
    :param null: Cells that are missing values.
    :param types: Columns and what they hold; others hold text.
    """

    delimiter: str | None = None
    quotechar: str | None = '"'
    escapechar: str | None = None
    doublequote: bool = True
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None
    skip_lines: int = 0
    null: tuple[str, ...] = ("",)
    types: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> CsvOptions:
        """
        Return the options that a user gave.

        :param given: Option -> value; what is not given is as ever.
        :raises ValueError: naming the option that is unknown or wrong.
        """
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise ValueError(f"csv_options must be a dict, not a {type(given).__name__}")
        known = [field.name for field in fields(cls)]
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            raise ValueError(f"csv_options: {unknown!r} is not an option; there are {', '.join(known)}")
        options = cls(**{name: _CHECKS[name](name, value) for name, value in given.items()})
        signs = [sign for sign in (options.delimiter, options.quotechar, options.escapechar) if sign is not None]
        if len(set(signs)) < len(signs):
            raise ValueError("csv_options: delimiter, quotechar and escapechar must be different signs")
        return options

    def separator(self, origin: str) -> str:
        """Return the sign between two cells of a file."""
        if self.delimiter is not None:
            return self.delimiter
        return "\t" if inner_name(origin).lower().endswith(_TAB_SUFFIXES) else ","

    def cells(self, lines: Iterable[str], origin: str) -> CellReader:
        """Return what :mod:`csv` makes of lines."""
        return csv.reader(
            lines,
            delimiter=self.separator(origin),
            quotechar=self.quotechar,
            escapechar=self.escapechar,
            doublequote=self.doublequote,
            quoting=csv.QUOTE_NONE if self.quotechar is None else csv.QUOTE_MINIMAL,
            strict=True,
        )

    def plain(self, text: str) -> str | None:
        """Return lines so that they can be split at each delimiter and line break; None where :mod:`csv` is needed."""
        if "\r" in text:
            text = text.replace("\r\n", "\n")
            if "\r" in text:
                return None
        signs = (self.quotechar, self.escapechar)
        return None if any(sign is not None and sign in text for sign in signs) else text

    def other_separator(self, header: str, origin: str) -> str | None:
        """Return the sign that a header of a single column seems to be separated by, where the user named none."""
        own = self.separator(origin)
        if self.delimiter is not None:
            return None
        return next((sign for sign in _SEPARATORS if sign in header and sign != own), None)

    def converter(self, header: Sequence[str], origin: str) -> Callable[[list[str]], dict[str, Any]] | None:
        """
        Return what makes a record of the cells of a line; None where cells are texts and only empty ones missing.

        :raises SourceError: if a column that has a type is not in the header.
        """
        if not self.types and self.null == ("",):
            return None
        lost = next((name for name, _ in self.types if name not in header), None)
        if lost is not None:
            raise SourceError(
                f"{origin!r} has no column {lost!r}, which csv_options gives a type; it has {', '.join(header)[:500]}"
            )
        typed = [(name, kind, *_TYPES[kind]) for name, kind in self.types if kind != "text"]
        null = frozenset(self.null)

        def convert(cells: list[str]) -> dict[str, Any]:
            record: dict[str, Any] = dict(zip(header, cells, strict=True))
            for name, kind, meaning, read in typed:
                cell = record[name]
                if cell not in null:
                    try:
                        record[name] = read(cell.strip())
                    except (ValueError, KeyError, ArithmeticError, RecursionError, msgspec.DecodeError):
                        shown = repr(cell if len(cell) <= _SHOWN else cell[: _SHOWN - 3] + "...")
                        raise UnfitCell(f"{name}: not {kind}", f"{shown} in column {name!r} is not {meaning}") from None
            if null.isdisjoint(cells):
                return record
            pairs = zip(record.items(), cells, strict=True)
            return Cells((name, None if cell in null else value) for (name, value), cell in pairs)

        return convert


def _sign(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) != 1 or value in "\r\n\0":
        raise ValueError(f"csv_options: {name} must be one character, such as ';' or '\\t', not {value!r}")
    return value


def _sign_or_none(name: str, value: Any) -> str | None:
    return None if value is None else _sign(name, value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"csv_options: {name} must be True or False, not {value!r}")
    return value


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"csv_options: {name} must be a number of lines, not {value!r}")
    return value


def _encoding(name: str, value: Any) -> str:
    ascii_text = "".join(map(chr, range(128)))
    try:
        codec = codecs.lookup(value).name.removesuffix("-sig")  # the mark at the beginning is taken off in any case
        # Lines are found before they are decoded.
        if ascii_text.encode(codec) == ascii_text.encode() and not codec.startswith(("iso2022", "idna", "punycode")):
            return codec
    except (LookupError, TypeError, ValueError):
        pass
    raise ValueError(
        f"csv_options: {name} must be one that holds ASCII as it is, such as 'utf-8', 'latin-1' or 'cp1252', not "
        f"{value!r}; convert files of other ones"
    )


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"csv_options: {name} must be a list of texts, not {value!r}")
    return tuple(value)


def _header(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = _texts(name, value)
    if not names or not all(names) or len(set(names)) < len(names):
        raise ValueError(f"csv_options: {name} must name each column, and none twice, not {value!r}")
    return names


def _types(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise ValueError(f"csv_options: {name} must be a dict of columns and their types, not {value!r}")
    for column, kind in value.items():
        if not isinstance(column, str):
            raise ValueError(f"csv_options: {name} names columns by text, not by {column!r}")
        if not isinstance(kind, str) or kind not in _TYPES:
            raise ValueError(f"csv_options: the type of {column!r} must be one of {', '.join(_TYPES)}, not {kind!r}")
    return tuple(value.items())


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "delimiter": _sign_or_none,
    "quotechar": _sign_or_none,
    "escapechar": _sign_or_none,
    "doublequote": _flag,
    "encoding": _encoding,
    "header": _header,
    "skip_lines": _count,
    "null": _texts,
    "types": _types,
}
