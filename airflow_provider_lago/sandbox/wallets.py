"""Wallets and their transactions: nothing in a POST tells a repetition from a second wish."""

from __future__ import annotations

import re
from decimal import ROUND_DOWN, Decimal
from typing import Any

from airflow_provider_lago.sandbox import coupons
from airflow_provider_lago.sandbox.answers import Answer, invalid, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.codes import CURRENCIES
from airflow_provider_lago.sandbox.customers import set_currency
from airflow_provider_lago.sandbox.fees import Line
from airflow_provider_lago.sandbox.invoices import issue
from airflow_provider_lago.sandbox.resources import decimal, listed, listed_docs, must_find, must_get
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.times import iso, parse_iso
from airflow_provider_lago.sandbox.wallet_credits import cents_of, enter
from airflow_provider_lago.sandbox.world import World

_KINDS = (("paid_credits", "purchased"), ("granted_credits", "granted"), ("voided_credits", "voided"))
_CHANGEABLE = (
    "name",
    "priority",
    "expiration_at",
    "invoice_requires_successful_payment",
    "paid_top_up_min_amount_cents",
    "paid_top_up_max_amount_cents",
    "purchase_order_number",
)


def create_wallet(call: Call, world: World) -> Answer:
    """``POST /wallets``: a code made from the name gets a number if it is taken."""
    given = call.root("wallet")
    customer = world.store.find("customer", str(given.get("external_customer_id")))
    errors = _wrong_credits(given)
    if customer is None:
        errors["customer"] = ["customer_not_found"]
    if given.get("expiration_at") is not None and (parse_iso(given["expiration_at"]) or 0) <= world.now():
        errors["expiration_at"] = ["invalid_date"]
    if errors or customer is None:
        raise invalid(errors)
    with world.store.transaction():
        set_currency(customer, given.get("currency"), world)
        wallet = _new(given, customer, world)
        top_up(wallet, customer, {**given, "name": given.get("transaction_name")}, world, _KINDS[:2])
    return ok({"wallet": world.store.get("wallet", wallet["lago_id"])})


def _new(given: dict[str, Any], customer: Doc, world: World) -> Doc:
    rate, priority = decimal(given.get("rate_amount")), given.get("priority", 50)
    errors: dict[str, object] = {}
    if rate is None or rate <= 0:
        errors["rate_amount"] = ["value_is_out_of_range"]
    if customer["currency"] not in CURRENCIES or given.get("currency") not in (None, *CURRENCIES):
        errors["currency"] = ["value_is_invalid"]
    if not isinstance(priority, int) or not 1 <= priority <= 50:
        errors["priority"] = ["value_is_invalid"]
    if errors:
        raise invalid(errors)
    none = dict.fromkeys(("last_balance_sync_at", "last_consumed_credit_at", "terminated_at"))
    doc = {
        "lago_customer_id": customer["lago_id"],
        "external_customer_id": customer["external_id"],
        "billing_entity_code": world.slug,
        "status": "active",
        "currency": customer["currency"],
        "name": given.get("name"),
        "code": _code(given, customer, world),
        "priority": priority,
        "rate_amount": str(rate),
        "credits_balance": "0.0",
        "balance_cents": 0,
        "consumed_credits": "0.0",
        "created_at": iso(world.now()),
        "expiration_at": given.get("expiration_at"),
        **none,
        "invoice_requires_successful_payment": bool(given.get("invoice_requires_successful_payment")),
        "applies_to": {"fee_types": [], "billable_metric_codes": [], **(given.get("applies_to") or {})},
        "recurring_transaction_rules": given.get("recurring_transaction_rules") or [],
        "ongoing_balance_cents": 0,
        "ongoing_usage_balance_cents": 0,
        "credits_ongoing_balance": "0.0",
        "credits_ongoing_usage_balance": "0.0",
        "paid_top_up_min_amount_cents": given.get("paid_top_up_min_amount_cents"),
        "paid_top_up_max_amount_cents": given.get("paid_top_up_max_amount_cents"),
        "applied_invoice_custom_sections": [],
        "payment_method": {"payment_method_type": "provider", "payment_method_id": None},
        "purchase_order_number": given.get("purchase_order_number"),
        "metadata": given.get("metadata") or {},
    }
    return world.store.add("wallet", customer["external_id"], doc)


def _code(given: dict[str, Any], customer: Doc, world: World) -> str:
    taken = {one["code"] for one in world.store.all("wallet", owner=customer["lago_id"])}
    if given.get("code"):
        if str(given["code"]) in taken:
            raise invalid({"code": ["value_already_exist"]})
        return str(given["code"])
    made = re.sub(r"[^a-z0-9]+", "_", str(given.get("name") or "default").lower()).strip("_") or "default"
    number = 1
    while (code := made if number == 1 else f"{made}_{number}") in taken:
        number += 1
    return code


def _wrong_credits(given: dict[str, Any]) -> dict[str, object]:
    return {
        name: [f"invalid_{name}", "invalid_amount"]
        for name, _ in _KINDS
        if given.get(name) is not None and not _is_amount(given[name])
    }


def _is_amount(value: object) -> bool:
    """Lago takes credits as text only, since a JSON number may have lost digits on its way."""
    amount = decimal(value) if isinstance(value, str) else None
    return amount is not None and amount >= 0


def top_up(
    wallet: Doc, customer: Doc, given: dict[str, Any], world: World, kinds: tuple[tuple[str, str], ...] = _KINDS
) -> list[Doc]:
    """The transactions a request asks for; credits that are bought come with an invoice."""
    made = []
    for name, kind in kinds:
        amount = (decimal(given.get(name)) or Decimal(0)).quantize(Decimal("0.00001"), ROUND_DOWN)
        if not amount:
            continue
        doc = enter(wallet, amount, kind, given, world)
        if kind == "purchased":
            cents = Decimal(cents_of(amount, wallet))
            line = Line("credit", doc["lago_id"], "credit", "Prepaid credits", None, Decimal(1), cents, [])
            doc["lago_invoice_id"] = issue(customer, "credit", wallet["currency"], [line], world)["lago_id"]
            world.store.save(doc)
        made.append(doc)
    return made


def show_wallet(call: Call, world: World) -> Answer:
    """``GET /wallets/{lago_id}``."""
    return ok({"wallet": must_get(world, "wallet", call.ids[0])})


def list_wallets(call: Call, world: World) -> Answer:
    """``GET /wallets`` and ``GET /customers/{external_id}/wallets``."""
    wanted = call.ids[0] if call.ids else call.query.get("external_customer_id")
    owner = must_find(world, "customer", wanted)["lago_id"] if isinstance(wanted, str) else None
    currency = call.query.get("currency")
    if not isinstance(currency, str):
        return listed(call, world, "wallet", "wallets", owner=owner)
    found = [doc for doc in world.store.page("wallet", owner=owner) if doc["currency"] == currency]
    return listed_docs(call, "wallets", found)


def update_wallet(call: Call, world: World) -> Answer:
    """``PUT /wallets/{lago_id}``."""
    doc = must_get(world, "wallet", call.ids[0])
    given = call.root("wallet")
    doc.update({name: given[name] for name in _CHANGEABLE if name in given})
    world.store.save(doc)
    return ok({"wallet": doc})


def terminate_wallet(call: Call, world: World) -> Answer:
    """``DELETE /wallets/{lago_id}``; again, it answers the same."""
    return ok({"wallet": coupons.terminate(must_get(world, "wallet", call.ids[0]), world)})


def create_transactions(call: Call, world: World) -> Answer:
    """``POST /wallet_transactions``."""
    given = call.root("wallet_transaction")
    wallet = world.store.present("wallet", str(given.get("wallet_id")))
    errors = _wrong_credits(given)
    voided = decimal(given.get("voided_credits"))
    if wallet is None:
        errors["wallet_id"] = ["wallet_not_found"]
    elif wallet["status"] == "terminated":
        errors["wallet_id"] = ["wallet_is_terminated"]
    elif voided is not None and voided > Decimal(wallet["credits_balance"]):
        errors["voided_credits"] = ["insufficient_credits"]
    if errors or wallet is None:
        raise invalid(errors)
    customer = must_get(world, "customer", wallet["lago_customer_id"])
    with world.store.transaction():
        made = top_up(wallet, customer, given, world)
    return ok({"wallet_transactions": made})


def show_transaction(call: Call, world: World) -> Answer:
    """``GET /wallet_transactions/{lago_id}``."""
    return ok({"wallet_transaction": must_get(world, "wallet_transaction", call.ids[0])})


def list_transactions(call: Call, world: World) -> Answer:
    """``GET /wallets/{lago_id}/wallet_transactions``."""
    wallet = must_get(world, "wallet", call.ids[0])
    names = ("status", "transaction_status", "transaction_type")
    wanted = {name: call.query[name] for name in names if isinstance(call.query.get(name), str)}
    found = [
        doc
        for doc in world.store.page("wallet_transaction", key=wallet["lago_id"])
        if all(doc[name] == value for name, value in wanted.items())
    ]
    return listed_docs(call, "wallet_transactions", found)
