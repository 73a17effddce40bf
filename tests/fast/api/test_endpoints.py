"""What each endpoint of Lago's contract may do, row by row, and the spellings that must not hide it."""

from __future__ import annotations

import pytest

from airflow_provider_lago.api.endpoints import bills, is_final, moves_money
from airflow_provider_lago.api.retry import is_repeatable

ONCE = """
POST invoices
PUT invoices/0
DELETE invoices/0
POST invoices/0/void
POST invoices/0/lose_dispute
POST invoices/0/retry
POST invoices/0/retry_payment
POST invoices/0/payment_url
POST invoices/0/resend_email
PUT invoices/0/finalize
PUT invoices/0/refresh
POST wallets
PUT wallets/0
DELETE wallets/0
POST customers/0/wallets
PUT customers/0/wallets/code
DELETE customers/0/wallets/code
POST wallet_transactions
POST wallet_transactions/0/payment_url
POST applied_coupons
DELETE customers/0/applied_coupons/0
POST credit_notes
PUT credit_notes/0
PUT credit_notes/0/void
POST payments
POST payment_requests
POST payment_receipts/0/resend_email
PUT fees/0
DELETE fees/0
POST subscriptions
DELETE subscriptions/0
POST order_forms/0/mark_as_signed
POST orders/0/execute
POST quote_versions/0/approve
POST quote_versions/0/clone
POST quotes
POST order_forms
POST orders
POST payment_receipts
POST fees
"""

REPEATED_WITHOUT_HARM_TO_MONEY = """
POST events
POST events/batch
POST events/estimate_fees
POST customers
DELETE customers/0
POST customers/0/checkout_url
POST invoices/preview
POST invoices/0/download
POST invoices/0/download_pdf
POST credit_notes/estimate
POST credit_notes/0/download_xml
POST credit_notes/0/metadata
POST wallets/0/metadata
DELETE wallets/0/metadata/key
PATCH customers/0/wallets/code/metadata
POST customers/0/wallets/code/alerts
PUT subscriptions/0
PATCH subscriptions/0/entitlements
DELETE subscriptions/0/alerts
PUT subscriptions/0/lifetime_usage
POST plans
PUT coupons/0
POST coupons
POST taxes
POST billable_metrics
POST add_ons
POST webhook_endpoints
PUT organizations
GET wallets
GET invoices/0
HEAD payments
"""


def calls(table):
    return [tuple(line.split()) for line in table.split("\n") if line]


@pytest.mark.parametrize(("method", "path"), calls(ONCE))
def test_what_moves_money_is_known(method, path):
    assert moves_money(method, path)
    assert moves_money(method.lower(), f"/{path}")
    assert not is_repeatable(method, path)
    assert bills(method, path)


@pytest.mark.parametrize(("method", "path"), calls(REPEATED_WITHOUT_HARM_TO_MONEY))
def test_what_moves_none_is_known(method, path):
    assert not moves_money(method, path)


@pytest.mark.parametrize(
    "path", ["/wallets", "api/v1/wallets", "/api/v1/wallets", "wallets.json", "w%61llets", "wallets%2Ejson"]
)
def test_no_spelling_hides_that_a_call_moves_money(path):
    assert moves_money("POST", path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "subscriptions/preview"),
        ("DELETE", "wallets/metadata"),
        ("PUT", "customers/c/wallets/metadata"),
        ("PUT", "customers/c/wallets/alerts"),
        ("DELETE", "invoices/estimate"),
        ("PUT", "fees/download"),
        ("POST", "wallets/x/anything-new"),
        ("POST", "customers/c/subscriptions"),
    ],
)
def test_an_id_that_reads_like_a_harmless_action_hides_nothing(method, path):
    assert moves_money(method, path)


@pytest.mark.parametrize(
    ("method", "path", "final"),
    [
        ("DELETE", "coupons/0", True),
        ("delete", "customers/0", True),
        ("POST", "invoices/0/void", True),
        ("PUT", "credit_notes/0/void", True),
        ("POST", "invoices/0/v%6Fid", True),
        ("POST", "invoices/0/lose_dispute", True),
        ("POST", "subscriptions/0/terminate", True),
        ("PUT", "coupons/void", False),
        ("POST", "invoices", False),
        ("GET", "customers/terminate", False),
    ],
)
def test_what_cannot_be_undone_is_known(method, path, final):
    assert is_final(method, path) is final


@pytest.mark.parametrize(
    ("method", "path", "billed"),
    [
        ("POST", "events", True),
        ("POST", "events/batch", True),
        ("POST", "events/estimate_fees", False),
        ("POST", "events/batch_estimate_instant_fees", False),
        ("POST", "events/estimate_instant_fees", False),
        ("GET", "events", False),
        ("DELETE", "customers/0", True),
        ("DELETE", "plans/0", True),
        ("DELETE", "plans/0/charges/1", False),
        ("POST", "customers", False),
        ("PUT", "customers/0", False),
        ("DELETE", "coupons/0", False),
        ("GET", "plans/0", False),
        ("POST", "/api/v1/events", True),
        ("POST", "api/v1/events/estimate_fees", False),
        ("DELETE", "api/v1/customers/0", True),
    ],
)
def test_what_is_billed_is_known(method, path, billed):
    assert bills(method, path) is billed


@pytest.mark.parametrize("path", ["credit_notes/estimate", "invoices/preview", "events", "events/batch"])
def test_what_computes_or_is_known_by_its_id_is_repeatable(path):
    assert is_repeatable("POST", path)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "invoices/x%2Fvoid"), ("POST", "customers/acme%2Fwallets"), ("DELETE", "subscriptions/a%2Fb")],
)
def test_money_is_seen_also_where_a_proxy_decodes_a_slash(method, path):
    assert moves_money(method, path)


def test_an_action_is_final_also_where_a_proxy_decodes_a_slash():
    assert is_final("POST", "invoices/x%2Fvoid")
