"""Credits that go into wallets and out of them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso
from airflow_provider_lago.sandbox.world import World


def shown(number: Decimal) -> str:
    """As Lago writes credits: always with a decimal place."""
    plain = f"{number.normalize():f}"
    return plain if "." in plain else f"{plain}.0"


def amount_of(amount: Decimal, wallet: Doc) -> Decimal:
    """Credits in money."""
    return amount * Decimal(wallet["rate_amount"])


def cents_of(amount: Decimal, wallet: Doc) -> int:
    """Credits in cents."""
    return int((amount_of(amount, wallet) * 100).quantize(Decimal(1), ROUND_HALF_UP))


def enter(wallet: Doc, amount: Decimal, kind: str, given: dict[str, Any], world: World) -> Doc:
    """
    Write one transaction; what is granted or voided moves the balance at once, what is bought when it is paid.

    :param kind: ``purchased``, ``granted`` or ``voided``.
    """
    now = iso(world.now())
    pending, outbound = kind == "purchased", kind == "voided"
    doc = world.store.add(
        "wallet_transaction",
        wallet["lago_id"],
        {
            "lago_wallet_id": wallet["lago_id"],
            "lago_invoice_id": None,
            "lago_credit_note_id": None,
            "lago_voided_invoice_id": None,
            "status": "pending" if pending else "settled",
            "source": "manual",
            "transaction_status": kind,
            "transaction_type": "outbound" if outbound else "inbound",
            "amount": shown(amount_of(amount, wallet)),
            "credit_amount": shown(amount),
            "invoice_requires_successful_payment": wallet["invoice_requires_successful_payment"],
            "metadata": given.get("metadata") or [],
            "remaining_amount_cents": None if outbound else cents_of(amount, wallet),
            "remaining_credit_amount": None if outbound else shown(amount),
            "priority": given.get("priority") or 50,
            "settled_at": None if pending else now,
            "failed_at": None,
            "created_at": now,
            "name": given.get("name"),
            "applied_invoice_custom_sections": [],
            "payment_method": {"payment_method_type": "provider", "payment_method_id": None},
            "purchase_order_number": given.get("purchase_order_number"),
        },
    )
    if not pending:
        _move(wallet, -amount if outbound else amount, world)
    return doc


def settle(transaction_id: str, world: World) -> None:
    """The invoice of bought credits was paid."""
    doc = world.store.get("wallet_transaction", transaction_id)
    wallet = doc and world.store.get("wallet", doc["lago_wallet_id"])
    if doc and wallet and doc["status"] == "pending":
        doc.update(status="settled", settled_at=iso(world.now()))
        world.store.save(doc)
        _move(wallet, Decimal(doc["credit_amount"]), world)


def _move(wallet: Doc, amount: Decimal, world: World) -> None:
    balance = Decimal(wallet["credits_balance"]) + amount
    cents = cents_of(balance, wallet)
    wallet.update(
        credits_balance=shown(balance),
        balance_cents=cents,
        credits_ongoing_balance=shown(balance),
        ongoing_balance_cents=cents,
        last_balance_sync_at=iso(world.now()),
    )
    world.store.save(wallet)
