import datetime as dt
from decimal import Decimal

import pytest

from airflow_provider_lago.api.customers import (
    CUSTOMER_FIELDS,
    Clearing,
    changes,
    check_customer,
    metadata_list,
    reaches_others,
    read_metadata,
    to_send,
    without_nulls,
)
from airflow_provider_lago.api.records import InvalidRecord

FULL = {
    "external_id": "acme/1",
    "account_type": "customer",
    "name": "Acme",
    "firstname": "Ada",
    "lastname": "L",
    "customer_type": "company",
    "country": "us",
    "address_line1": "1",
    "address_line2": "2",
    "state": "CA",
    "zipcode": 94105,
    "email": "a@acme.com,b@acme.com",
    "city": "SF",
    "url": "https://acme.com",
    "phone": "1",
    "logo_url": "https://acme.com/l.png",
    "legal_name": "Acme Inc",
    "legal_number": "7",
    "tax_identification_number": "T",
    "currency": "USD",
    "timezone": "America/New_York",
    "net_payment_term": "30",
    "external_salesforce_id": "s",
    "finalize_zero_amount_invoice": "skip",
    "skip_invoice_custom_sections": "false",
    "billing_entity_code": "main",
    "integration_customers": [{"integration_type": "xero", "integration_code": "x", "sync_with_provider": True}],
    "billing_configuration": {
        "invoice_grace_period": 3,
        "subscription_invoice_issuing_date_anchor": "next_period_start",
        "subscription_invoice_issuing_date_adjustment": "keep_anchor",
        "payment_provider": "stripe",
        "payment_provider_code": "stripe_eu",
        "provider_customer_id": "cus_1",
        "sync": "yes",
        "sync_with_provider": True,
        "document_locale": "pt-BR",
        "provider_payment_methods": ["card"],
    },
    "metadata": {"tier": "gold"},
    "shipping_address": {"address_line1": "1", "city": "SF", "zipcode": 1, "state": "CA", "country": "us"},
    "tax_codes": "vat, city",
    "invoice_custom_section_codes": ["s1"],
}


def check(nulls=True, clear=(), **fields):
    return check_customer({"external_id": "acme", **fields}, Clearing(nulls, tuple(clear)))


def row(key, value, lago_id=None, shown=False):
    return {
        "lago_id": lago_id or f"id-{key}",
        "key": key,
        "value": value,
        "display_in_invoice": shown,
        "created_at": "x",
    }


class TestFields:
    def test_every_field_of_a_customer_is_taken(self):
        assert set(FULL) == CUSTOMER_FIELDS
        customer = check_customer(FULL, Clearing())
        assert set(customer.payload) == CUSTOMER_FIELDS - {"metadata"}
        assert customer.payload["country"] == "US"
        assert customer.payload["shipping_address"]["country"] == "US"
        assert customer.payload["net_payment_term"] == 30
        assert customer.payload["skip_invoice_custom_sections"] is False
        assert customer.payload["billing_configuration"]["sync"] is True
        assert customer.payload["tax_codes"] == ["vat", "city"]
        assert reaches_others(customer.payload)

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"emial": "x"}, "emial"),
            ({"billing_configuration": {"locale": "en"}}, "billing_configuration.locale"),
            ({"integration_customers": [{"type": "xero"}]}, r"integration_customers\[\].type"),
            ({"shipping_address": "x"}, "shipping_address"),
            ({"billing_configuration": ["x"]}, "billing_configuration"),
            ({"country": "USA"}, "country"),
            ({"country": ""}, "country"),
            ({"customer_type": "firm"}, "customer_type"),
            ({"tax_codes": [{"a": 1}]}, "tax_codes"),
            ({"integration_customers": "netsuite"}, "integration_customers"),
            ({"name": "a\0b"}, "name"),
            ({"name": True}, "name"),
            ({"net_payment_term": Decimal("1e99999999")}, "net_payment_term"),
            ({"metadata": "gold"}, "metadata"),
            ({"metadata": {"tier": ["x"]}}, "metadata.tier"),
            ({"metadata": {"tier": "a\0"}}, "metadata.tier"),
            ({"metadata": {5: {"x": 1}}}, "metadata.5"),
            ({"tax_codes": None}, "tax_codes"),
            ({"shipping_address": None}, "shipping_address"),
            ({"billing_configuration": {"payment_provider": None}}, "clear"),
            ({"invoice_custom_section_codes": ["a"], "skip_invoice_custom_sections": True}, "exclude each other"),
        ],
    )
    def test_what_lago_would_drop_or_refuse_is_named(self, fields, says):
        with pytest.raises(InvalidRecord, match=says):
            check(**fields)


class TestClearing:
    def test_a_missing_field_is_not_sent_and_a_null_is(self):
        assert check(email=None).payload == {"external_id": "acme", "email": None}
        assert check().payload == {"external_id": "acme"}

    def test_nulls_are_as_if_missing_where_they_are_to_be_kept(self):
        customer = check(
            nulls=False,
            email=None,
            shipping_address={"city": None, "state": "CA"},
            billing_configuration={"payment_provider": None},
            metadata={"a": None, "b": "1"},
            tax_codes=None,
        )
        assert customer.payload == {
            "external_id": "acme", "shipping_address": {"state": "CA"}, "billing_configuration": {},
        }  # fmt: skip
        assert dict(customer.metadata) == {"b": {"value": "1"}}

    @pytest.mark.parametrize("nulls", [True, False])
    def test_a_field_named_in_clear_is_cleared_where_the_record_has_none(self, nulls):
        clear = [
            "email",
            "shipping_address.city",
            "billing_configuration.payment_provider",
            "tax_codes",
            "metadata.old",
        ]
        customer = check(nulls, clear, name="A", tax_codes=None, metadata={"tier": "gold"})
        assert customer.payload == {
            "external_id": "acme",
            "name": "A",
            "email": None,
            "shipping_address": {"city": None},
            "billing_configuration": {"payment_provider": None},
            "tax_codes": [],
        }
        assert dict(customer.metadata) == {"tier": {"value": "gold"}, "old": None}
        assert check(nulls, clear, email="a@b.c").payload["email"] == "a@b.c"

    def test_clear_removes_a_key_also_beside_a_list_of_metadata(self):
        customer = check(clear=["metadata.old", "metadata.tier"], metadata=[{"key": "tier", "value": "gold"}])
        assert dict(customer.metadata) == {"tier": {"value": "gold"}, "old": None}

    @pytest.mark.parametrize("metadata", [{"tier": None}, [{"key": "tier", "value": None}]])
    def test_nulls_that_are_kept_out_remove_no_key(self, metadata):
        assert dict(check_customer({"external_id": "a", "metadata": metadata}, Clearing(nulls=False)).metadata) == {}

    @pytest.mark.parametrize(
        "path", ["emial", "shipping_address", "shipping_address.cty", "name.x", "external_id", 5, "metadata.x"]
    )
    def test_what_cannot_be_cleared_is_an_error_before_anything_is_sent(self, path):
        with pytest.raises(ValueError, match="clear"):
            Clearing(True, (path,)).check(replace_metadata=True)

    @pytest.mark.parametrize("path", ["email", "metadata", "metadata.x", "tax_codes", "shipping_address.city"])
    def test_what_can_be_cleared_passes(self, path):
        Clearing(True, (path,)).check(replace_metadata=False)

    @pytest.mark.parametrize("fields", [{"metadata": None}, {}])
    def test_all_metadata_goes_for_a_null_or_where_clear_names_it(self, fields):
        held = {"metadata": [row("tier", "gold")]}
        customer = check(clear=() if fields else ["metadata"], **fields)
        assert to_send(customer, held, replace_metadata=False)["metadata"] == []
        assert "metadata" in changes(customer, held, replace_metadata=False)


class TestMetadata:
    @pytest.mark.parametrize(
        ("given", "text"),
        [
            (True, "true"),
            (5, "5"),
            (1.5, "1.5"),
            (Decimal("1.50"), "1.50"),
            (Decimal("1E+2"), "100"),
            (dt.date(2026, 11, 22), "2026-11-22"),
            ("x", "x"),
        ],
    )
    def test_plain_values_become_the_text_that_lago_keeps(self, given, text):
        assert read_metadata({"k": given}) == {"k": {"value": text}}

    @pytest.mark.parametrize(
        "given",
        [
            {"k" * 21: "v"},
            {"k": "v" * 101},
            {"k": ""},
            {"": "v"},
            {" ": "v"},
            {f"k{n}": "v" for n in range(6)},
            {"k": Decimal("1e9999999")},
            {"k": float("nan")},
            {"k": 10**5000},
            [{"key": "k", "value": "v"}, {"key": "k", "value": "w"}],
            [{"key": "k", "val": "v"}],
            [{"value": "v"}],
            ["k"],
            {"a": "1", "a ": "2"},
        ],
    )
    def test_what_is_beyond_lagos_limits_is_refused(self, given):
        with pytest.raises(InvalidRecord, match="metadata"):
            read_metadata(given)

    def test_the_limits_themselves_are_fine(self):
        assert len(read_metadata({f"{n}" + "k" * 19: "v" * 100 for n in range(5)})) == 5

    def test_keys_that_lago_holds_keep_their_ids_in_their_place(self):
        held = [row("a", "1"), row("b", "2", shown=True), row("c", "3")]
        sent = metadata_list(read_metadata({"new": "9", "b": "5", "c": None}), held, replace=False)
        assert sent == [
            {"id": "id-a", "key": "a", "value": "1", "display_in_invoice": False},
            {"id": "id-b", "key": "b", "value": "5", "display_in_invoice": True},
            {"key": "new", "value": "9"},
        ]

    def test_replacing_leaves_nothing_that_the_record_does_not_name(self):
        held = [row("a", "1"), row("b", "2")]
        assert metadata_list(read_metadata({"b": "2"}), held, replace=True) == [
            {"id": "id-b", "key": "b", "value": "2", "display_in_invoice": False}
        ]

    def test_keys_differ_by_their_case(self):
        sent = metadata_list(read_metadata({"tier": "x"}), [row("Tier", "y")], replace=False)
        assert [item["key"] for item in sent] == ["Tier", "tier"]

    def test_five_that_are_held_and_a_new_one_are_too_many_and_a_removal_makes_room(self):
        held = [row(f"k{n}", "v") for n in range(5)]
        with pytest.raises(InvalidRecord, match="these are 6"):
            metadata_list(read_metadata({"new": "v"}), held, replace=False)
        assert len(metadata_list(read_metadata({"new": "v", "k0": None}), held, replace=False)) == 5


class TestComparing:
    HELD = {
        "external_id": "acme",
        "name": None,
        "email": "",
        "currency": "EUR",
        "net_payment_term": 30,
        "timezone": None,
        "account_type": "customer",
        "billing_entity_code": "main",
        "finalize_zero_amount_invoice": "inherit",
        "skip_invoice_custom_sections": False,
        "taxes": [{"code": "vat"}],
        "applicable_invoice_custom_sections": [],
        "billing_configuration": {"payment_provider": None, "document_locale": "fr", "provider_customer_id": "cus"},
        "shipping_address": {"city": "Rome"},
        "metadata": [row("tier", "gold")],
        "integration_customers": [
            {
                "lago_id": "i1",
                "type": "xero",
                "integration_code": "x",
                "external_customer_id": "X1",
                "sync_with_provider": True,
            }
        ],
    }

    @pytest.mark.parametrize(
        "fields",
        [
            {"name": None, "email": None, "timezone": None},
            {"name": ""},
            {"currency": "EUR", "net_payment_term": "30"},
            {"account_type": None, "billing_entity_code": None},
            {"finalize_zero_amount_invoice": None, "skip_invoice_custom_sections": None},
            {"tax_codes": "vat"},
            {"billing_configuration": {"document_locale": "fr", "sync": True, "sync_with_provider": True}},
            {"shipping_address": {"city": "Rome", "state": None}},
            {"metadata": {"tier": "gold"}},
            {"metadata": {}},
            {"integration_customers": [{"integration_type": "xero", "integration_code": "x"}]},
        ],
    )
    def test_what_lago_holds_already_is_no_change(self, fields):
        assert changes(check(**fields), self.HELD, replace_metadata=False) == []

    @pytest.mark.parametrize(
        ("fields", "names"),
        [
            ({"name": "x"}, ["name"]),
            ({"currency": None}, ["currency"]),
            ({"email": "a@b.c"}, ["email"]),
            ({"tax_codes": []}, ["tax_codes"]),
            ({"shipping_address": {"city": None}}, ["shipping_address.city"]),
            ({"billing_configuration": {"invoice_grace_period": 0}}, ["billing_configuration.invoice_grace_period"]),
            ({"metadata": {"tier": "silver"}}, ["metadata"]),
            ({"metadata": {"tier": None}}, ["metadata"]),
            ({"integration_customers": []}, ["integration_customers"]),
        ],
    )
    def test_what_differs_is_named(self, fields, names):
        assert changes(check(**fields), self.HELD, replace_metadata=False) == names

    @pytest.mark.parametrize(
        "held",
        [{}, {"metadata": None, "taxes": 5, "shipping_address": []}, {"metadata": ["x"], "name": {}, "taxes": [None]}],
    )
    def test_an_odd_answer_of_lago_counts_as_different(self, held):
        fields = {"name": "x", "metadata": {"a": "1"}, "tax_codes": "vat", "shipping_address": {"city": "Rome"}}
        assert changes(check(**fields), {"external_id": "acme", **held}, replace_metadata=False) == [
            "name",
            "tax_codes",
            "shipping_address.city",
            "metadata",
        ]

    def test_a_link_to_another_system_keeps_its_id_as_lago_destroys_the_others(self):
        customer = check(
            integration_customers=[{"integration_type": "xero", "integration_code": "x", "external_customer_id": "X2"}]
        )
        (link,) = to_send(customer, self.HELD, replace_metadata=False)["integration_customers"]
        assert link["id"] == "i1"
        assert "id" not in to_send(customer, None, replace_metadata=False)["integration_customers"][0]


def test_sections_of_invoices_are_never_taken_for_unchanged():
    """Lago shows those that apply, which may be inherited, and in its lists none at all."""
    customer = check_customer({"external_id": "a", "invoice_custom_section_codes": ["A"]}, Clearing())
    held = {"external_id": "a", "applicable_invoice_custom_sections": [{"code": "A"}]}
    assert changes(customer, held, replace_metadata=False) == ["invoice_custom_section_codes"]


ONE = {"type": "netsuite", "integration_code": "n", "lago_id": "1"}
OTHER = {"type": "xero", "integration_code": "x", "lago_id": "2"}
SYNCED = {"provider_customer_id": "cus_1", "sync_with_provider": True}


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ({"integration_customers": [{}]}, {"integration_customers": [ONE]}),
        ({"integration_customers": [{"integration_type": "netsuite"}] * 2}, {"integration_customers": [ONE, OTHER]}),
        ({"integration_customers": []}, {}),
        ({"tax_codes": []}, {}),
        ({"email": None}, {}),
        ({"metadata": {"old": None}}, {}),
        ({"shipping_address": {"city": None}}, {}),
        ({"billing_configuration": {"sync_with_provider": False}}, {"billing_configuration": SYNCED}),
        (
            {"billing_configuration": {"sync_with_provider": True}},
            {"billing_configuration": {**SYNCED, "sync_with_provider": False}},
        ),
    ],
)
def test_what_differs_or_is_not_shown_never_counts_as_unchanged(given, held):
    customer = check_customer({"external_id": "a", **given}, Clearing())
    assert changes(customer, {"external_id": "a", **held}, replace_metadata=False)


def test_all_metadata_goes_with_a_null_although_one_key_is_to_be_cleared():
    assert check_customer({"external_id": "a", "metadata": None}, Clearing(fields=["metadata.old"])).clears_metadata


def test_a_key_of_metadata_that_is_to_be_cleared_may_have_dots():
    assert check_customer({"external_id": "a"}, Clearing(fields=["metadata.a.b"])).metadata == {"a.b": None}


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("account_type", ["customer", "partner"]),
        ("customer_type", ["company", "individual"]),
        ("finalize_zero_amount_invoice", ["inherit", "skip", "finalize"]),
    ],
)
def test_a_field_of_choices_keeps_each_of_them_and_no_other(field, choices):
    for choice in choices:
        assert check_customer({"external_id": "c", field: choice}, Clearing()).payload[field] == choice
    with pytest.raises(InvalidRecord, match=f"{field}: not a choice"):
        check_customer({"external_id": "c", field: "other"}, Clearing())


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("subscription_invoice_issuing_date_anchor", ["current_period_end", "next_period_start"]),
        ("subscription_invoice_issuing_date_adjustment", ["keep_anchor", "align_with_finalization_date"]),
        ("payment_provider", ["stripe", "gocardless", "cashfree", "adyen", "flutterwave", "moneyhash"]),
    ],
)
def test_so_does_one_of_the_billing_configuration(field, choices):
    for choice in choices:
        extra = {"payment_provider_code": "main"} if field == "payment_provider" else {}
        given = {"external_id": "c", "billing_configuration": {field: choice, **extra}}
        assert check_customer(given, Clearing()).payload["billing_configuration"][field] == choice


def test_nulls_are_left_out_where_they_say_nothing():
    assert without_nulls(
        {
            "name": None,
            "city": "",
            "tax_codes": [None, "a"],
            "email": ["x", {"value": None}],
            "shipping_address": {"city": None, "state": "CA"},
            "metadata": [{"key": "a", "value": None}, {"key": "b", "value": "1"}, "odd"],
        }
    ) == {
        "city": "",
        "tax_codes": [None, "a"],
        "email": ["x", {"value": None}],
        "shipping_address": {"state": "CA"},
        "metadata": [{"key": "b", "value": "1"}, "odd"],
    }
    assert without_nulls({"metadata": {"a": None, "b": "1"}}) == {"metadata": {"b": "1"}}


def test_sections_of_an_invoice_are_sent_each_time_as_lago_shows_inherited_ones_too():
    customer = check_customer({"external_id": "c", "invoice_custom_section_codes": ["a"]}, Clearing())
    held = {"external_id": "c", "applicable_invoice_custom_sections": [{"code": "a"}]}
    assert changes(customer, {**held, "invoice_custom_section_codes": ["a"]}, replace_metadata=False) == [
        "invoice_custom_section_codes"
    ]
