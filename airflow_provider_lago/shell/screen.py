"""What a command prints, and where the log of operators and deliveries goes."""

from __future__ import annotations

from typing import Any, TextIO

#: How the log line about a rejected record begins.
_REJECTED = ("Rejected", "Further rejected")


class Screen:
    """
    Prints lines, without the API key and without what could drive a terminal.

    :param out: Where results go.
    :param err: Where complaints go.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self.secret: str | None = None
        self._out = out
        self._err = err

    def say(self, text: str = "") -> None:
        """Print a result."""
        self._write(self._out, text + "\n")

    def ask(self, text: str) -> None:
        """Print a question, the answer to be typed behind it."""
        self._write(self._out, text + " ")

    def complain(self, text: str) -> None:
        """Print what went wrong, or wants attention."""
        self._write(self._err, text + "\n")

    def _write(self, stream: TextIO, text: str) -> None:
        stream.write(clean(text.replace(self.secret, "***") if self.secret else text))
        stream.flush()


def clean(text: str) -> str:
    """Return a text in which characters that a terminal obeys or cannot show are written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class Notes:
    """
    The log of an operator and its delivery. Keeps what it says about rejected records, and prints other warnings.

    :param screen: Where warnings go.
    """

    def __init__(self, screen: Screen) -> None:
        self.rejected: list[str] = []
        self._screen = screen

    def debug(self, msg: Any, /, *args: Any, **_: Any) -> None:
        """Keep nothing."""

    def info(self, msg: Any, /, *args: Any, **_: Any) -> None:
        """Keep nothing."""

    def warning(self, msg: Any, /, *args: Any, **_: Any) -> None:
        """Keep what became of a record, print anything else."""
        text = str(msg) % args if args else str(msg)
        if text.startswith(_REJECTED):
            self.rejected.append(text)
        else:
            self._screen.complain(f"Note: {text}")

    error = exception = critical = warning


class Progress(Notes):
    """
    The log of a delivery that runs: prints how far it came, while the receipts tell of rejected records.

    :param screen: Where it goes.
    """

    def info(self, msg: Any, /, *args: Any, **_: Any) -> None:
        """Print it."""
        self._screen.complain(str(msg) % args if args else str(msg))
