"""
JSON files: one array of objects, or one object a line.

An array is cut into the texts of its elements, which are decoded where they are checked, as lines are. Where a part of
the file is whole elements, msgspec cuts it. All else is gone through sign by sign: texts and brackets alone say where
an element ends, whether it is right or not, so a wrong one costs itself only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import BinaryIO

import msgspec

from airflow_provider_lago.sources.json_lines import LONGEST_LINE, read_json_lines
from airflow_provider_lago.sources.rows import BEGINNING, Row, SourceError, Start, Unreadable

#: Every so-manieth record is one behind which reading may begin another time.
_MARKED = 1_000

#: Guesses at the end of the last whole element of what was read, before going through it sign by sign.
_GUESSES = 8

#: What a report keeps of an element that is not a record, in bytes.
_KEPT = 2_000

_BLOCK = 1 << 17

#: Bytes in which an array begins, unless there are many blanks before it.
_HEAD = 1 << 10

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"

_QUOTE, _ARRAY_END = b'"]'
_OPENING = b"{["
_CLOSING = b"}]"
_BEHIND = b",]"

_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_blanks = re.compile(rb"[ \t\r\n]*+").match
_comma = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+(?=\{)").match
_find_sign = re.compile(rb'[",\[\]{}]').search
_text = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL).match

#: The beginning of an object whose first attribute holds records.
_wraps_records = re.compile(rb'\{[ \t\r\n]*+"([^"\\]*+)"[ \t\r\n]*+:[ \t\r\n]*+\[[ \t\r\n]*+\{').match

_EXPECTED = "give one array of objects, [{...}, {...}], or one object a line"


def read_json(
    stream: BinaryIO, origin: str, start: Start = BEGINNING, mark: Callable[[Start], None] | None = None
) -> Generator[Row, None, int]:
    """
    Yield a row for each element of an array, or for each line where the file is not an array.

    :param stream: The open file.
    :param origin: Its name.
    :param start: Where to begin.
    :param mark: Called now and then with a place at which reading may begin another time.
    :return: Number of records up to the end of this file.
    :raises SourceError: as :func:`check_json` and :func:`read_json_array`.
    """
    read = read_json_array if check_json(stream, origin) else read_json_lines
    return (yield from read(stream, origin, start, mark))


def check_json(stream: BinaryIO, origin: str) -> bool:
    """
    Tell whether a file is an array, and leave it at its beginning.

    :param stream: The open file.
    :param origin: Its name.
    :raises SourceError: if it is one object over several lines, an object around the records, or UTF-16.
    """
    try:
        stream.seek(0)
        head = stream.read(_HEAD).removeprefix(_BOM).lstrip(_BLANKS)
        if head.startswith(b"["):
            return True
        if b"\0" in head[:4] or head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise SourceError(f"{origin!r} is not UTF-8 text; it looks like UTF-16: convert it")
        stream.seek(0)
        line = _first_line(stream)
        if line.startswith(b"{"):
            _refuse_single_object(stream, origin, line)
        return line.startswith(b"[")
    finally:
        stream.seek(0)


def _first_line(stream: BinaryIO) -> bytes:
    """Return what is not blank of the first line that holds something, or of its first part where it is long."""
    line = stream.readline(LONGEST_LINE).removeprefix(_BOM)
    while line and not line.strip(_BLANKS):
        line = stream.readline(LONGEST_LINE)
    return line.strip(_BLANKS)


def _refuse_single_object(stream: BinaryIO, origin: str, line: bytes) -> None:
    following = _first_line(stream)
    scan = _Scan()
    while scan.end(line) >= 0:
        continue
    is_whole = len(line) < LONGEST_LINE - len(_BOM)
    if is_whole and scan.depth and not scan.in_text and following and not following.startswith(b"{"):
        raise SourceError(f"{origin!r} holds an object that goes over several lines: {_EXPECTED} (jq -c writes it)")
    wrapper = _wraps_records(line)
    if wrapper and (scan.depth or (not following and line.endswith(b"}") and line[:-1].rstrip().endswith(b"]"))):
        name = wrapper[1][:80].decode("utf-8", "replace")
        raise SourceError(
            f"{origin!r} is one object whose {name!r} holds the records: {_EXPECTED} (jq -c '.{name}[]' writes them)"
        )


class _Scan:
    """Goes through the text of an element sign by sign, a piece after the other."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.depth = 0
        self.in_text = False

    def end(self, data: bytes) -> int:
        """Return the index of the comma or bracket behind the element, and -1 where more is needed."""
        while (not self.in_text or self._leave_text(data)) and (found := _find_sign(data, self.at)):
            sign = data[found.start()]
            self.at = found.end()
            if sign == _QUOTE:
                self.in_text = True
            elif sign in _OPENING:
                self.depth += 1
            elif self.depth == 0:
                if sign in _BEHIND:
                    return found.start()
            elif sign in _CLOSING:
                self.depth -= 1
        self.at = max(self.at, len(data))
        return -1

    def _leave_text(self, data: bytes) -> bool:
        text = _text(data, self.at)
        end = text.end() if text else self.at
        sign = data[end : end + 1]
        self.in_text = sign != b'"'
        # Behind a backslash at the end of this piece, the first sign of the next one belongs to the text.
        self.at = end + 2 * len(sign) - (not self.in_text)
        return not self.in_text


class _Window:
    """
    The part of a file that is looked at.

    :param stream: The open file.
    :param base: Number of the file's bytes before ``data``.
    """

    def __init__(self, stream: BinaryIO, base: int) -> None:
        self._stream = stream
        self.base = base
        self.data = b""
        self.at = 0

    @property
    def offset(self) -> int:
        """Number of the file's bytes before the place that is looked at."""
        return self.base + self.at

    def more(self) -> bool:
        """Read on, and forget what is behind; False at the end of the file."""
        rest = self.data[self.at :]
        # More at a time for a long element, whose beginning is copied each time.
        block = self._stream.read(min(max(_BLOCK, len(rest)), max(LONGEST_LINE + 1 - len(rest), 1)))
        self.base += self.at
        self.at = 0
        self.data = rest + block
        return bool(block)


def read_json_array(
    stream: BinaryIO, origin: str, start: Start = BEGINNING, mark: Callable[[Start], None] | None = None
) -> Generator[Row, None, int]:
    """
    Yield a row for each element of an array; its JSON is left to be decoded where it is checked.

    :param stream: The open file.
    :param origin: Its name.
    :param start: Where to begin; its line is the number of elements before it.
    :param mark: Called now and then with a place at which reading may begin another time.
    :return: Number of records up to the end of this file.
    :raises SourceError: if it is not an array, breaks off, or goes on behind the array.
    """
    position, number = start.position, start.line
    stream.seek(start.offset)
    window = _Window(stream, start.offset)
    if not start.offset:
        _enter(window, origin)
    marked = position
    is_last = False
    while not is_last:
        for raw in _take_elements(window):
            position += 1
            number += 1
            yield Row(position, origin, number, bytes(raw))
        here = window.base
        while not is_last and window.base == here:
            if position - marked >= _MARKED and mark is not None:
                marked = position
                mark(Start(position, start.file, number, window.offset))
            text = _take_element(window, origin, number)
            is_last = window.data[window.at - 1] == _ARRAY_END
            if text or not is_last:  # nothing stands in an empty array, nor behind a last comma
                position += 1
                number += 1
                yield Row(position, origin, number, text or Unreadable("not JSON", "nothing stands before a comma", ""))
    _leave(window, origin)
    return position


def _take_elements(window: _Window) -> list[msgspec.Raw]:
    """
    Return the texts of the whole elements in the window, or none where that needs a look at each sign.

    The end of the last one is guessed. What stands before it is a list of JSON values only if the guess is right: a
    place within a text or an object leaves that one open.
    """
    end = len(window.data)
    for _ in range(_GUESSES):
        end = window.data.rfind(b"}", window.at, end)
        if end < 0:
            break
        comma = _comma(window.data, end + 1)
        if comma is None:
            continue
        try:
            elements = _elements(b"[" + window.data[window.at : end + 1] + b"]")
        except (msgspec.DecodeError, RecursionError):
            continue
        window.at = comma.end()
        return elements
    return []


def _enter(window: _Window, origin: str) -> None:
    window.more()
    if window.data.startswith(_BOM):
        window.at = len(_BOM)
    while _skip_blanks(window) and window.more():
        continue
    if window.data[window.at : window.at + 1] != b"[":
        raise SourceError(f"{origin!r} is not a JSON array: {_EXPECTED}")
    window.at += 1


def _leave(window: _Window, origin: str) -> None:
    while _skip_blanks(window):
        if not window.more():
            return
    raise SourceError(
        f"{origin!r}: the array ends at byte {window.offset:,}, and something follows: {_EXPECTED}; several arrays go "
        "into files of their own"
    )


def _skip_blanks(window: _Window) -> bool:
    """Skip white space; tell whether nothing else is left of what was read."""
    blanks = _blanks(window.data, window.at)
    window.at = blanks.end() if blanks else window.at
    return window.at == len(window.data)


def _take_element(window: _Window, origin: str, before: int) -> bytes | Unreadable:
    """Return the text of an element that is not whole in the window, is deep, or is not an object."""
    while _skip_blanks(window):
        _more(window, origin, before)
    scan = _Scan(window.at)
    while (end := scan.end(window.data)) < 0:
        if len(window.data) - window.at > LONGEST_LINE:
            return _skip_element(window, scan, origin, before)
        scan.at -= window.at
        _more(window, origin, before)
    text = window.data[window.at : end].strip(_BLANKS)
    window.at = end + 1
    return text


def _skip_element(window: _Window, scan: _Scan, origin: str, before: int) -> Unreadable:
    first = window.offset
    head = window.data[window.at : window.at + _KEPT]
    while (end := scan.end(window.data)) < 0:
        window.at = len(window.data)
        scan.at -= window.at
        _more(window, origin, before)
    window.at = end + 1
    return Unreadable(
        "element too long",
        f"{window.offset - 1 - first:,} bytes, more than the {LONGEST_LINE:,} that are read as one record",
        head.decode("utf-8", "replace"),
    )


def _more(window: _Window, origin: str, before: int) -> None:
    if not window.more():
        raise SourceError(
            f"{origin!r}: the array breaks off behind element {before:,}, at byte {window.base + len(window.data):,}: "
            "the file was cut off, or a quotation mark or bracket of this element is never closed; write it again"
        )
