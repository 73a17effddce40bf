"""What hangs on a customer: metadata, links to other systems, and payment providers, asked after the commit."""

from __future__ import annotations

import pytest


def upsert(lago, **fields):
    return lago.post("/customers", {"customer": {"external_id": "c1", **fields}})


# Metadata


def metadata(lago, *items):
    return upsert(lago, metadata=list(items))


def pairs(answer):
    return {row["key"]: row["value"] for row in answer.json["customer"]["metadata"]}


def ids(answer):
    return {row["key"]: row["lago_id"] for row in answer.json["customer"]["metadata"]}


def test_a_key_sent_again_without_its_id_collides_and_undoes_all(lago, sandbox):
    metadata(lago, {"key": "tier", "value": "gold"})
    before = sandbox.dump()
    answer = upsert(lago, name="Eve", metadata=[{"key": "tier", "value": "x"}])
    assert (answer.status, answer.details) == (422, {"key": ["value_already_exist"]})
    assert sandbox.dump() == before


def test_a_row_is_matched_by_its_id_alone(lago):
    tier = ids(metadata(lago, {"key": "tier", "value": "gold"}))["tier"]
    answer = metadata(lago, {"id": tier, "key": "tier", "value": "tin"})
    assert (pairs(answer), ids(answer)) == ({"tier": "tin"}, {"tier": tier})
    assert ids(metadata(lago, {"id": tier, "key": "level", "value": "tin"})) == {"level": tier}
    assert "level" not in ids(metadata(lago, {"id": "unknown", "key": "tier", "value": "tin"}))


def test_rows_are_deleted_only_after_the_new_ones_are_there(lago):
    held = ids(metadata(lago, {"key": "a", "value": "1"}, {"key": "b", "value": "2"}))
    assert metadata(lago, {"id": held["a"], "key": "b", "value": "2"}).status == 422
    swapped = metadata(
        lago,
        {"id": held["a"], "key": "c", "value": "1"},
        {"id": held["b"], "key": "a", "value": "2"},
    )
    assert pairs(swapped) == {"c": "1", "a": "2"}


def test_what_is_not_listed_goes(lago):
    metadata(lago, {"key": "a", "value": "1"})
    assert pairs(upsert(lago, metadata=None)) == {"a": "1"}
    assert pairs(metadata(lago, {"key": "b", "value": "1"})) == {"b": "1"}
    assert pairs(metadata(lago)) == {}


def test_the_same_set_with_its_ids_changes_nothing(lago, sandbox):
    rows = metadata(lago, {"key": "a", "value": "1"}, {"key": "b", "value": "2"}).json["customer"]["metadata"]
    before = sandbox.dump()
    again = [{"id": row["lago_id"], "key": row["key"], "value": row["value"]} for row in rows]
    assert metadata(lago, *again).status == 200
    assert sandbox.dump() == before


def test_display_in_invoice_is_false_unless_said_again(lago):
    first = metadata(lago, {"key": "a", "value": "1", "display_in_invoice": True}).json["customer"]["metadata"][0]
    assert first["display_in_invoice"] is True
    second = metadata(lago, {"id": first["lago_id"], "value": "2"}).json["customer"]["metadata"][0]
    assert (second["key"], second["value"], second["display_in_invoice"]) == ("a", "2", False)


@pytest.mark.parametrize(
    ("items", "details"),
    [
        ([{"key": f"k{n}", "value": "v"} for n in range(6)], {"metadata": ["invalid_count"]}),
        ([{"key": "k" * 21, "value": ""}], {"key": ["value_is_too_long"], "value": ["value_is_mandatory"]}),
        ([{"value": "v" * 101}], {"key": ["value_is_mandatory"], "value": ["value_is_too_long"]}),
        ([{"key": "k", "value": "1"}, {"key": "k", "value": "2"}], {"key": ["value_already_exist"]}),
    ],
)
def test_metadata_has_limits(lago, items, details):
    assert metadata(lago, *items).details == details
    assert lago.get("/customers/c1").status == 404
    fine = [{"key": "k" * 20 if not n else f"k{n}", "value": "v" * 100} for n in range(5)]
    assert metadata(lago, *fine).status == 200


# Other systems


def link(**fields):
    return {"integration_type": "netsuite", "integration_code": "books", "external_customer_id": "n1", **fields}


def test_links_are_replaced_by_id(lago, sandbox):
    sandbox.add_integration("netsuite", "books")
    sandbox.add_integration("hubspot", "crm")
    hub = {"integration_type": "hubspot", "integration_code": "crm", "sync_with_provider": True}
    first = upsert(lago, integration_customers=[link(subsidiary_id="2"), hub]).json["customer"]["integration_customers"]
    assert [(row["type"], row["integration_code"]) for row in first] == [("netsuite", "books"), ("hubspot", "crm")]
    assert (first[0]["external_customer_id"], first[0]["subsidiary_id"]) == ("n1", "2")
    before = sandbox.dump()
    same = [link(id=first[0]["lago_id"], subsidiary_id="2"), {**hub, "id": first[1]["lago_id"]}]
    assert upsert(lago, integration_customers=same).json["customer"]["integration_customers"] == first
    assert sandbox.dump() == before
    anew = upsert(lago, integration_customers=[link()]).json["customer"]["integration_customers"]
    assert [row["type"] for row in anew] == ["netsuite"]
    assert anew[0]["lago_id"] != first[0]["lago_id"]
    assert upsert(lago, integration_customers=None).json["customer"]["integration_customers"] == anew
    assert upsert(lago, integration_customers=[]).json["customer"]["integration_customers"] == []


def test_there_is_one_link_per_type(lago):
    answer = upsert(lago, integration_customers=[link(), link(integration_code="other")])
    assert answer.details == {"integration_customers": ["invalid_count_per_integration_type"]}


def test_a_system_that_is_not_there_is_passed_over(lago):
    assert upsert(lago, integration_customers=[link()]).json["customer"]["integration_customers"] == []


# Payment providers


def stripe(**fields):
    return {"payment_provider": "stripe", "provider_customer_id": "cus_1", **fields}


def billing(answer):
    return answer.json["customer"]["billing_configuration"]


def test_a_known_provider_is_kept_and_shown(lago, sandbox):
    sandbox.add_payment_provider("stripe", "stripe-eu")
    shown = billing(upsert(lago, billing_configuration=stripe(sync_with_provider=True)))
    assert {name: shown[name] for name in shown if "provider" in name} == {
        "payment_provider": "stripe",
        "payment_provider_code": "stripe-eu",
        "provider_customer_id": "cus_1",
        "sync_with_provider": True,
        "provider_payment_methods": ["card"],
    }
    before = sandbox.dump()
    assert billing(upsert(lago, billing_configuration=stripe(sync_with_provider=True))) == shown
    assert billing(upsert(lago, billing_configuration={"document_locale": None})) == shown
    assert sandbox.dump() == before


@pytest.mark.parametrize(
    ("accounts", "code", "wrong"),
    [
        ([], None, "payment_provider_not_found"),
        (["a"], "b", "payment_provider_not_found"),
        (["a", "b"], None, "payment_provider_code_missing"),
    ],
)
def test_a_provider_that_cannot_be_told_leaves_the_customer_behind(lago, sandbox, accounts, code, wrong):
    for account in accounts:
        sandbox.add_payment_provider("stripe", account)
    answer = upsert(lago, name="Ada", billing_configuration=stripe(payment_provider_code=code))
    assert (answer.status, answer.details) == (422, {"base": [wrong]})
    (left,) = sandbox.customers()
    assert (left["name"], left["billing_configuration"]["payment_provider"]) == ("Ada", None)


def test_the_code_picks_one_of_several_accounts(lago, sandbox):
    for account in ("a", "b"):
        sandbox.add_payment_provider("stripe", account)
    shown = billing(upsert(lago, billing_configuration=stripe(payment_provider_code="b")))
    assert shown["payment_provider_code"] == "b"


def test_null_unlinks_and_so_does_an_unknown_name(lago, sandbox):
    sandbox.add_payment_provider("stripe", "a")
    for name in (None, "nope"):
        assert billing(upsert(lago, billing_configuration=stripe()))["provider_customer_id"] == "cus_1"
        shown = billing(upsert(lago, billing_configuration={"payment_provider": name}))
        assert shown["payment_provider"] is None
        assert "provider_customer_id" not in shown


def test_an_unknown_name_is_ignored_on_create(lago):
    answer = upsert(lago, billing_configuration={"payment_provider": "nope", "provider_customer_id": "x"})
    assert (answer.status, billing(answer)["payment_provider"]) == (200, None)


def test_a_provider_gives_an_id_to_a_customer_without_one(lago, sandbox):
    sandbox.add_payment_provider("adyen", "a")
    shown = billing(upsert(lago, billing_configuration={"payment_provider": "adyen", "sync_with_provider": True}))
    assert shown["provider_customer_id"].startswith("adyen_")
    assert "provider_payment_methods" not in shown


@pytest.mark.parametrize(
    ("kind", "status", "details"),
    [
        ("provider_error", 422, {"code", "message", "request_id", "http_status"}),
        ("third_party_error", 422, {"third_party", "thirdparty_error"}),
        ("too_many_provider_requests", 429, {"provider_name", "message"}),
    ],
)
def test_a_provider_that_refuses_leaves_the_customer_and_its_link_behind(lago, sandbox, kind, status, details):
    sandbox.add_payment_provider("stripe", "a")
    rule = sandbox.fault(kind, times=1)
    assert upsert(lago, billing_configuration={"document_locale": "fr"}).status == 200
    assert upsert(lago, billing_configuration=stripe()).status == 200
    assert rule.fired == 0
    answer = upsert(lago, name="Ada", billing_configuration=stripe(sync=True))
    assert (answer.status, answer.json["code"], answer.json["error_details"].keys()) == (status, kind, details)
    assert (rule.fired, sandbox.requests[-1].fault) == (1, kind)
    (left,) = sandbox.customers()
    assert (left["name"], left["billing_configuration"]["provider_customer_id"]) == ("Ada", "cus_1")
    assert upsert(lago, name="Ada", billing_configuration=stripe(sync=True)).status == 200


def test_only_lagos_kinds_of_providers_can_be_added(sandbox):
    with pytest.raises(ValueError, match="no payment provider"):
        sandbox.add_payment_provider("paypal", "a")
    sandbox.add_payment_provider("stripe", "a")
    with pytest.raises(ValueError, match="already"):
        sandbox.add_payment_provider("stripe", "a")
