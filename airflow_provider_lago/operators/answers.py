"""Lago's answers as the user of an operator sees them: decoded, as lines, as a response, as the words of an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http.client import responses as reasons
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_lago.api.answers import Answer

if TYPE_CHECKING:
    import requests

    from airflow_provider_lago.delivery.report import Report
    from airflow_provider_lago.sources.rows import Row
    from airflow_provider_lago.storage.lines import Lines


def as_response(answer: Answer, url: str) -> requests.Response:
    """
    Return an answer as the class that users of Airflow's HttpOperator know.

    :param answer: The answer.
    :param url: Where it came from.
    """
    import requests

    response = requests.Response()
    response.status_code = answer.status
    response.reason = reasons.get(answer.status, "")
    response.headers.update(answer.headers)
    response.url = url
    response.encoding = "utf-8"
    response.raw = BytesIO(answer.body)
    return response


def decoded(answer: Answer) -> Any:
    """Return what an answer holds: None where it is empty, text where it is no JSON."""
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    if not answer.body.strip() or answer.body.strip() == b"null":
        return None
    body = None if kind == "text/plain" else answer.json()
    return answer.body.decode("utf-8", "replace") if body is None else body


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """
    Write lines to a file and return how many; a file of an earlier run is kept under another name.

    :param path: The file.
    :param lines: The lines.
    :raises OSError: if it cannot be written.
    """
    from airflow_provider_lago.delivery.responses.file import open_lines

    file, count = open_lines(path, what="responses_path"), 0
    try:
        for line in lines:
            file.write(line + b"\n")
            count += 1
    finally:
        file.close()
    return count


class Noted:
    """
    A report that remembers why the one record was rejected, for the error's message.

    :param report: Where all goes.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self.wants_receipts = report.wants_receipts
        self.is_remote = report.is_remote
        self.rejection = ""

    @property
    def held(self) -> int:
        """Bytes in memory that are not safe yet."""
        return self._report.held

    def rejected(self, row: Row, *, reason: str, detail: str, code: str | None, payload: bytes | None) -> None:
        """Keep a rejected record with the reason."""
        coded = f" ({code})" if code and code not in reason and not code.isdigit() else ""
        self.rejection = f"{reason}{coded}; {detail}"
        self._report.rejected(row, reason=reason, detail=detail, code=code, payload=payload)

    def receipts(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Keep a line for each of some records."""
        self._report.receipts(lines)

    def conflict(self, line: Mapping[str, Any]) -> None:
        """Keep both sides of a conflict."""
        self._report.conflict(line)

    def open(self, name: str, *, append: bool) -> Lines | None:
        """Open one more file."""
        return self._report.open(name, append=append)

    def seal(self) -> dict[str, int]:
        """Return marks that cover all evidence so far."""
        return self._report.seal()

    def keep(self) -> None:
        """Make safe what is sealed."""
        self._report.keep()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the summary and close."""
        self._report.finish(summary)

    def paths(self) -> dict[str, str]:
        """Return where the evidence lies."""
        return self._report.paths()
