"""The lines of an invoice."""

from __future__ import annotations

import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from airflow_provider_lago.sandbox.store import Doc


class Line(NamedTuple):
    """
    What is charged for.

    :param kind: ``add_on`` or ``credit``.
    :param item_id: of the add-on or the wallet transaction.
    """

    kind: str
    item_id: str
    code: str
    name: str
    description: str | None
    units: Decimal
    unit_cents: Decimal
    taxes: list[Doc]

    @property
    def amount_cents(self) -> int:
        """Units times price, to the cent."""
        return int((self.units * self.unit_cents).quantize(Decimal(1), ROUND_HALF_UP))


def fee(line: Line, customer: Doc, currency: str, now: str) -> Doc:
    """A line as Lago shows it."""
    rate = sum((Decimal(str(tax["rate"])) for tax in line.taxes), Decimal(0))
    amount = line.amount_cents
    taxes = int((amount * rate / 100).quantize(Decimal(1), ROUND_HALF_UP))
    return {
        "lago_id": str(uuid.uuid4()),
        "lago_customer_id": customer["lago_id"],
        "external_customer_id": customer["external_id"],
        "item": {"type": line.kind, "code": line.code, "name": line.name, "lago_item_id": line.item_id},
        "amount_cents": amount,
        "amount_currency": currency,
        "taxes_amount_cents": taxes,
        "taxes_rate": float(rate),
        "total_amount_cents": amount + taxes,
        "total_amount_currency": currency,
        "units": str(line.units),
        "total_aggregated_units": str(line.units),
        "precise_unit_amount": str(line.unit_cents / 100),
        "sub_total_excluding_taxes_amount_cents": amount,
        "pay_in_advance": False,
        "invoiceable": True,
        "payment_status": "pending",
        "description": line.description,
        "created_at": now,
    }
