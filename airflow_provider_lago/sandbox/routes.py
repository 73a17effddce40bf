"""Lago's routes, matched as Rails matches them."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

from airflow_provider_lago.sandbox import (
    add_ons,
    catalogue,
    coupons,
    customer_list,
    customers,
    event_reads,
    events,
    invoices,
    plans,
    subscription_changes,
    subscription_views,
    subscriptions,
    taxes,
    usage,
    wallets,
)
from airflow_provider_lago.sandbox.answers import Answer, ok
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.releases import DOTS_IN_SUBSCRIPTION_PATHS, NEWEST, Release
from airflow_provider_lago.sandbox.world import World

Handler = Callable[[Call, World], Answer]


class Route(NamedTuple):
    """A handler, and the permission it needs (None: no key needed)."""

    name: str
    resource: str | None
    handler: Handler


def _health(_call: Call, _world: World) -> Answer:
    return ok({"version": "production", "github_url": "https://github.com/getlago/lago-api", "message": "Success"})


def _ready(_call: Call, _world: World) -> Answer:
    return ok({"status": "ok"})


# Rails takes PATCH wherever it takes PUT.
# `:id` ends at a dot, and what follows one dot is swallowed as a format: Rails' rule, and the reason why
# customers with dots in their ids cannot be reached by path. `*id` takes dots; Lago has it where it says so.
_WRITTEN: tuple[tuple[str, str, str | None, Handler], ...] = (
    ("GET", "/health", None, _health),
    ("GET", "/ready", None, _ready),
    ("POST", "/api/v1/events/batch", "event", events.create_batch),
    ("POST", "/api/v1/events", "event", events.create_event),
    ("GET", "/api/v1/events", "event", event_reads.list_events),
    ("GET", "/api/v1/events/*id", "event", event_reads.show_event),
    ("GET", "/api/v1/events_enriched", "event", event_reads.events_enriched),
    ("POST", "/api/v1/customers", "customer", customers.upsert_customer),
    ("GET", "/api/v1/customers", "customer", customer_list.list_customers),
    ("GET", "/api/v1/customers/:id", "customer", customers.show_customer),
    ("DELETE", "/api/v1/customers/:id", "customer", customers.delete_customer),
    ("GET", "/api/v1/customers/:id/current_usage", "customer_usage", usage.current_usage),
    ("GET", "/api/v1/customers/:id/subscriptions", "subscription", subscription_views.list_of_customer),
    ("POST", "/api/v1/subscriptions", "subscription", subscriptions.create_subscription),
    ("GET", "/api/v1/subscriptions", "subscription", subscription_views.list_subscriptions),
    ("GET", "/api/v1/subscriptions/*id", "subscription", subscription_changes.show_subscription),
    ("PUT", "/api/v1/subscriptions/*id", "subscription", subscription_changes.update_subscription),
    ("DELETE", "/api/v1/subscriptions/*id", "subscription", subscription_changes.delete_subscription),
    ("POST", "/api/v1/billable_metrics", "billable_metric", catalogue.create_metric),
    ("GET", "/api/v1/billable_metrics", "billable_metric", catalogue.list_metrics),
    (
        "POST",
        "/api/v1/billable_metrics/evaluate_expression",
        "billable_metric",
        catalogue.evaluate_expression,
    ),
    ("GET", "/api/v1/billable_metrics/:id", "billable_metric", catalogue.show_metric),
    ("PUT", "/api/v1/billable_metrics/:id", "billable_metric", catalogue.update_metric),
    ("DELETE", "/api/v1/billable_metrics/:id", "billable_metric", catalogue.delete_metric),
    ("POST", "/api/v1/plans", "plan", plans.create_plan),
    ("GET", "/api/v1/plans", "plan", plans.list_plans),
    ("GET", "/api/v1/plans/:id", "plan", plans.show_plan),
    ("PUT", "/api/v1/plans/:id", "plan", plans.update_plan),
    ("DELETE", "/api/v1/plans/:id", "plan", plans.delete_plan),
    ("POST", "/api/v1/taxes", "tax", taxes.create_tax),
    ("GET", "/api/v1/taxes", "tax", taxes.list_taxes),
    ("GET", "/api/v1/taxes/:id", "tax", taxes.show_tax),
    ("PUT", "/api/v1/taxes/:id", "tax", taxes.update_tax),
    ("DELETE", "/api/v1/taxes/:id", "tax", taxes.delete_tax),
    ("POST", "/api/v1/add_ons", "add_on", add_ons.create_add_on),
    ("GET", "/api/v1/add_ons", "add_on", add_ons.list_add_ons),
    ("GET", "/api/v1/add_ons/:id", "add_on", add_ons.show_add_on),
    ("PUT", "/api/v1/add_ons/:id", "add_on", add_ons.update_add_on),
    ("DELETE", "/api/v1/add_ons/:id", "add_on", add_ons.delete_add_on),
    ("POST", "/api/v1/coupons", "coupon", coupons.create_coupon),
    ("GET", "/api/v1/coupons", "coupon", coupons.list_coupons),
    ("GET", "/api/v1/coupons/:id", "coupon", coupons.show_coupon),
    ("PUT", "/api/v1/coupons/:id", "coupon", coupons.update_coupon),
    ("DELETE", "/api/v1/coupons/:id", "coupon", coupons.delete_coupon),
    ("POST", "/api/v1/applied_coupons", "applied_coupon", coupons.apply_coupon),
    ("GET", "/api/v1/applied_coupons", "applied_coupon", coupons.list_applied_coupons),
    ("GET", "/api/v1/customers/:id/applied_coupons", "applied_coupon", coupons.list_applied_coupons),
    ("DELETE", "/api/v1/customers/:id/applied_coupons/:id", "applied_coupon", coupons.remove_applied_coupon),
    ("POST", "/api/v1/wallets", "wallet", wallets.create_wallet),
    ("GET", "/api/v1/wallets", "wallet", wallets.list_wallets),
    ("GET", "/api/v1/customers/:id/wallets", "wallet", wallets.list_wallets),
    ("GET", "/api/v1/wallets/:id", "wallet", wallets.show_wallet),
    ("PUT", "/api/v1/wallets/:id", "wallet", wallets.update_wallet),
    ("DELETE", "/api/v1/wallets/:id", "wallet", wallets.terminate_wallet),
    ("GET", "/api/v1/wallets/:id/wallet_transactions", "wallet_transaction", wallets.list_transactions),
    ("POST", "/api/v1/wallet_transactions", "wallet_transaction", wallets.create_transactions),
    ("GET", "/api/v1/wallet_transactions/:id", "wallet_transaction", wallets.show_transaction),
    ("POST", "/api/v1/invoices", "invoice", invoices.create_invoice),
    ("GET", "/api/v1/invoices", "invoice", invoices.list_invoices),
    ("GET", "/api/v1/customers/:id/invoices", "invoice", invoices.list_invoices),
    ("GET", "/api/v1/invoices/:id", "invoice", invoices.show_invoice),
    ("PUT", "/api/v1/invoices/:id", "invoice", invoices.update_invoice),
    ("POST", "/api/v1/invoices/:id/void", "invoice", invoices.void_invoice),
    ("GET", "/api/v1/organizations", "organization", catalogue.show_organization),
    ("PUT", "/api/v1/organizations", "organization", catalogue.update_organization),
)


_TABLE = _WRITTEN + tuple(("PATCH", *row[1:]) for row in _WRITTEN if row[0] == "PUT")


def _pattern(path: str) -> re.Pattern[str]:
    parts = path.replace("*id", r"([^/]+)").replace(":id", r"([^/.]+)")
    return re.compile(parts if path.endswith("*id") else parts + r"(?:\.[^/.]+)?")


_Dynamic = dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]]


def _dynamic(*, old: bool) -> _Dynamic:
    """The routes by method and first word of the path; in old ones no id of a subscription has a dot."""
    found: _Dynamic = {}
    for method, path, resource, handler in _TABLE:
        shape = path.replace("subscriptions/*id", "subscriptions/:id") if old else path
        found.setdefault((method, _word(path)), []).append((_pattern(shape), Route(path, resource, handler)))
    return found


def _word(path: str) -> str:
    return path.removeprefix("/api/v1").split("/")[1].partition(".")[0]


_FIXED = {(method, path): Route(path, resource, handler) for method, path, resource, handler in _TABLE}
_NEW, _OLD = _dynamic(old=False), _dynamic(old=True)


def find(method: str, raw_path: str, release: Release = NEWEST) -> tuple[Route, tuple[str, ...]] | None:
    """
    The route of a request and its decoded path parameters.

    :param raw_path: the path as sent, percent-encoded: an encoded slash or dot does not separate anything.
    :param release: of Lago, since they do not all take dots.
    """
    method = "GET" if method == "HEAD" else method
    if fixed := _FIXED.get((method, raw_path)):
        return fixed, ()
    path = "/" + "/".join(part for part in raw_path.split("/") if part)
    routes = _NEW if release >= DOTS_IN_SUBSCRIPTION_PATHS else _OLD
    for pattern, route in routes.get((method, _word(path)), ()):
        if match := pattern.fullmatch(path):
            return route, tuple(urllib.parse.unquote(part) for part in match.groups())
    return None
