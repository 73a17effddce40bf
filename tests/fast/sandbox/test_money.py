"""Wallets, coupons and invoices: a POST whose answer is lost, sent again, doubles money."""

from __future__ import annotations

import http.client

import pytest


@pytest.fixture
def shop(sandbox):
    sandbox.add_customer("c1", currency="EUR")
    sandbox.add_add_on("setup", amount_cents=1000, amount_currency="EUR")
    sandbox.add_coupon("deal", amount_cents=500, amount_currency="EUR")
    return sandbox


WALLET = {"external_customer_id": "c1", "rate_amount": "1.5", "currency": "EUR", "name": "Prepaid"}


def wallet(lago, **fields):
    return lago.post("/wallets", {"wallet": {**WALLET, **fields}})


def top_up(lago, wallet_id, **fields):
    return lago.post("/wallet_transactions", {"wallet_transaction": {"wallet_id": wallet_id, **fields}})


def one_off(lago, *fees, **fields):
    fees = fees or ({"add_on_code": "setup", "units": "2.5"},)
    return lago.post("/invoices", {"invoice": {"external_customer_id": "c1", "fees": list(fees), **fields}})


REPEATED = [
    ("/wallets", {"wallet": {**WALLET, "granted_credits": "10"}}, "wallets"),
    ("/applied_coupons", {"applied_coupon": {"external_customer_id": "c1", "coupon_code": "deal"}}, "applied_coupons"),
    ("/invoices", {"invoice": {"external_customer_id": "c1", "fees": [{"add_on_code": "setup"}]}}, "invoices"),
]


@pytest.mark.parametrize(("path", "body", "held"), REPEATED, ids=[case[0] for case in REPEATED])
def test_a_client_that_repeats_a_lost_post_doubles_money(lago, shop, path, body, held):
    shop.fault("lost_response", path=path, times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        lago.post(path, body)
    assert len(getattr(shop, held)()) == 1
    assert lago.post(path, body).status == 200
    first, second = getattr(shop, held)()
    assert first["lago_id"] != second["lago_id"]


def test_a_repeated_top_up_doubles_the_balance(lago, shop):
    made = wallet(lago).json["wallet"]
    for _ in range(2):
        top_up(lago, made["lago_id"], granted_credits="10")
    shown = lago.get(f"/wallets/{made['lago_id']}").json["wallet"]
    assert (shown["credits_balance"], shown["balance_cents"]) == ("20.0", 3000)
    assert len(shop.wallet_transactions()) == 2


CATALOGUE = [
    ("taxes", "tax", {"name": "VAT", "code": "x", "rate": "20"}),
    ("add_ons", "add_on", {"name": "Setup", "code": "x", "amount_cents": 1, "amount_currency": "EUR"}),
    (
        "coupons",
        "coupon",
        {"name": "Deal", "code": "x", "coupon_type": "percentage", "percentage_rate": "5", "frequency": "once"},
    ),
]


@pytest.mark.parametrize(("path", "root", "body"), CATALOGUE, ids=[case[0] for case in CATALOGUE])
def test_what_has_a_code_cannot_be_doubled(lago, sandbox, path, root, body):
    made = lago.post(f"/{path}", {root: body}).json[root]
    before = sandbox.dump()
    assert lago.post(f"/{path}", {root: body}).details == {"code": ["value_already_exist"]}
    assert sandbox.dump() == before
    assert lago.get(f"/{path}/x").json[root] == made
    assert lago.ask("PATCH", f"/{path}/x", {root: {"name": "New", "code": "y"}}).json[root]["name"] == "New"
    assert [one["code"] for one in lago.get(f"/{path}").json[path]] == ["y"]
    assert lago.ask("DELETE", f"/{path}/y").status == 200
    assert lago.get(f"/{path}/y").json["code"] == f"{root}_not_found"
    assert lago.post(f"/{path}", {root: body}).status == 200
    assert lago.post(f"/{path}", {root: {"description": "x"}}).status == 422


# Wallets


def test_a_code_made_from_the_name_gets_a_number_and_one_that_was_given_is_refused(lago, shop):
    assert [wallet(lago).json["wallet"]["code"] for _ in range(3)] == ["prepaid", "prepaid_2", "prepaid_3"]
    assert wallet(lago, code="prepaid").details == {"code": ["value_already_exist"]}


def test_granted_credits_are_there_at_once_and_bought_ones_when_they_are_paid(lago, shop):
    made = wallet(lago, paid_credits="20", granted_credits="10").json["wallet"]
    assert (made["credits_balance"], made["balance_cents"]) == ("10.0", 1500)
    bought, granted = shop.wallet_transactions()
    assert [(one["transaction_status"], one["status"], one["amount"]) for one in (bought, granted)] == [
        ("purchased", "pending", "30.0"),
        ("granted", "settled", "15.0"),
    ]
    (invoice,) = shop.invoices()
    assert (invoice["lago_id"], invoice["invoice_type"]) == (bought["lago_invoice_id"], "credit")
    assert invoice["total_amount_cents"] == 3000
    for _ in range(2):
        lago.ask("PUT", f"/invoices/{invoice['lago_id']}", {"invoice": {"payment_status": "succeeded"}})
    assert shop.wallets()[0]["credits_balance"] == "30.0"
    listed = lago.get(f"/wallets/{made['lago_id']}/wallet_transactions?status=settled&transaction_status=purchased")
    assert [one["lago_id"] for one in listed.json["wallet_transactions"]] == [bought["lago_id"]]
    shown = lago.get(f"/wallet_transactions/{bought['lago_id']}").json["wallet_transaction"]
    assert (shown["status"], shown["credit_amount"]) == ("settled", "20.0")


def test_voided_credits_leave_the_balance(lago, shop):
    made = wallet(lago, granted_credits="10").json["wallet"]
    assert top_up(lago, made["lago_id"], voided_credits="4").json["wallet_transactions"][0]["amount"] == "6.0"
    assert shop.wallets()[0]["credits_balance"] == "6.0"
    assert top_up(lago, made["lago_id"], voided_credits="7").details == {"voided_credits": ["insufficient_credits"]}


def test_a_terminated_wallet_takes_no_more(lago, shop):
    made = wallet(lago).json["wallet"]
    ended = lago.ask("DELETE", f"/wallets/{made['lago_id']}").json["wallet"]
    assert ended["status"] == "terminated"
    before = shop.dump()
    assert lago.ask("DELETE", f"/wallets/{made['lago_id']}").json["wallet"] == ended
    assert top_up(lago, made["lago_id"], paid_credits="1").details == {"wallet_id": ["wallet_is_terminated"]}
    assert top_up(lago, "nope", paid_credits="1").details == {"wallet_id": ["wallet_not_found"]}
    assert shop.dump() == before


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({"external_customer_id": "nobody"}, {"customer": ["customer_not_found"]}),
        ({"paid_credits": "much"}, {"paid_credits": ["invalid_paid_credits", "invalid_amount"]}),
        ({"paid_credits": 20}, {"paid_credits": ["invalid_paid_credits", "invalid_amount"]}),
        ({"granted_credits": "-1"}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"rate_amount": "0"}, {"rate_amount": ["value_is_out_of_range"]}),
        ({"currency": "XXZ"}, {"currency": ["value_is_invalid"]}),
        ({"expiration_at": "2001-01-01T00:00:00Z"}, {"expiration_at": ["invalid_date"]}),
    ],
)
def test_wrong_wallets_are_refused(lago, shop, fields, details):
    before = shop.dump()
    assert wallet(lago, **fields).details == details
    assert shop.dump() == before


def test_wallets_are_listed_and_changed(lago, shop):
    shop.add_customer("c2")
    made = [wallet(lago).json["wallet"], wallet(lago, external_customer_id="c2", currency="USD").json["wallet"]]

    def found(path):
        return [one["lago_id"] for one in lago.get(path).json["wallets"]]

    ids = [one["lago_id"] for one in made]
    assert found("/wallets") == ids[::-1]
    assert found("/wallets?external_customer_id=c1") == found("/customers/c1/wallets") == ids[:1]
    assert found("/wallets?currency=USD") == ids[1:]
    assert lago.get("/wallets?external_customer_id=nobody").json["code"] == "customer_not_found"
    changed = lago.ask("PUT", f"/wallets/{ids[0]}", {"wallet": {"name": "New", "balance_cents": 9}}).json["wallet"]
    assert (changed["name"], changed["balance_cents"]) == ("New", 0)


# Coupons


def test_a_coupon_for_once_is_refused_the_second_time(lago, shop):
    shop.add_coupon("once", amount_currency="EUR", reusable=False)
    body = {"applied_coupon": {"external_customer_id": "c1", "coupon_code": "once", "amount_cents": 3}}
    applied = lago.post("/applied_coupons", body).json["applied_coupon"]
    assert (applied["amount_cents"], applied["amount_currency"], applied["status"]) == (3, "EUR", "active")
    assert lago.post("/applied_coupons", body).details == {"coupon": ["coupon_is_not_reusable"]}


def test_applied_coupons_are_listed_and_taken_back(lago, shop):
    lago.post("/applied_coupons", {"applied_coupon": {"external_customer_id": "c1", "coupon_code": "deal"}})
    for path in ("/applied_coupons?coupon_code[]=deal&status=active", "/customers/c1/applied_coupons"):
        (listed,) = lago.get(path).json["applied_coupons"]
    gone = lago.ask("DELETE", f"/customers/c1/applied_coupons/{listed['lago_id']}").json["applied_coupon"]
    assert gone["status"] == "terminated"
    assert lago.get("/applied_coupons?status=active").json["applied_coupons"] == []


@pytest.mark.parametrize(("customer", "coupon", "code"), [("nobody", "deal", "customer"), ("c1", "nope", "coupon")])
def test_coupons_need_both(lago, shop, customer, coupon, code):
    body = {"applied_coupon": {"external_customer_id": customer, "coupon_code": coupon}}
    assert lago.post("/applied_coupons", body).json["code"] == f"{code}_not_found"


# Invoices


def test_an_invoice_adds_up(lago, shop):
    shop.add_tax("vat", 20)
    shop.add_customer("c1", tax_codes=["vat"])
    made = one_off(lago, {"add_on_code": "setup", "units": "2.5"}, {"add_on_code": "setup", "tax_codes": []})
    invoice = made.json["invoice"]
    assert (invoice["fees_amount_cents"], invoice["taxes_amount_cents"]) == (3500, 500)
    assert (invoice["total_amount_cents"], invoice["currency"], invoice["invoice_type"]) == (4000, "EUR", "one_off")
    assert (invoice["status"], invoice["payment_status"]) == ("finalized", "pending")
    assert invoice["number"] == f"{invoice['customer']['slug']}-001"
    assert [fee["total_amount_cents"] for fee in invoice["fees"]] == [3000, 1000]
    assert lago.get(f"/invoices/{invoice['lago_id']}").json["invoice"] == invoice


def test_an_invoice_is_voided_once_and_never_when_paid(lago, shop):
    first, second = (one_off(lago).json["invoice"]["lago_id"] for _ in range(2))
    assert lago.post(f"/invoices/{first}/void", {}).json["invoice"]["status"] == "voided"
    before = shop.dump()
    again = lago.post(f"/invoices/{first}/void", {})
    assert (again.status, again.json["code"]) == (405, "not_voidable")
    assert shop.dump() == before
    assert lago.ask("PUT", f"/invoices/{second}", {"invoice": {"payment_status": "succeeded"}}).status == 200
    assert lago.post(f"/invoices/{second}/void", {}).status == 405


def test_invoices_are_listed_and_changed(lago, shop):
    ids = [one_off(lago).json["invoice"]["lago_id"] for _ in range(2)]
    lago.post(f"/invoices/{ids[0]}/void", {})

    def found(path):
        return [one["lago_id"] for one in lago.get(path).json["invoices"]]

    assert found("/invoices") == found("/customers/c1/invoices") == ids[::-1]
    assert found("/invoices?statuses[]=voided") == ids[:1]
    assert found("/invoices?statuses=voided&external_customer_id=c1") == ids[::-1]
    assert found("/invoices?external_customer_id=nobody") == []
    assert "fees" not in lago.get("/invoices").json["invoices"][0]
    body = {"invoice": {"metadata": [{"key": "ref", "value": "1"}]}}
    changed = lago.ask("PUT", f"/invoices/{ids[1]}", body).json["invoice"]
    assert [(row["key"], row["value"]) for row in changed["metadata"]] == [("ref", "1")]
    wrong = lago.ask("PUT", f"/invoices/{ids[1]}", {"invoice": {"payment_status": "maybe"}})
    assert wrong.details == {"payment_status": ["value_is_invalid"]}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"external_customer_id": "nobody"}, "customer_not_found"),
        ({"fees": []}, "fees_not_found"),
        ({"fees": [{"add_on_code": "nope"}]}, "add_on_not_found"),
    ],
)
def test_invoices_for_nobody_or_nothing_are_refused(lago, shop, fields, code):
    assert one_off(lago, **fields).json["code"] == code
    assert shop.invoices() == []


def test_a_deleted_customers_wallets_and_coupons_end(lago, shop):
    wallet(lago)
    lago.post("/applied_coupons", {"applied_coupon": {"external_customer_id": "c1", "coupon_code": "deal"}})
    lago.ask("DELETE", "/customers/c1")
    assert [one["status"] for one in [*shop.wallets(), *shop.applied_coupons()]] == ["terminated", "terminated"]
