"""Customers: one POST for both, dots in paths, filters of lists."""

from __future__ import annotations

import pytest

from airflow_provider_lago.sandbox import Sandbox


def upsert(lago, **fields):
    return lago.post("/customers", {"customer": {"external_id": "c1", **fields}})


def test_a_missing_key_keeps_its_value_and_null_clears_it(lago):
    first = upsert(lago, name="Ada", email="ada@example.com", country="fr").json["customer"]
    assert first["country"] == "FR"
    second = upsert(lago, name="Eve").json["customer"]
    assert (second["lago_id"], second["email"], second["name"]) == (first["lago_id"], "ada@example.com", "Eve")
    assert upsert(lago, email=None).json["customer"]["email"] is None
    assert lago.get("/customers/c1").json["customer"]["name"] == "Eve"


@pytest.mark.parametrize(
    "body", [{"customer": "x"}, {"customer": {}}, {"customer": {"nope": 1}}, {"external_id": "c"}, {}]
)
def test_without_known_fields_the_parameter_is_missing(lago, body):
    assert lago.post("/customers", body).json == {
        "status": 400,
        "error": "BadRequest: param is missing or the value is empty or invalid: customer",
    }


def test_several_wrong_fields_are_reported_at_once(lago):
    answer = lago.post("/customers", {"customer": {"name": "x" * 256, "currency": "invalid", "net_payment_term": -1}})
    assert answer.details == {
        "currency": ["value_is_invalid"],
        "name": ["value_is_too_long"],
        "net_payment_term": ["value_is_out_of_range"],
        "external_id": ["value_is_mandatory"],
    }
    assert lago.sandbox.state()["customers"] == 0


@pytest.mark.parametrize("email", ["a@b.co", "a@b.co, c@d.org", "ü@b.co"])
def test_email_lists_are_taken(lago, email):
    assert upsert(lago, email=email).status == 200


def test_unknown_references_are_not_found(lago):
    assert upsert(lago, billing_entity_code="nope").json["code"] == "billing_entity_not_found"
    assert upsert(lago, tax_codes=["nope"]).json["code"] == "tax_not_found"


def test_a_missing_payment_provider_leaves_the_customer_behind(lago):
    answer = upsert(lago, billing_configuration={"payment_provider": "stripe", "provider_customer_id": "cus_1"})
    assert answer.details == {"base": ["payment_provider_not_found"]}
    assert lago.get("/customers/c1").status == 200


def test_partial_addresses_merge(lago):
    upsert(lago, shipping_address={"city": "Paris", "zipcode": "75001"})
    merged = upsert(lago, shipping_address={"zipcode": "75002"}).json["customer"]["shipping_address"]
    assert (merged["city"], merged["zipcode"]) == ("Paris", "75002")


def test_a_dot_in_a_path_cuts_the_id_so_the_wrong_customer_is_deleted(lago):
    for external_id in ("john@acme", "john@acme.com"):
        lago.post("/customers", {"customer": {"external_id": external_id}})
    assert lago.get("/customers/john@acme.com").json["customer"]["external_id"] == "john@acme"
    assert lago.get("/customers/john%40acme%2Ecom").json["customer"]["external_id"] == "john@acme.com"
    assert lago.get("/customers/a.b.c").json["code"] == "resource_not_found"
    assert lago.ask("DELETE", "/customers/john@acme.com").json["customer"]["external_id"] == "john@acme"


def test_a_deleted_customers_id_can_be_used_again(lago):
    first = upsert(lago).json["customer"]
    assert lago.ask("DELETE", "/customers/c1").status == 200
    assert lago.ask("DELETE", "/customers/c1").json["code"] == "customer_not_found"
    again = upsert(lago).json["customer"]
    assert again["lago_id"] != first["lago_id"]
    assert again["sequential_id"] == 2


def test_the_same_customer_again_changes_nothing(lago, sandbox):
    sandbox.add_tax("vat")
    fields = {
        "name": "Ada",
        "country": "fr",
        "currency": "EUR",
        "tax_codes": ["vat"],
        "shipping_address": {"city": "Paris", "country": "fr"},
        "billing_configuration": {"document_locale": "fr"},
        "finalize_zero_amount_invoice": None,
    }
    first = upsert(lago, **fields).json["customer"]
    before = sandbox.dump()
    assert upsert(lago, **fields).json["customer"] == first
    assert upsert(lago).status == 200
    assert sandbox.dump() == before


def test_updated_at_tells_changes_of_the_row_only():
    now = [1_700_000_000.0]
    with Sandbox(clock=lambda: now[0]) as sandbox:
        sandbox.add_tax("vat")
        first = sandbox.add_customer("c1", name="Ada")
        now[0] += 60
        assert sandbox.add_customer("c1", name="Ada")["updated_at"] == first["updated_at"]
        beside = sandbox.add_customer("c1", metadata=[{"key": "a", "value": "1"}], tax_codes=["vat"])
        assert beside["updated_at"] == first["updated_at"]
        changed = sandbox.add_customer("c1", billing_configuration={"document_locale": "fr"})
        assert changed["updated_at"] == "2023-11-14T22:14:20Z"
        assert changed["created_at"] == first["created_at"] == "2023-11-14T22:13:20Z"


def test_nulls_for_whole_parts_are_ignored(lago):
    parts = {
        "shipping_address": {"city": "Paris"},
        "billing_configuration": {"document_locale": "fr"},
        "metadata": [{"key": "a", "value": "1"}],
        "finalize_zero_amount_invoice": "skip",
    }
    first = upsert(lago, **parts).json["customer"]
    nulls = dict.fromkeys(("shipping_address", "billing_configuration", "metadata", "integration_customers"))
    assert upsert(lago, **nulls).json["customer"] == first
    assert upsert(lago, finalize_zero_amount_invoice=None).json["customer"]["finalize_zero_amount_invoice"] == "inherit"


def test_billing_configuration_merges_by_key(lago):
    anchor = "subscription_invoice_issuing_date_anchor"
    upsert(lago, billing_configuration={"document_locale": "fr"})
    merged = upsert(lago, billing_configuration={anchor: "current_period_end"}).json["customer"]
    assert merged["billing_configuration"]["document_locale"] == "fr"
    assert merged["billing_configuration"][anchor] == "current_period_end"


def test_taxes_are_replaced_as_a_whole(lago, sandbox):
    for code in ("vat", "gst", "old"):
        sandbox.add_tax(code)

    def codes(**fields):
        return [tax["code"] for tax in upsert(lago, **fields).json["customer"]["taxes"]]

    assert codes(tax_codes=["vat", "old"]) == ["vat", "old"]
    assert codes(name="Ada") == ["vat", "old"]
    assert codes(tax_codes=["gst", "vat"]) == ["vat", "gst"]
    assert codes(tax_codes=[]) == []


def test_an_unknown_tax_undoes_the_whole_upsert(lago, sandbox):
    upsert(lago, name="Ada")
    before = sandbox.dump()
    answer = upsert(lago, name="Eve", tax_codes=["nope"], metadata=[{"key": "a", "value": "1"}])
    assert (answer.status, answer.json["code"]) == (404, "tax_not_found")
    assert sandbox.dump() == before


def test_taxes_are_managed_by_code(lago, sandbox):
    made = sandbox.add_tax("vat", 19, name="VAT")
    assert lago.post("/taxes", {"tax": {"name": "x", "code": "vat", "rate": 1}}).details == {
        "code": ["value_already_exist"]
    }
    assert lago.post("/taxes", {"tax": {"name": "x", "rate": "much"}}).details == {
        "code": ["value_is_mandatory"],
        "rate": ["not_a_number"],
    }
    upsert(lago, tax_codes=["vat"])
    assert lago.ask("PUT", "/taxes/vat", {"tax": {"rate": "21.5", "code": "btw"}}).json["tax"]["rate"] == 21.5
    assert lago.get("/customers/c1").json["customer"]["taxes"] == [{**made, "rate": 21.5, "code": "btw"}]
    assert [tax["code"] for tax in lago.get("/taxes").json["taxes"]] == ["btw"]
    assert lago.ask("DELETE", "/taxes/btw").status == 200
    assert lago.get("/taxes/btw").json["code"] == "tax_not_found"
    assert lago.get("/customers/c1").json["customer"]["taxes"] == []


def test_timezones_need_a_licence(lago):
    assert upsert(lago, timezone="Europe/Paris").json["customer"]["timezone"] is None
    with Sandbox(premium=True) as premium:
        zoned = premium.add_customer("c1", timezone="Europe/Paris")
        assert (zoned["timezone"], zoned["applicable_timezone"]) == ("Europe/Paris", "Europe/Paris")
        with pytest.raises(ValueError, match="invalid_timezone"):
            premium.add_customer("c1", timezone="Mars/Base")


def test_a_released_lago_binds_a_customer_to_its_currency():
    with Sandbox(release="1.51.0") as released:
        released.add_plan("small")
        released.add_customer("c1", currency="EUR")
        released.add_customer("c1", currency="USD")
        released.add_subscription("s1", "c1", "small")
        with pytest.raises(ValueError, match="currencies_does_not_match"):
            released.add_customer("c1", currency="EUR")
        released.add_customer("c2", currency="EUR")
        with pytest.raises(ValueError, match="currencies_does_not_match"):
            released.add_subscription("s2", "c2", "small")
    with Sandbox() as newest:
        newest.add_plan("small")
        newest.add_subscription("s1", "c1", "small")
        assert newest.add_customer("c1", currency="EUR")["currency"] == "EUR"


def test_customers_are_filtered_and_a_scalar_for_an_array_is_ignored(lago):
    for name, country in (("a", "FR"), ("b", "US"), ("c", "US")):
        customer = {"external_id": name, "country": country, "metadata": [{"key": "n", "value": name}]}
        lago.post("/customers", {"customer": customer})

    def found(query):
        return [one["external_id"] for one in lago.get(f"/customers?{query}").json["customers"]]

    assert found("external_id=b") == ["b"]
    assert found("countries[]=US") == ["c", "b"]
    assert found("countries=US") == ["c", "b", "a"]
    assert found("metadata[n]=a") == ["a"]
    assert found("search_term=B") == ["b"]
    assert found("nope=b&external_id=") == ["c", "b", "a"]
    assert found("has_customer_type=true") == []
    assert found("has_tax_identification_number=false&per_page=2") == ["c", "b"]
    assert found("billing_entity_codes[]=acme&page=2&per_page=2") == ["a"]


@pytest.mark.parametrize(
    ("query", "details"),
    [
        ("has_customer_type=maybe", {"has_customer_type": ["must be one of: true, false"]}),
        ("customer_type=firm", {"customer_type": ["must be one of: company, individual"]}),
        ("account_type[]=x", {"account_type": {"0": ["must be one of: customer, partner"]}}),
        ("metadata[a][b]=c", {"metadata": {"a": ["must be a string"]}}),
    ],
)
def test_wrong_filters_are_refused(lago, query, details):
    answer = lago.get(f"/customers?{query}")
    assert (answer.status, answer.details) == (422, details)


def test_an_unknown_billing_entity_is_not_found(lago):
    assert lago.get("/customers?billing_entity_codes[]=nope").json["code"] == "billing_entity_not_found"


def test_pages_do_not_overlap(lago, sandbox):
    for number in range(7):
        sandbox.add_customer(f"c{number}")
    pages = [lago.get(f"/customers?per_page=3&page={page}").json for page in (1, 2, 3, 4)]
    assert [one["external_id"] for page in pages for one in page["customers"]] == [f"c{n}" for n in range(6, -1, -1)]
    assert [page["meta"]["next_page"] for page in pages] == [2, 3, None, None]


def test_an_old_release_lists_all_when_asked_for_one_id():
    with Sandbox(release="1.48.0") as old, Sandbox(release="1.49.0") as new:
        for sandbox in (old, new):
            sandbox.add_plan("small")
            for name in ("a", "b"):
                sandbox.add_subscription(f"s_{name}", name, "small")
        counts = [
            len(sandbox.call("GET", f"/{kind}", query=f"external_id={one}")[kind])
            for sandbox in (old, new)
            for kind, one in (("customers", "a"), ("subscriptions", "s_a"))
        ]
        assert counts == [2, 2, 1, 1]


@pytest.mark.parametrize("release", ["", "newest", "1", "1.x"])
def test_a_release_is_a_number(release):
    with pytest.raises(ValueError, match="no release"):
        Sandbox(release=release)
