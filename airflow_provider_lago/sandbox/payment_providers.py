"""Customers at payment providers: settled after the customer was committed, so that a refusal leaves it in place."""

from __future__ import annotations

import uuid
from typing import Any

from airflow_provider_lago.sandbox.answers import invalid
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.world import World

KINDS = frozenset({"stripe", "gocardless", "cashfree", "adyen", "flutterwave", "moneyhash"})

_ANCHORS = ("subscription_invoice_issuing_date_anchor", "subscription_invoice_issuing_date_adjustment")


def add_provider(kind: str, code: str, world: World) -> Doc:
    """A provider that the organization has an account with; in Lago, people set it up in the web interface."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no payment provider of Lago; there are {', '.join(sorted(KINDS))}.")
    if any(provider["code"] == code for provider in world.store.all("payment_provider", key=kind)):
        raise ValueError(f"There is a provider {code!r} already.")
    return world.store.add("payment_provider", kind, {"kind": kind, "code": code})


def configure(customer: Doc, billing: dict[str, Any], call: Call, world: World, *, is_new: bool) -> None:
    """
    Apply ``billing_configuration`` to a committed customer; what was applied before a refusal is to be kept too.

    :raises Refusal: 422 if the provider cannot be told, and what it answers if it is asked at once.
    """
    config, link = customer["billing_configuration"], customer["provider_customer"]
    settings = {name: billing[name] for name in ("document_locale", *_ANCHORS) if name in billing}
    if world.premium and "invoice_grace_period" in billing:
        settings["invoice_grace_period"] = billing["invoice_grace_period"]
    kind = billing.get("payment_provider")
    wants_link = bool(billing.get("sync_with_provider") or billing.get("provider_customer_id"))
    if kind is not None and wants_link and (is_new or link is None or link["provider_customer_id"] is None):
        provider = _find(kind, billing.get("payment_provider_code"), world)
        config.update(settings, payment_provider=kind, payment_provider_code=provider["code"])
        _connect(customer, billing, call)
        return
    config.update(settings)
    if not is_new and "payment_provider" in billing:
        config["payment_provider"] = kind
        if kind is not None and "payment_provider_code" in billing:
            config["payment_provider_code"] = billing["payment_provider_code"]
        if link is not None and kind != link["provider"]:
            customer["provider_customer"] = None
    if config["payment_provider"] is not None and not is_new and (wants_link or link is not None):
        _connect(customer, billing, call)


def _find(kind: str, code: object, world: World) -> Doc:
    providers = world.store.all("payment_provider", key=kind)
    if not code and len(providers) > 1:
        raise invalid({"base": ["payment_provider_code_missing"]})
    found = [provider for provider in providers if code in (None, "", provider["code"])]
    if not found:
        raise invalid({"base": ["payment_provider_not_found"]})
    return found[0]


def _connect(customer: Doc, billing: dict[str, Any], call: Call) -> None:
    """Keep the link; with ``sync`` the provider is called in the middle of the request, and may refuse."""
    config = customer["billing_configuration"]
    kind, code = config["payment_provider"], config["payment_provider_code"]
    held = customer["provider_customer"] or {"provider_customer_id": None, "sync_with_provider": None}
    link = {
        "provider": kind,
        "provider_customer_id": billing.get("provider_customer_id") or held["provider_customer_id"],
        "sync_with_provider": billing.get("sync_with_provider", held["sync_with_provider"]),
        "provider_payment_methods": billing.get("provider_payment_methods")
        or held.get("provider_payment_methods", ["card"]),
    }
    customer["provider_customer"] = link
    if billing.get("sync") and (refused := call.ask_provider(kind, code)) is not None:
        raise refused
    if link["provider_customer_id"] is None and link["sync_with_provider"]:
        link["provider_customer_id"] = f"{kind}_{uuid.uuid4().hex[:12]}"


def shown(customer: Doc) -> Doc:
    """The billing configuration with the link in it."""
    config, link = customer["billing_configuration"], customer["provider_customer"]
    if config["payment_provider"] is None:
        return dict(config)
    link = link or dict.fromkeys(("provider_customer_id", "sync_with_provider", "provider_payment_methods"))
    more = {"provider_customer_id": link["provider_customer_id"], "sync_with_provider": link["sync_with_provider"]}
    if config["payment_provider"] == "stripe":
        more["provider_payment_methods"] = link["provider_payment_methods"]
    return {**config, **more}
