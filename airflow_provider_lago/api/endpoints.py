"""What a call to any endpoint may do: move money, destroy, bill. Pure."""

from __future__ import annotations

from urllib.parse import unquote

from airflow_provider_lago.api.calls import READS

#: Resources whose writes make, change or collect money. Lago has no idempotency keys: a wallet posted twice is two.
_MONEY = frozenset(
    {
        "applied_coupons",
        "credit_notes",
        "fees",
        "invoices",
        "order_forms",
        "orders",
        "payment_receipts",
        "payment_requests",
        "payments",
        "quote_versions",
        "quotes",
        "subscriptions",
        "wallet_transactions",
        "wallets",
    }
)

#: Calls that compute and store nothing.
_COMPUTES = frozenset({("invoices", "preview"), ("credit_notes", "estimate")})

#: What may be done to an object of those resources without touching money.
_SHOWS = frozenset({"download", "download_pdf", "download_xml"})
_ATTACHED = frozenset({"alerts", "metadata"})

#: What is done to an object and cannot be undone.
_FINAL = frozenset({"void", "terminate", "lose_dispute"})

#: Resources whose objects end subscriptions when they are deleted, which Lago bills.
_ENDS_SUBSCRIPTIONS = frozenset({"customers", "plans"})

_ESTIMATES = frozenset({"estimate_fees", "estimate_instant_fees", "batch_estimate_instant_fees"})


def moves_money(method: str, path: str) -> bool:
    """
    Tell whether a call makes, changes or collects money, so that it must never be sent twice.

    What is not known below such a resource is taken for something that does.

    :param method: HTTP verb.
    :param path: Path below ``/api/v1``.
    """
    verb = method.upper()
    return verb not in READS and any(_is_money(verb, segments) for segments in _readings(path))


def is_final(method: str, path: str) -> bool:
    """
    Tell whether a call destroys or ends something for good.

    :param method: HTTP verb.
    :param path: Path below ``/api/v1``.
    """
    ends = any(len(segments) > 2 and segments[-1] in _FINAL for segments in _readings(path))
    return ends or method.upper() == "DELETE"


def bills(method: str, path: str) -> bool:
    """
    Tell whether a call moves money, ends subscriptions, or stores usage, which cannot be deleted.

    :param method: HTTP verb.
    :param path: Path below ``/api/v1``.
    """
    verb = method.upper()
    segments = _readings(path)[0]
    usage = segments[0] == "events" and verb not in READS and segments[-1] not in _ESTIMATES
    ends = verb == "DELETE" and len(segments) == 2 and segments[0] in _ENDS_SUBSCRIPTIONS
    return usage or ends or moves_money(method, path)


def _readings(path: str) -> tuple[list[str], list[str]]:
    """
    Return the steps of a path as Lago reads them, and as it does behind a proxy that decodes ``%2F``.

    Both unescaped and without a format: what either takes for money is money.
    """
    bare = path.strip("/").removeprefix("api/v1/")
    split_first, decoded_first = bare.split("/"), unquote(bare).strip("/").split("/")
    return [_step(unquote(step)) for step in split_first], [_step(step) for step in decoded_first]


def _step(text: str) -> str:
    return text.partition(".")[0]


def _is_money(verb: str, segments: list[str]) -> bool:
    if segments[0] == "subscriptions":
        return len(segments) <= 2 and verb in {"POST", "DELETE"}
    return any(segment in _MONEY for segment in segments[:3:2]) and not _is_harmless(segments)


def _is_harmless(segments: list[str]) -> bool:
    # By position, as an id may be any word: the wallet of the code "metadata" is a wallet.
    object_ends = 4 if segments[0] == "customers" else 2
    below = segments[object_ends:]
    if tuple(segments) in _COMPUTES:
        return True
    return bool(below) and (below[0] in _ATTACHED or (len(below) == 1 and below[0] in _SHOWS))
