"""The values of a customer that Lago knows, and what an answer can and cannot show of them."""

import pytest

from airflow_provider_lago.api.customers import (
    CUSTOMER_FIELDS,
    PREMIUM,
    Clearing,
    changes,
    check_customer,
    dropped,
    may_differ,
    reaches_others,
    read_metadata,
    saved_at_once,
    to_send,
    without_nulls,
)
from airflow_provider_lago.api.records import InvalidRecord

CHOICES = {
    "account_type": ["customer", "partner"],
    "customer_type": ["company", "individual"],
    "finalize_zero_amount_invoice": ["inherit", "skip", "finalize"],
    "billing_configuration.subscription_invoice_issuing_date_anchor": ["current_period_end", "next_period_start"],
    "billing_configuration.subscription_invoice_issuing_date_adjustment": [
        "keep_anchor",
        "align_with_finalization_date",
    ],
    "billing_configuration.payment_provider": ["stripe", "gocardless", "cashfree", "adyen", "flutterwave", "moneyhash"],
}

PARTS = {
    "shipping_address": {"address_line1", "address_line2", "city", "zipcode", "state", "country"},
    "billing_configuration": {
        "invoice_grace_period",
        "subscription_invoice_issuing_date_anchor",
        "subscription_invoice_issuing_date_adjustment",
        "payment_provider",
        "payment_provider_code",
        "provider_customer_id",
        "sync",
        "sync_with_provider",
        "document_locale",
        "provider_payment_methods",
    },
}

LINK = {
    "id": "1",
    "code": "c",
    "external_customer_id": "e",
    "integration_type": "xero",
    "integration_code": "x",
    "subsidiary_id": "s",
    "sync_with_provider": True,
    "targeted_object": "contacts",
}


def nested(path, value):
    name, _, part = path.partition(".")
    return {name: {part: value} if part else value}


def check(**fields):
    return check_customer({"external_id": "acme", **fields}, Clearing())


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in CHOICES.items() for value in values])
def test_every_choice_that_lago_knows_is_taken(path, value):
    assert check(**nested(path, value)).payload == {"external_id": "acme", **nested(path, value)}


@pytest.mark.parametrize("path", CHOICES)
def test_a_choice_that_lago_does_not_know_is_refused_by_name(path):
    with pytest.raises(InvalidRecord, match=path):
        check(**nested(path, "other"))


@pytest.mark.parametrize("name", PARTS)
def test_every_part_that_lago_knows_can_be_cleared_and_no_other(name):
    for part in PARTS[name]:
        Clearing(fields=[f"{name}.{part}"]).check(replace_metadata=False)
        path = f"{name}.{part}"
        cleared = check_customer({"external_id": "acme"}, Clearing(fields=[path]))
        assert cleared.payload == {"external_id": "acme", name: {part: None}}
    for wrong in (name, f"{name}.", f"{name}.colour"):
        with pytest.raises(ValueError, match="clear: "):
            Clearing(fields=[wrong]).check(replace_metadata=False)


@pytest.mark.parametrize("name", sorted(CUSTOMER_FIELDS - set(PARTS) - {"external_id"}))
def test_every_other_field_can_be_cleared_as_a_whole(name):
    Clearing(fields=[name]).check(replace_metadata=True)


@pytest.mark.parametrize("wrong", ["external_id", "colour", "name.first", "", None, 7])
def test_what_is_no_field_or_the_id_cannot_be_cleared(wrong):
    with pytest.raises(ValueError, match="clear: "):
        Clearing(fields=[wrong]).check(replace_metadata=False)


def test_a_key_of_metadata_can_be_cleared_unless_all_that_is_not_named_goes_anyway():
    Clearing(fields=["metadata.old"]).check(replace_metadata=False)
    with pytest.raises(ValueError, match="metadata_mode='replace'"):
        Clearing(fields=["metadata.old"]).check(replace_metadata=True)


def test_a_link_has_all_the_fields_that_lago_knows():
    assert check(integration_customers=[LINK]).payload["integration_customers"] == [LINK]
    for name in LINK:
        with pytest.raises(InvalidRecord, match="integration_customers"):
            check(integration_customers=[{f"{name}s": "x"}])


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({}, False),
        ({"billing_configuration": None}, False),
        ({"billing_configuration": {"sync": True}}, True),
        ({"billing_configuration": {"sync_with_provider": True}}, True),
        ({"billing_configuration": {"sync": False, "provider_customer_id": "c"}}, False),
        ({"integration_customers": [{"id": "1"}]}, False),
        ({"integration_customers": [{"id": "1", "sync_with_provider": True}]}, True),
        ({"integration_customers": [{"integration_type": "xero"}]}, True),
        ({"integration_customers": [{"id": "1"}, {"code": "x"}]}, True),
        ({"integration_customers": None}, False),
    ],
)
def test_what_makes_lago_call_another_system(fields, calls):
    assert reaches_others({"external_id": "acme", **fields}) is calls


@pytest.mark.parametrize(
    ("fields", "drops"),
    [
        ({"name": "x"}, False),
        ({"timezone": "UTC"}, True),
        ({"account_type": "partner"}, True),
        ({"billing_entity_code": "main"}, True),
        ({"billing_configuration": {"invoice_grace_period": 3}}, True),
        ({"billing_configuration": {"document_locale": "en"}}, False),
    ],
)
def test_what_lago_may_drop_without_a_word(fields, drops):
    assert check(**fields).may_be_dropped is drops


def test_what_an_answer_shows_of_a_request():
    drop = ["timezone", "billing_configuration.invoice_grace_period", "account_type", "billing_entity_code"]
    hidden = ["invoice_custom_section_codes"]
    later = ["billing_configuration.document_locale", "integration_customers"]
    names = ["name", *drop, *hidden, *later, "metadata"]
    assert dropped(names) == drop
    assert may_differ(names) == [*drop, *hidden]
    assert saved_at_once(names) == ["name", "metadata"]


@pytest.mark.parametrize(
    ("fields", "held", "differ"),
    [
        ({"account_type": None}, {"account_type": "customer"}, False),
        ({"account_type": None}, {"account_type": "partner"}, True),
        ({"finalize_zero_amount_invoice": None}, {"finalize_zero_amount_invoice": "inherit"}, False),
        ({"finalize_zero_amount_invoice": None}, {"finalize_zero_amount_invoice": "skip"}, True),
        ({"skip_invoice_custom_sections": None}, {"skip_invoice_custom_sections": False}, False),
        ({"skip_invoice_custom_sections": None}, {"skip_invoice_custom_sections": True}, True),
        ({"billing_entity_code": None}, {"billing_entity_code": "main"}, False),
        ({"billing_entity_code": "eu"}, {"billing_entity_code": "main"}, True),
        ({"name": None}, {"name": ""}, False),
        ({"name": ""}, {"name": None}, False),
        ({"name": None}, {"name": "x"}, True),
        ({"name": "x"}, {}, True),
        ({"net_payment_term": 1}, {"net_payment_term": True}, True),
        ({"tax_codes": ["a", "b"]}, {"taxes": [{"code": "b"}, {"code": "a"}]}, False),
        ({"tax_codes": ["a"]}, {"taxes": [{"code": "b"}, {"code": "a"}]}, True),
        ({"tax_codes": []}, {"taxes": []}, False),
        ({"tax_codes": ["a"]}, {"tax_codes": ["a"]}, True),
        ({"integration_customers": []}, {"integration_customers": []}, False),
        (
            {"integration_customers": [{"integration_type": "xero", "integration_code": "x"}]},
            {"integration_customers": [{"lago_id": "1", "type": "xero", "integration_code": "x"}]},
            False,
        ),
        (
            {"integration_customers": [{"id": "1"}]},
            {"integration_customers": [{"lago_id": "1", "type": "xero"}]},
            False,
        ),
        (
            {"integration_customers": [{"id": "1"}]},
            {"integration_customers": [{"lago_id": "1", "type": "xero"}, {"lago_id": "2", "type": "anrok"}]},
            True,
        ),
        ({"integration_customers": [{"code": "x"}]}, {"integration_customers": [{"code": "x"}]}, True),
    ],
)
def test_a_customer_differs_from_what_lago_holds_where_a_person_would_say_so(fields, held, differ):
    found = changes(check(**fields), {"external_id": "acme", **held}, replace_metadata=False)
    assert found == (list(fields) if differ else [])


@pytest.mark.parametrize(
    ("part", "held", "differ"),
    [
        ({"document_locale": "en"}, {"document_locale": "en"}, False),
        ({"document_locale": "en"}, {"document_locale": "fr"}, True),
        ({"provider_payment_methods": ["card", "link"]}, {"provider_payment_methods": ["link", "card"]}, False),
        ({"provider_payment_methods": ["card"]}, {"provider_payment_methods": ["link", "card"]}, True),
        ({"provider_payment_methods": ["card"]}, {}, True),
        ({"sync": True}, {"provider_customer_id": "c"}, False),
        ({"sync": True}, {}, True),
        ({"sync": True}, {"sync": False, "provider_customer_id": "c"}, False),
        ({"sync": False}, {}, False),
        ({"sync_with_provider": True}, {"sync_with_provider": True, "provider_customer_id": "c"}, False),
        ({"sync_with_provider": True}, {"sync_with_provider": True}, True),
        ({"sync_with_provider": False}, {"sync_with_provider": True, "provider_customer_id": "c"}, True),
        ({"sync_with_provider": True}, {"provider_customer_id": "c"}, False),
    ],
)
def test_the_billing_configuration_differs_where_a_person_would_say_so(part, held, differ):
    held = {"external_id": "acme", "billing_configuration": held}
    found = changes(check(billing_configuration=part), held, replace_metadata=False)
    assert found == ([f"billing_configuration.{name}" for name in part] if differ else [])


def test_a_link_that_lago_holds_keeps_its_id():
    held = {
        "integration_customers": [
            {"lago_id": "1", "type": "anrok", "integration_code": "x"},
            {"lago_id": "2", "type": "xero", "integration_code": "x"},
        ]
    }

    def sent(link):
        customer = check(integration_customers=[link])
        return to_send(customer, held, replace_metadata=False)["integration_customers"][0].get("id")

    assert sent({"integration_type": "xero", "integration_code": "x"}) == "2"
    assert sent({"integration_type": "anrok"}) == "1"
    assert sent({"integration_code": "x"}) == "1"
    assert sent({"integration_type": "xero", "integration_code": "x", "id": "9"}) == "9"
    assert sent({"integration_type": "hubspot"}) is None
    assert sent({"code": "x"}) is None


def test_what_one_answer_shows_of_a_licence():
    assert {"timezone", "billing_configuration.invoice_grace_period"} == PREMIUM


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"k" * 21: "v"}, "metadata: key too long"),
        ({" ": "v"}, "metadata: empty key"),
        ({"k": "v" * 101}, "metadata: value too long"),
        ({"k": " "}, "metadata: empty value"),
        ([{"key": "k", "value": "1"}, {"key": " k ", "value": "2"}], "metadata: key twice"),
        ([{"key": "k", "value": "1", "display_in_invoice": "perhaps"}], "metadata: not true or false"),
        ([{"key": "k", "text": "1"}], "unknown field"),
        ({str(n): "v" for n in range(6)}, "metadata: more than 5"),
    ],
)
def test_metadata_beyond_lagos_limits_is_refused(given, reason):
    with pytest.raises(InvalidRecord) as caught:
        read_metadata(given)
    assert caught.value.reason == reason


def test_metadata_comes_as_a_dict_or_as_lago_answers_it():
    rows = [
        {"key": "a", "value": 1, "display_in_invoice": "true", "lago_id": "1", "created_at": "x"},
        {"key": "b", "value": True, "display_in_invoice": False, "id": "2"},
        {"key": "c", "value": None, "display_in_invoice": True},
        {"key": "d", "value": 1.50},
    ]
    assert read_metadata(rows) == {
        "a": {"value": "1", "display_in_invoice": True},
        "b": {"value": "true", "display_in_invoice": False},
        "c": None,
        "d": {"value": "1.5"},
    }
    assert read_metadata({"k" * 20: "v" * 100}) == {"k" * 20: {"value": "v" * 100}}
    assert len(read_metadata({**{str(n): "v" for n in range(5)}, "gone": None})) == 6
    assert read_metadata(None) == {}


def test_nulls_are_left_out_of_parts_and_metadata_but_not_of_other_lists():
    given = {
        "name": None,
        "email": "",
        "shipping_address": {"city": None, "state": "CA"},
        "metadata": [{"key": "a", "value": None}, {"key": "b", "value": "1"}, "c"],
        "tax_codes": [None, "vat"],
        "integration_customers": [{"code": "x", "value": None}],
    }
    assert without_nulls(given) == {
        "email": "",
        "shipping_address": {"state": "CA"},
        "metadata": [{"key": "b", "value": "1"}, "c"],
        "tax_codes": [None, "vat"],
        "integration_customers": [{"code": "x", "value": None}],
    }
    assert without_nulls({"metadata": {"a": None, "b": "1"}}) == {"metadata": {"b": "1"}}


@pytest.mark.parametrize(
    ("held", "replace", "sent"),
    [
        (None, False, [{"key": "a", "value": "1"}]),
        ([], False, [{"key": "a", "value": "1"}]),
        ([("a", "1")], False, None),
        ([("a", "1")], True, None),
        ([("a", "1"), ("b", "2")], False, None),
        (
            [("a", "1"), ("b", "2")],
            True,
            [{"id": "id-a", "key": "a", "value": "1", "display_in_invoice": False}],
        ),
        (
            [("a", "0")],
            False,
            [{"id": "id-a", "key": "a", "value": "1", "display_in_invoice": False}],
        ),
    ],
)
def test_metadata_is_sent_only_where_it_changes_something(held, replace, sent):
    rows = held and [
        {"lago_id": f"id-{key}", "key": key, "value": value, "display_in_invoice": False} for key, value in held
    ]
    there = None if held is None else {"external_id": "acme", "metadata": rows}
    payload = to_send(check(metadata={"a": "1"}), there, replace_metadata=replace)
    assert payload.get("metadata") == sent
