"""Customers: one POST for both, metadata by id, dots in paths."""

from __future__ import annotations

import pytest


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


def test_metadata_sent_again_without_its_id_collides(lago):
    first = upsert(lago, metadata=[{"key": "tier", "value": "gold"}]).json["customer"]["metadata"][0]
    assert upsert(lago, metadata=[{"key": "tier", "value": "x"}]).details == {"key": ["value_already_exist"]}
    kept = upsert(lago, metadata=[{"id": first["lago_id"], "key": "tier", "value": "tin"}]).json["customer"]
    assert [(row["lago_id"], row["value"]) for row in kept["metadata"]] == [(first["lago_id"], "tin")]


def test_metadata_replaces_the_whole_set(lago):
    upsert(lago, metadata=[{"key": "a", "value": "1"}])
    assert [row["key"] for row in upsert(lago, metadata=None).json["customer"]["metadata"]] == ["a"]
    replaced = upsert(lago, metadata=[{"key": "b", "value": "1"}]).json["customer"]
    assert [row["key"] for row in replaced["metadata"]] == ["b"]
    assert upsert(lago, metadata=[]).json["customer"]["metadata"] == []


def test_metadata_has_limits(lago):
    six = [{"key": f"k{n}", "value": "v"} for n in range(6)]
    assert upsert(lago, metadata=six).details == {"metadata": ["invalid_count"]}
    assert upsert(lago, metadata=[{"key": "k" * 21, "value": ""}]).details == {
        "key": ["value_is_too_long"],
        "value": ["value_is_mandatory"],
    }
    assert lago.get("/customers/c1").status == 404


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
