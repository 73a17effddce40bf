"""Text from outside in log lines and messages: it must not look like anything else than text. Pure."""

from __future__ import annotations


def plain(text: str) -> str:
    r"""
    Return text with everything that is not printable written as JSON writes it (``\u001b``), line breaks included.

    A line break would forge a line of the log, an escape sequence would change the terminal that shows it, and
    characters that reverse the direction of writing would change what it seems to say.

    :param text: What a record, a file or a server says.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
