"""
A conversation with Lago about one record, or one group of records: calls out, replies in, an outcome at the end.

It is a generator that yields calls and gets replies, and so knows nothing of networks, pace or retries: all that it
decides can be read and tested without them. It may begin anew at any time, so it looks up first where repeating what
it does would do harm.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_lago.api.answers import Answer, describe_details, read_error
from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.delivery.ledger import Entry
from airflow_provider_lago.delivery.outcomes import Outcome, Refusal, Settled


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What came of a call.

    :param result: The answer; or why there is none, where Lago may have executed the call nevertheless.
    :param repeated: Whether an earlier try of the same call may have been executed, its answer being lost.
    :param complete: Whether a success can be read and holds what the call asks for.
    """

    result: Answer | Failure
    repeated: bool = False
    complete: bool = True

    @property
    def status(self) -> int:
        """The HTTP status; 0 where no answer came."""
        return self.result.status if isinstance(self.result, Answer) else 0

    @property
    def succeeded(self) -> bool:
        """Whether Lago did what it was asked for."""
        return 200 <= self.status < 300 and not self.unknown

    @property
    def unknown(self) -> bool:
        """Whether Lago may have executed the call although it does not say so."""
        if isinstance(self.result, Failure) or self.status >= 500 or self.status == 408:
            return True
        return 200 <= self.status < 300 and not self.complete

    @property
    def refusal(self) -> Refusal:
        """Why it did not succeed: without values, to be counted."""
        if isinstance(self.result, Failure):
            return Refusal(self.result.message, self.result.cause)
        if 200 <= self.status < 300:
            return Refusal(f"HTTP {self.status} without what was asked for", str(self.status))
        error = read_error(self.result)
        if error.details is not None:
            return Refusal(describe_details(error.details, 200), error.code or str(self.status))
        return Refusal(error.code or error.message, error.code or str(self.status))

    def json(self) -> Any:
        """Return the decoded body; None where there is none."""
        return self.result.json() if isinstance(self.result, Answer) else None

    def part(self, name: str) -> dict[str, Any]:
        """Return the object under a root of the body; empty where it is not there."""
        body = self.json()
        found = body.get(name) if isinstance(body, dict) else None
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Lost:
    """
    No outcome yet: whether Lago did what it was asked for is not known, and asking shows nothing of it.

    :param why: In words.
    :param at_last: What it comes to if that is so to the very end, while others like it are done.
    """

    why: str
    at_last: Settled | None = None


Conversation = Generator[Call, Reply, Settled | Lost]


@dataclass(frozen=True, slots=True)
class Job:
    """
    What is said to Lago about some records.

    :param entries: The records; they share their outcome.
    :param call: What changes something in Lago, if it holds nothing yet; for previews.
    :param talk: Begins the conversation.
    :param order: Jobs with the same text here are done one after the other, in the order of the source; None for any.
    :param filters: Makes of an answer what is handed on; None for all of it.
    """

    entries: Sequence[Entry]
    call: Call
    talk: Callable[[], Conversation]
    order: str | None = None
    filters: Callable[[Answer], bytes] | None = None


def throttled(reply: Reply, call: str) -> Lost:
    """
    Return the end of a conversation that a payment provider made Lago break off, again and again.

    :param reply: Lago's refusal.
    :param call: Verb and path.
    """
    detail = "a payment provider throttles Lago for this record; a part may be done: deliver it again later"
    return Lost(f"{call}: {reply.refusal.reason}", rejected(reply, detail))


def rejected(reply: Reply, detail: str, **facts: Any) -> Settled:
    """
    Return the outcome of a record that Lago refused.

    :param reply: Lago's refusal.
    :param detail: What it means.
    :param facts: What a receipt tells beyond that.
    """
    refusal = reply.refusal
    return Settled(Outcome.REJECTED, reason=refusal.reason, detail=detail, code=refusal.code, facts=facts)


def holds(answer: Answer, root: str | None) -> bool:
    """
    Tell whether an answer has what stands under a root; always where none is expected.

    :param root: As Lago names them: ``customer`` is an object, ``customers`` a list of objects.
    """
    if root is None:
        return True
    body = answer.json()
    found = body.get(root) if isinstance(body, dict) else None
    if root.endswith("s"):
        return isinstance(found, list) and all(isinstance(row, dict) for row in found)
    return isinstance(found, dict)


def is_readable(answer: Answer) -> bool:
    """Tell whether a success carries what Lago sends: nothing, JSON or plain text, and not the half of it."""
    if not answer.body.strip():
        return True
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind == "text/plain" or answer.json() is not None or answer.body.strip() == b"null"
