"""Records from a database: the rows of one statement, read while they are delivered."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from airflow_provider_lago.sources.rows import BEGINNING, SQL, BrokenOff, Cells, Row, SourceError, Start
from airflow_provider_lago.sources.sql_drivers import is_mistake, is_several, open_cursor

#: Rows that are asked for at a time, and so are in memory at most.
BLOCK = 500

#: What statements that give rows begin with.
_ASKS = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*+(?:select|with|values|table)\b", re.IGNORECASE | re.DOTALL)

#: PostgreSQL's name for a column that has none.
_NAMELESS = "?column?"

SEVERAL = "sql must be one statement, and these are several"

#: Longest message of a driver that is handed on.
_SAID = 300


class SqlSource:
    """
    The rows of one statement, as a database hands them on, in a read-only transaction that is open as long.

    :param statement: One statement that gives rows.
    :param parameters: Values for its placeholders, bound by the driver; in the driver's own style.
    :param connect: Makes a new connection of PEP 249. Called when reading begins.
    :param name: What the database is called in messages.
    :param clean: Takes secrets out of a message.
    :param tell: Gets lines for the log.
    """

    #: A connection of SQLite belongs to the thread that made it, and Airflow's hooks ask Airflow for the connection
    #: when they connect, which on Airflow 2.11 only the task's own thread can.
    is_foreign = True

    def __init__(
        self,
        statement: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None,
        connect: Callable[[], Any],
        *,
        name: str,
        clean: Callable[[str], str] = str,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._statement = statement
        self._parameters = parameters
        self._connect = connect
        self._name = name
        self._clean = clean
        self._tell = tell
        self._rows: Generator[Row, None, None] | None = None

    def __str__(self) -> str:
        return f"the rows of sql on {self._name}"

    def rows(self, start: Start = BEGINNING) -> Iterator[Row]:
        """Run the statement and yield its rows in the order in which the database gives them."""
        self.close()
        self._rows = self._read()
        return self._rows

    def close(self) -> None:
        """End the transaction and the connection, if reading has not come to its end. In the thread that reads."""
        if self._rows is not None:
            self._rows.close()

    def start_after(self, position: int) -> Start:
        """Return the beginning: a result cannot be entered in its midst."""
        return BEGINNING

    def fingerprint(self) -> str | None:
        """
        Return None: a statement says nothing of its rows.

        Another try may get other rows, or the same in another order, and the number of a row would then be that of
        another one: what is settled would be delivered again, and what is not would be left out.
        """
        return None

    def share_done(self) -> float | None:
        """Unknown: a database does not say how many rows there will be."""
        return None

    def _read(self) -> Generator[Row, None, None]:
        connection = self._open()
        try:
            cursor = self._execute(connection)
            names: Sequence[str] | None = None
            position = 0
            while True:
                block = self._next_block(cursor)
                if names is None:  # psycopg2 does not know the columns before
                    names = self._columns(cursor.description)
                if not block:
                    return
                for cells in block:
                    position += 1
                    yield Row(position, SQL, position, _record(names, cells))
        finally:
            # Not committing is rolling back. No cursor is closed and nothing is asked of the server before: it may be
            # in the midst of the statement, and drivers of MySQL would read the rest of the result first.
            with contextlib.suppress(Exception):
                connection.close()

    def _open(self) -> Any:
        try:
            return self._connect()
        except Exception as error:  # noqa: BLE001 - whatever a hook or a driver raises
            self._fail("cannot be reached", error)

    def _execute(self, connection: Any) -> Any:
        try:
            cursor = open_cursor(connection, self._tell)
            if self._parameters:
                cursor.execute(self._statement, self._parameters)
            else:  # without parameters a % is a %
                cursor.execute(self._statement)
        except Exception as error:  # noqa: BLE001 - whatever the driver raises
            self._fail("cannot run sql", error)
        if is_several(cursor):
            raise SourceError(f"{self._name}: {SEVERAL}")
        if cursor.description is None and not getattr(cursor, "name", None):
            raise SourceError(f"{self._name}: sql gives no rows: it must be a SELECT, or whatever else gives rows")
        return cursor

    def _next_block(self, cursor: Any) -> Sequence[Any]:
        try:
            block: Sequence[Any] = cursor.fetchmany(BLOCK)
        except Exception as error:  # noqa: BLE001 - whatever the driver raises
            self._fail("cannot read the rows of sql", error)
        return block

    def _columns(self, description: Sequence[Sequence[Any]]) -> Sequence[str]:
        names = [column[0] for column in description]
        for number, name in enumerate(names, 1):
            if not isinstance(name, str) or not name.strip() or name == _NAMELESS:
                raise SourceError(f"{self._name}: column {number} of the rows has no name: alias it (AS a_name)")
            if name in names[: number - 1]:
                raise SourceError(
                    f"{self._name}: two columns of the rows are called {name!r} ({names.index(name) + 1} and "
                    f"{number}): alias them (AS another_name)"
                )
        return names

    def _fail(self, what: str, error: Exception) -> NoReturn:
        """Raise what an error of the driver means: final where another try would end the same way."""
        said = (str(error).strip().splitlines() or [""])[0][:_SAID]
        text = self._clean(f"{self._name} {what}: {type(error).__name__}: {said}")
        if not is_mistake(error):
            raise BrokenOff(text) from None
        if not _ASKS.match(self._statement):
            text += "; sql must be a SELECT, or whatever else gives rows"
        raise SourceError(text) from None


def _record(names: Sequence[str], cells: Any) -> Mapping[str, Any]:
    values = cells.values() if isinstance(cells, Mapping) else cells
    pairs = zip(names, values, strict=True)
    return Cells(pairs) if None in values else dict(pairs)
