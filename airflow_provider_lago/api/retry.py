"""When a call may be repeated, and after how long: one policy for the hook and for deliveries."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

#: Writes that Lago recognises when they come twice: an event by its transaction_id (and, on the ClickHouse store,
#: its timestamp), an expression and an estimate because they store nothing.
_REPEATABLE_POSTS = frozenset(
    {
        "events",
        "events/batch",
        "events/estimate_fees",
        "events/estimate_instant_fees",
        "events/batch_estimate_instant_fees",
        "billable_metrics/evaluate_expression",
        "credit_notes/estimate",
        "invoices/preview",
    }
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How often and how patiently a call is tried.

    :param attempts: Tries in all, the first one included.
    :param base: Upper bound of the first wait, in seconds; it doubles with every try.
    :param cap: Upper bound of any wait, in seconds.
    """

    attempts: int = 8
    base: float = 1.0
    cap: float = 30.0

    def wait(self, tries: int, rng: Callable[[], float] = random.random) -> float:
        """
        Return the seconds to wait after ``tries`` failed tries: exponential, with full jitter.

        Jitter over the full range keeps many tasks that failed together from coming back together.

        :param tries: Failed tries so far, at least 1.
        :param rng: Source of a random number in [0, 1).
        """
        return min(self.cap, self.base * 2.0 ** min(tries - 1, 32)) * rng()


def wait_after_429(
    asked: float | None, tries: int, policy: RetryPolicy, rng: Callable[[], float] = random.random
) -> float:
    """
    Return the seconds to wait after a 429: what the server asked for, plus up to a tenth (at most 1 s) of jitter.

    :param asked: What the answer's headers ask for, in seconds; None falls back to the policy's backoff.
    """
    if asked is None:
        return policy.wait(tries, rng)
    # A window that is said to be over already is not believed at once, or the server would be asked all the time.
    return max(asked, min(policy.wait(tries, rng), policy.base)) + min(1.0, max(asked, 0.5) / 10) * rng()


def is_repeatable(method: str, path: str) -> bool:
    """
    Tell whether a call whose fate is unknown (timeout, reset, 5xx) may be sent again without doing harm.

    Lago has no idempotency header. Reads and the writes that it recognises by id are repeatable; every other write
    is not: ``POST /wallets`` twice makes two wallets. A 429 and a refused connection were never executed, so
    those are always safe to repeat and not asked here.

    :param method: HTTP verb.
    :param path: Path below ``/api/v1``.
    """
    verb = method.upper()
    if verb in _SAFE_METHODS:
        return True
    return verb == "POST" and path.strip("/") in _REPEATABLE_POSTS
