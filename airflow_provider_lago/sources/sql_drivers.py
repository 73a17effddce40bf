"""
What is particular to database drivers: how they stream a result, how they read values, and what their errors mean.

Nothing here imports a driver that is not in use: the connection's own type says which one it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

_decode = msgspec.json.Decoder(float_hook=Decimal).decode

#: Name of the cursor on the server; a connection is used for one statement.
_NAME = "lago"

#: SQLSTATEs (or their classes) of what another try would run into as well: the statement, its data, missing rights.
_MISTAKES = ("0A", "21", "22", "25001", "25006", "3F", "42", "44")

#: The same in the names of PEP 249, for drivers and errors that have no SQLSTATE.
_MISTAKEN = frozenset({"ProgrammingError", "NotSupportedError", "DataError", "IntegrityError"})

#: Python's own errors for parameters that do not fit the statement, and for texts that are not in the encoding.
_UNFIT = (TypeError, ValueError, LookupError)

#: Primary result codes of SQLite for the same; its driver calls all of them OperationalError.
_SQLITE_MISTAKES = frozenset({1, 8, 20, 21, 23, 25, 26})


class UnreadableJson:
    """
    A JSON value that Python cannot hold: nested too deep, or with a number of thousands of digits.

    :param text: The value.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def open_cursor(connection: Any, tell: Callable[[str], None]) -> Any:
    """
    Return a cursor in a read-only transaction that hands on rows without the whole result being loaded, if there is
    one.

    :param connection: A new connection.
    :param tell: Gets a line for the log where the driver is not known to stream.
    """
    driver = _driver_of(connection)
    if driver is not None:
        return _KNOWN[driver](connection)
    tell(
        f"The driver {type(connection).__module__} is not one of those of which it is known how they stream "
        f"({', '.join(sorted(_KNOWN))}): it may load the whole result into memory, and writing is not forbidden to the "
        "statement"
    )
    return connection.cursor()


def _driver_of(connection: Any) -> str | None:
    """Return the package of a known driver; connections may be of a class of the user's that derives from its own."""
    packages = (kind.__module__.partition(".")[0] for kind in type(connection).__mro__)
    return next((package for package in packages if package in _KNOWN), None)


def is_several(cursor: Any) -> bool:
    """
    Tell whether more than one statement was run in the place of one: psycopg2 hands on whatever text it is given.

    :param cursor: A cursor of :func:`open_cursor`, after its statement was run and before a row was read.
    """
    return type(cursor).__module__.startswith("psycopg2") and cursor.statusmessage not in {None, "DECLARE CURSOR"}


def is_mistake(error: BaseException) -> bool:
    """
    Tell whether an error of a driver lies in the statement, so that another try would end the same way.

    :param error: What the driver raised.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_MISTAKES
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(state, str):
        return state.startswith(_MISTAKES)
    return isinstance(error, _UNFIT) or not _MISTAKEN.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def read_json(text: str | bytes) -> Any:
    """
    Return a JSON value, numbers with a fraction as decimals.

    :param text: What the database sent.
    """
    try:
        return _decode(text)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError):
        # One value must not end the reading of all: its record is rejected where it is to be sent.
        return UnreadableJson(text if isinstance(text, str) else bytes(text).decode("utf-8", "replace"))


def _open_psycopg2(connection: Any) -> Any:
    from psycopg2 import extensions, extras

    connection.set_session(readonly=True, autocommit=False)
    extras.register_default_json(connection, loads=read_json)
    extras.register_default_jsonb(connection, loads=read_json)
    extras.register_uuid(conn_or_curs=connection)
    casters = {
        "DATE": (1082, 1182, extensions.PYDATE),
        "TIME": (1083, 1183, extensions.PYTIME),
        "TIMETZ": (1266, 1270, extensions.PYTIME),
        "TIMESTAMP": (1114, 1115, extensions.PYDATETIME),
        "TIMESTAMPTZ": (1184, 1185, extensions.PYDATETIMETZ),
    }
    for name, (oid, of_arrays, cast) in casters.items():
        _register(connection, name, oid, of_arrays, _or_text(cast))
    _register(connection, "BYTES", 17, 1001, _as_bytes)
    # The connection's own factory, of the extra "cursor", may give rows that are no sequences.
    return connection.cursor(_NAME, cursor_factory=extensions.cursor)


def _register(connection: Any, name: str, oid: int, of_arrays: int, cast: Callable[[Any, Any], Any]) -> None:
    from psycopg2 import extensions

    one = extensions.new_type((oid,), name, cast)
    extensions.register_type(one, connection)
    extensions.register_type(extensions.new_array_type((of_arrays,), f"{name}ARRAY", one), connection)


def _or_text(cast: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a function that reads a time, and gives the database's own text for one that Python cannot hold."""

    def read(text: str | None, cursor: Any) -> Any:
        # psycopg2 would make the year 9999 of an infinite time, and 00:00 of 24:00.
        if text is None or text.endswith("infinity") or text.startswith("24:"):
            return text
        try:
            return _in_utc(cast(text, cursor))
        except Exception:  # noqa: BLE001 - before the year 1, after 9999
            return text

    return read


def _in_utc(value: Any) -> Any:
    """
    Return a time that names its zone in UTC, any other as it is.

    Which zone the driver names is a setting of the session, on which an id that is made of the column must not depend.
    """
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value


def _as_bytes(text: Any, cursor: Any) -> bytes | None:
    from psycopg2 import BINARY

    value = BINARY(text, cursor)
    return None if value is None else bytes(value)


def _open_psycopg(connection: Any) -> Any:
    from psycopg.pq import Format
    from psycopg.rows import tuple_row
    from psycopg.types.json import set_json_loads
    from psycopg.types.string import TextLoader

    connection.autocommit = False
    connection.read_only = True
    set_json_loads(read_json, connection)
    adapters = connection.adapters
    for name in ("inet", "cidr"):
        adapters.register_loader(name, TextLoader)
    for name in ("date", "time", "timetz", "timestamp", "timestamptz"):
        oid = adapters.types[name].oid
        adapters.register_loader(oid, _loader_or_text(adapters.get_loader(oid, Format.TEXT)))
    return connection.cursor(_NAME, row_factory=tuple_row)


def _loader_or_text(of_driver: Any) -> Any:
    """Return a loader of times that gives the database's own text for one that Python cannot hold."""
    from psycopg import DataError
    from psycopg.adapt import Loader

    class OrText(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._load = of_driver(oid, context).load

        def load(self, data: Any) -> Any:
            try:
                return _in_utc(self._load(data))
            except (DataError, OverflowError):  # infinity, before the year 1, after 9999, 24:00
                return bytes(data).decode()

    return OrText


def _open_mysql(connection: Any) -> Any:
    """Return a cursor of MySQLdb (mysqlclient) or PyMySQL that leaves the result on the server."""
    driver = _driver_of(connection)
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
    connection.rollback()  # the next transaction is the first that it holds for
    return connection.cursor(importlib.import_module(f"{driver}.cursors").SSCursor)


def _open_mysql_connector(connection: Any) -> Any:
    connection.start_transaction(readonly=True)
    return connection.cursor(buffered=False)


def _open_sqlite(connection: Any) -> Any:
    connection.execute("PRAGMA query_only = ON")
    # A text that is not UTF-8 costs its record, as in a file, and not the whole result.
    connection.text_factory = _read_text
    return connection.cursor()


def _read_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


_KNOWN: dict[str, Callable[[Any], Any]] = {
    "psycopg2": _open_psycopg2,
    "psycopg": _open_psycopg,
    "MySQLdb": _open_mysql,
    "pymysql": _open_mysql,
    "mysql": _open_mysql_connector,
    "sqlite3": _open_sqlite,
}
