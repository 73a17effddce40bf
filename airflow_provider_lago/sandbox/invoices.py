"""Invoices: one-off ones for add-ons, and those for credits of wallets."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from airflow_provider_lago.sandbox import customer_metadata, customers, taxes
from airflow_provider_lago.sandbox.answers import Answer, invalid, not_allowed, not_found, ok
from airflow_provider_lago.sandbox.call import Call, texts
from airflow_provider_lago.sandbox.customers import set_currency
from airflow_provider_lago.sandbox.fees import Line, fee
from airflow_provider_lago.sandbox.resources import decimal, listed, listed_docs, must_find, must_get
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import day_of, iso
from airflow_provider_lago.sandbox.wallet_credits import settle
from airflow_provider_lago.sandbox.world import World

_PAYMENT_STATUSES = ("pending", "succeeded", "failed")
_ZERO = (
    "coupons_amount_cents",
    "credit_notes_amount_cents",
    "prepaid_credit_amount_cents",
    "progressive_billing_credit_amount_cents",
)
_LISTS = (("status", "statuses"), ("payment_status", "payment_statuses"))
_NOT_LISTED = ("fees", "credits", "subscriptions", "billing_periods", "error_details")


def create_invoice(call: Call, world: World) -> Answer:
    """``POST /invoices``: a one-off invoice; posted twice, it is there twice."""
    given = call.root("invoice")
    customer = must_find(world, "customer", str(given.get("external_customer_id")))
    items = given.get("fees")
    if not isinstance(items, list) or not items:
        raise not_found("fees")
    currency = given.get("currency") or customer["currency"]
    with world.store.transaction():
        lines = [_line(item if isinstance(item, dict) else {}, customer, world) for item in items]
        set_currency(customer, currency, world)
        doc = issue(customer, "one_off", currency, lines, world)
    return ok({"invoice": shown(doc, world)})


def _line(item: dict[str, Any], customer: Doc, world: World) -> Line:
    add_on = must_find(world, "add_on", str(item.get("add_on_code")))
    units = decimal("1" if item.get("units") is None else item["units"])
    cents = decimal(add_on["amount_cents"] if item.get("unit_amount_cents") is None else item["unit_amount_cents"])
    if units is None or cents is None:
        raise invalid({"units" if units is None else "unit_amount_cents": ["value_is_invalid"]})
    codes = item.get("tax_codes")
    ids = taxes.replaced([], codes, world) if isinstance(codes, list) else add_on["taxes"] or customer["taxes"]
    name = item.get("invoice_display_name") or add_on["invoice_display_name"] or add_on["name"]
    about = add_on["description"] if item.get("description") is None else item["description"]
    return Line("add_on", add_on["lago_id"], add_on["code"], name, about, units, cents, taxes.carried(ids, world))


def issue(customer: Doc, kind: str, currency: str, lines: list[Line], world: World) -> Doc:
    """Store a finalized invoice."""
    number = world.store.count("invoice", owner=customer["lago_id"]) + 1
    now, today = iso(world.now()), str(day_of(world.now()))
    fees = [fee(line, customer, currency, now) for line in lines]
    amount = sum(one["amount_cents"] for one in fees)
    applied = _applied_taxes(lines, currency, now)
    taxes_cents = sum(tax["amount_cents"] for tax in applied)
    doc = {
        "lago_customer_id": customer["lago_id"],
        "billing_entity_code": world.slug,
        "sequential_id": number,
        "number": f"{customer['slug']}-{number:03d}",
        "issuing_date": today,
        "payment_dispute_lost_at": None,
        "payment_due_date": today,
        "payment_overdue": False,
        "net_payment_term": customer["net_payment_term"] or 0,
        "invoice_type": kind,
        "status": "finalized",
        "payment_status": "pending" if amount + taxes_cents else "succeeded",
        "currency": currency,
        "fees_amount_cents": amount,
        **dict.fromkeys(_ZERO, 0),
        "sub_total_excluding_taxes_amount_cents": amount,
        "taxes_amount_cents": taxes_cents,
        "sub_total_including_taxes_amount_cents": amount + taxes_cents,
        "total_amount_cents": amount + taxes_cents,
        "version_number": 4,
        "self_billed": False,
        "file_url": None,
        "created_at": now,
        "updated_at": now,
        "metadata": [],
        "applied_taxes": applied,
        "applied_invoice_custom_sections": [],
        "applied_usage_thresholds": [],
        "billing_periods": [],
        "credits": [],
        "fees": fees,
        "subscriptions": [],
        "error_details": [],
    }
    return world.store.add("invoice", doc["number"], doc)


def _applied_taxes(lines: list[Line], currency: str, now: str) -> list[Doc]:
    applied: dict[str, Doc] = {}
    for line in lines:
        for tax in line.taxes:
            row = applied.setdefault(
                tax["lago_id"],
                {
                    "lago_tax_id": tax["lago_id"],
                    "tax_name": tax["name"],
                    "tax_code": tax["code"],
                    "tax_rate": tax["rate"],
                    "tax_description": tax["description"],
                    "amount_cents": 0,
                    "amount_currency": currency,
                    "fees_amount_cents": 0,
                    "created_at": now,
                },
            )
            row["fees_amount_cents"] += line.amount_cents
    for row in applied.values():
        exact = Decimal(row["fees_amount_cents"]) * Decimal(str(row["tax_rate"])) / 100
        row["amount_cents"] = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
    return list(applied.values())


def shown(doc: Doc, world: World) -> Doc:
    """An invoice as Lago shows it."""
    customer = world.store.get("customer", doc["lago_customer_id"])
    own = {key: value for key, value in doc.items() if key != "lago_customer_id"}
    return {**own, "customer": customers.shown(customer, world) if customer else None}


def _in_list(doc: Doc, world: World) -> Doc:
    return {key: value for key, value in shown(doc, world).items() if key not in _NOT_LISTED}


def show_invoice(call: Call, world: World) -> Answer:
    """``GET /invoices/{lago_id}``."""
    return ok({"invoice": shown(must_get(world, "invoice", call.ids[0]), world)})


def list_invoices(call: Call, world: World) -> Answer:
    """``GET /invoices`` and ``GET /customers/{external_id}/invoices``, newest first."""
    query = call.query
    wanted = call.ids[0] if call.ids else query.get("external_customer_id")
    owner = None
    if isinstance(wanted, str):
        customer = must_find(world, "customer", wanted) if call.ids else world.store.find("customer", wanted)
        owner = customer["lago_id"] if customer else ""
    filters = [(name, texts(query.get(key))) for name, key in _LISTS]
    filters += [(name, [query[name]]) for name in ("invoice_type", "currency") if isinstance(query.get(name), str)]
    filters = [(name, values) for name, values in filters if values]
    if not filters:
        return listed(call, world, "invoice", "invoices", owner=owner, shown=_in_list)
    found = [
        _in_list(doc, world)
        for doc in world.store.page("invoice", owner=owner)
        if all(doc[name] in values for name, values in filters)
    ]
    return listed_docs(call, "invoices", found)


def update_invoice(call: Call, world: World) -> Answer:
    """``PUT /invoices/{lago_id}``: whether it was paid, and its metadata."""
    doc = must_get(world, "invoice", call.ids[0])
    given = call.root("invoice")
    if "payment_status" in given and given["payment_status"] not in _PAYMENT_STATUSES:
        raise invalid({"payment_status": ["value_is_invalid"]})
    if len(given.get("metadata") or []) > customer_metadata.LIMIT:
        raise invalid({"metadata": ["invalid_count"]})
    with world.store.transaction():
        status = given.get("payment_status", doc["payment_status"])
        if status != doc["payment_status"]:
            doc.update(payment_status=status, updated_at=iso(world.now()))
        if given.get("metadata") is not None:
            rows = customer_metadata.replaced(doc["metadata"], given["metadata"], iso(world.now()))
            doc["metadata"] = [{k: row[k] for k in row if k != "display_in_invoice"} for row in rows]
        world.store.save(doc)
        if doc["invoice_type"] == "credit" and status == "succeeded":
            settle(doc["fees"][0]["item"]["lago_item_id"], world)
    return ok({"invoice": shown(doc, world)})


def void_invoice(call: Call, world: World) -> Answer:
    """``POST /invoices/{lago_id}/void``: only a finalized one that was not paid, and only once."""
    doc = must_get(world, "invoice", call.ids[0])
    if doc["status"] != "finalized" or doc["payment_status"] == "succeeded":
        raise not_allowed("not_voidable")
    doc.update(status="voided", payment_overdue=False, updated_at=iso(world.now()))
    world.store.save(doc)
    return ok({"invoice": shown(doc, world)})
