"""What a call to any endpoint may do: move money, destroy, bill. Pure."""

from __future__ import annotations

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
        "subscriptions",
        "wallet_transactions",
        "wallets",
    }
)

#: Calls below these that compute or show, and change nothing.
_HARMLESS = frozenset({"estimate", "preview", "download", "download_pdf", "download_xml", "metadata"})

#: Last steps of a path that cannot be undone.
_FINAL = frozenset({"void", "terminate", "lose_dispute"})

_ESTIMATES = frozenset({"estimate_fees", "estimate_instant_fees", "batch_estimate_instant_fees"})


def moves_money(method: str, path: str) -> bool:
    """
    Tell whether a call makes, changes or collects money, so that it must never be sent twice.

    :param method: HTTP verb.
    :param path: Path below ``/api/v1``.
    """
    segments = path.strip("/").split("/")
    if method.upper() in READS or segments[-1] in _HARMLESS:
        return False
    if segments[0] == "subscriptions":
        return len(segments) <= 2 and method.upper() in {"POST", "DELETE"}
    return any(segment in _MONEY for segment in segments[:3:2])


def is_final(method: str, path: str) -> bool:
    """
    Tell whether a call destroys or ends something for good.

    :param method: HTTP verb.
    :param path: Path below ``/api/v1``.
    """
    return method.upper() == "DELETE" or path.strip("/").split("/")[-1] in _FINAL


def bills(method: str, path: str) -> bool:
    """Tell whether a call moves money or stores usage, which cannot be deleted."""
    segments = path.strip("/").split("/")
    usage = segments[0] == "events" and method.upper() not in READS and segments[-1] not in _ESTIMATES
    return usage or moves_money(method, path)
