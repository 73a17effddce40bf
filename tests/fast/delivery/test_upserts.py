"""Customers into a sandbox that behaves like Lago, over real HTTP."""

import json

import pytest
from support.calls import methods, upsert
from support.deliveries import KEY
from support.lago import first_broken
from support.scripted import CUT, Reply, ScriptedServer, as_json, refused

from airflow_provider_lago.api.retry import RetryPolicy
from airflow_provider_lago.sandbox import Sandbox

MISSING = as_json(404, {"status": 404, "error": "Not Found", "code": "customer_not_found"})
ODD_IDS = ["a/b", "a b", "é/ü 漢", "100%", "a%2Fb", "a?b=c", "a#b", "a+b", "a&b", "a:b", "a\\b", "'\"", "😀", "7"]


@pytest.fixture
def sandbox():
    with Sandbox(api_keys=[KEY]) as server:
        yield server


def held(sandbox, external_id="acme"):
    return next(row for row in sandbox.customers() if row["external_id"] == external_id)


def metadata(sandbox, external_id="acme"):
    return {row["key"]: row["value"] for row in held(sandbox, external_id)["metadata"]}


class TestUpsert:
    def test_created_and_updated_are_told_apart(self, sandbox, tmp_path):
        sandbox.add_customer("old")
        run = upsert(sandbox, [{"external_id": "old", "name": "O"}, {"external_id": "new", "name": "N"}], tmp_path)
        assert run.kinds == {"created": 1, "updated": 1}
        assert run.outcome(1) == ("accepted", "updated")
        assert run.receipts[2]["lago_id"] == held(sandbox, "new")["lago_id"]

    @pytest.mark.parametrize("external_id", ODD_IDS)
    def test_any_id_without_a_dot_leads_to_its_own_customer(self, sandbox, tmp_path, external_id):
        for kind in ("created", "updated"):
            run = upsert(sandbox, [{"external_id": external_id, "name": kind}], tmp_path)
            assert run.kinds == {kind: 1}
        assert [row["external_id"] for row in sandbox.customers()] == [external_id]

    @pytest.mark.parametrize("external_id", ["john@acme.com", "..", ".", "a/../b", "a.b.c"])
    def test_a_dotted_id_is_looked_up_in_the_list_and_never_meets_another_customer(
        self, sandbox, tmp_path, external_id
    ):
        sandbox.add_customer("john@acme", name="somebody else")
        for kind in ("created", "updated"):
            assert upsert(sandbox, [{"external_id": external_id, "name": "x"}], tmp_path).kinds == {kind: 1}
        assert held(sandbox, "john@acme")["name"] == "somebody else"

    def test_a_release_that_does_not_filter_its_lists_rejects_dotted_ids_and_says_why(self, tmp_path):
        with Sandbox(api_keys=[KEY], release="1.48.0") as old:
            old.add_customer("other")
            run = upsert(old, [{"external_id": "john@acme.com"}, {"external_id": "plain"}], tmp_path)
            assert run.counts == (2, 1, 1, 0)
            assert "1.49.0" in run.rejected[0]["detail"]
            assert {row["external_id"] for row in old.customers()} == {"other", "plain"}

    def test_a_number_is_an_id(self, sandbox, tmp_path):
        upsert(sandbox, [{"external_id": 7, "name": "a"}, {"external_id": "7", "name": "b"}], tmp_path)
        assert [(row["external_id"], row["name"]) for row in sandbox.customers()] == [("7", "b")]

    def test_two_records_of_one_customer_are_applied_in_the_order_of_the_source(self, sandbox, tmp_path):
        records = [{"external_id": f"c{n % 3}", "name": str(n)} for n in range(60)]
        run = upsert(sandbox, records, tmp_path, concurrency=10)
        assert run.kinds == {"created": 3, "updated": 57}
        assert {row["external_id"]: row["name"] for row in sandbox.customers()} == {"c0": "57", "c1": "58", "c2": "59"}

    def test_the_order_holds_also_for_a_record_that_had_to_wait_for_the_server(self, tmp_path):
        seen, names = [], []

        def answer(request):
            if request.method == "GET":
                return as_json(404, {"status": 404, "error": "Not Found", "code": "customer_not_found"})
            name = json.loads(request.body)["customer"]["name"]
            seen.append(name)
            if name == "first" and seen.count("first") <= 5:
                return Reply(502)
            names.append(name)
            return as_json(200, {"customer": {"external_id": "a", "lago_id": "x"}})

        records = [{"external_id": "a", "name": "first"}, {"external_id": "a", "name": "second"}]
        others = [{"external_id": f"o{n}", "name": "o"} for n in range(5)]
        with ScriptedServer(answer) as server:
            run = upsert(server, [*records, *others], tmp_path)
        assert run.counts == (7, 7, 0, 0)
        assert names[-2:] == ["first", "second"]

    def test_a_null_clears_and_a_missing_field_stays(self, sandbox, tmp_path):
        sandbox.add_customer("acme", name="Acme", email="a@acme.com", city="Rome")
        upsert(sandbox, [{"external_id": "acme", "email": None}], tmp_path, clear=["city"])
        assert (held(sandbox)["name"], held(sandbox)["email"], held(sandbox)["city"]) == ("Acme", None, None)

    @pytest.mark.parametrize(
        "record",
        [
            {"external_id": "x", "net_payment_term": 10**5000},
            {"external_id": "x", "zipcode": 10**5000},
            {"external_id": "x", "name": "\ud800"},
            {"external_id": "\ud800"},
            {"external_id": "x", "metadata": {"k": "\ud800"}},
            {"external_id": "x", "tax_codes": [{"a": {1, 2}}]},
            {"external_id": "x", "name": b"x"},
            {1: 2},
            {},
            5,
        ],
    )
    def test_no_odd_record_ends_the_delivery_of_the_others(self, sandbox, tmp_path, record):
        run = upsert(sandbox, [record, {"external_id": "good"}], tmp_path)
        assert run.counts == (2, 1, 1, 0)

    def test_what_lago_refuses_is_reported_in_its_words(self, sandbox, tmp_path):
        run = upsert(sandbox, [{"external_id": "a", "currency": "XXZ", "email": "nope"}], tmp_path)
        assert run.counts == (1, 0, 1, 0)
        (reason,) = run.reasons
        assert "currency: value_is_invalid" in reason
        assert "email: invalid_email_format" in reason
        assert run.rejected[0]["code"] == "validation_errors"

    def test_a_feature_that_the_organization_lacks_rejects_the_record_and_not_the_delivery(self, tmp_path):
        def answer(request):
            if request.method == "GET":
                return as_json(404, {"status": 404, "error": "Not Found", "code": "customer_not_found"})
            given = json.loads(request.body)["customer"]
            if "account_type" in given:
                return as_json(403, {"status": 403, "error": "Forbidden", "code": "feature_unavailable"})
            return as_json(200, {"customer": given})

        with ScriptedServer(answer) as server:
            run = upsert(server, [{"external_id": "a", "account_type": "partner"}, {"external_id": "b"}], tmp_path)
        assert run.counts == (2, 1, 1, 0)
        assert run.reasons == {"feature_unavailable": 1}


class TestMetadata:
    def test_a_repost_of_the_same_metadata_works(self, sandbox, tmp_path):
        record = {"external_id": "acme", "metadata": {"tier": "gold", "seats": 5}}
        for _ in range(2):
            assert upsert(sandbox, [record], tmp_path).counts == (1, 1, 0, 0)
        assert metadata(sandbox) == {"tier": "gold", "seats": "5"}

    def test_merging_keeps_what_the_record_does_not_name_and_a_null_removes(self, sandbox, tmp_path):
        sandbox.add_customer("acme", metadata=[{"key": k, "value": v} for k, v in (("a", "1"), ("b", "2"), ("c", "3"))])
        upsert(sandbox, [{"external_id": "acme", "metadata": {"a": "9", "b": None, "d": "4"}}], tmp_path)
        assert metadata(sandbox) == {"a": "9", "c": "3", "d": "4"}

    def test_replacing_leaves_only_what_the_record_names(self, sandbox, tmp_path):
        sandbox.add_customer("acme", metadata=[{"key": "a", "value": "1"}, {"key": "b", "value": "2"}])
        upsert(sandbox, [{"external_id": "acme", "metadata": {"b": "5"}}], tmp_path, replace_metadata=True)
        assert metadata(sandbox) == {"b": "5"}

    def test_a_sixth_one_is_refused_before_it_is_sent(self, sandbox, tmp_path):
        sandbox.add_customer("acme", metadata=[{"key": f"k{n}", "value": "v"} for n in range(5)])
        run = upsert(sandbox, [{"external_id": "acme", "metadata": {"new": "v"}}], tmp_path, skip_unchanged=True)
        assert run.reasons == {"metadata: more than 5": 1}
        assert methods(sandbox)["POST"] == 0

    def test_a_key_that_another_one_added_meanwhile_is_looked_up_again(self, tmp_path):
        posts = []

        def answer(request):
            if request.method == "GET":
                rows = [{"lago_id": "m1", "key": "tier", "value": "x", "display_in_invoice": False}] if posts else []
                return as_json(200, {"customer": {"external_id": "acme", "lago_id": "l", "metadata": rows}})
            posts.append(json.loads(request.body)["customer"]["metadata"])
            if "id" not in posts[-1][0]:
                return refused({"key": ["value_already_exist"]})
            return as_json(200, {"customer": {"external_id": "acme", "lago_id": "l"}})

        with ScriptedServer(answer) as server:
            run = upsert(server, [{"external_id": "acme", "metadata": {"tier": "gold"}}], tmp_path)
        assert run.kinds == {"updated": 1}
        assert [item["id"] for item in posts[1]] == ["m1"]


class TestSkipping:
    RECORD = {
        "external_id": "acme",
        "name": "Acme",
        "email": None,
        "country": "it",
        "net_payment_term": "30",
        "metadata": {"tier": "gold"},
        "tax_codes": "vat",
        "billing_configuration": {"document_locale": "fr"},
        "shipping_address": {"city": "Rome"},
    }

    def test_an_unchanged_customer_is_not_sent_and_a_changed_one_is(self, sandbox, tmp_path):
        sandbox.add_tax("vat")
        assert upsert(sandbox, [self.RECORD], tmp_path, skip_unchanged=True).kinds == {"created": 1}
        before = held(sandbox)
        run = upsert(sandbox, [self.RECORD], tmp_path, skip_unchanged=True)
        assert run.counts == (1, 0, 0, 1)
        assert run.outcome() == ("skipped", "unchanged")
        assert held(sandbox) == before
        changed = {**self.RECORD, "shipping_address": {"city": "Bari"}}
        assert upsert(sandbox, [changed], tmp_path, skip_unchanged=True).kinds == {"updated": 1}

    def test_a_premium_field_without_a_licence_does_not_keep_customers_changing(self, sandbox, tmp_path, caplog):
        records = [{"external_id": f"c{n}", "timezone": "Europe/Rome"} for n in range(50)]
        run = upsert(sandbox, records, tmp_path, skip_unchanged=True, concurrency=2)
        assert run.kinds == {"created": 50}
        assert run.receipts[1]["not_taken"] == ["timezone"]
        assert "did not take over timezone" in caplog.text
        run = upsert(sandbox, records, tmp_path, skip_unchanged=True, concurrency=2)
        assert run.tally.skipped >= 48
        assert run.tally.accepted <= 2

    def test_with_a_licence_it_is_taken_and_then_unchanged(self, tmp_path):
        with Sandbox(api_keys=[KEY], premium=True) as sandbox:
            record = {
                "external_id": "a",
                "timezone": "Europe/Rome",
                "billing_configuration": {"invoice_grace_period": 3},
            }
            assert "not_taken" not in upsert(sandbox, [record], tmp_path, skip_unchanged=True).receipts[1]
            assert upsert(sandbox, [record], tmp_path, skip_unchanged=True).counts == (1, 0, 0, 1)

    def test_a_link_to_another_system_is_made_once(self, sandbox, tmp_path):
        sandbox.add_integration("xero", "x")
        link = {"integration_type": "xero", "integration_code": "x", "external_customer_id": "X1"}
        record = {"external_id": "acme", "integration_customers": [link]}
        upsert(sandbox, [record], tmp_path)
        before = held(sandbox)["integration_customers"]
        upsert(sandbox, [record], tmp_path)
        assert held(sandbox)["integration_customers"] == before
        assert upsert(sandbox, [record], tmp_path, skip_unchanged=True).counts == (1, 0, 0, 1)

    def test_one_500_rejects_no_customer_with_links(self, sandbox, tmp_path):
        sandbox.add_integration("netsuite", "ns")
        sandbox.fault("error", method="POST", path="/customers", times=1, status=500)
        link = {"integration_type": "netsuite", "integration_code": "ns", "sync_with_provider": True}
        run = upsert(sandbox, [{"external_id": "acme", "integration_customers": [link]}], tmp_path)
        assert run.kinds == {"created": 1}


class TestProviders:
    RECORD = {
        "external_id": "acme",
        "name": "Acme",
        "billing_configuration": {"payment_provider": "stripe", "provider_customer_id": "cus_1"},
    }

    @pytest.mark.parametrize(("there", "done"), [(False, "created"), (True, "updated")])
    def test_a_provider_that_is_not_there_is_refused_after_the_customer_was_saved(self, sandbox, tmp_path, there, done):
        if there:
            sandbox.add_customer("acme")
        run = upsert(sandbox, [self.RECORD], tmp_path)
        assert run.counts == (1, 0, 1, 0)
        assert run.rejected[0]["reason"].startswith("saved, but base: payment_provider_not_found")
        assert done in run.rejected[0]["detail"]
        assert run.receipts[1]["lago_id"] == held(sandbox)["lago_id"]
        assert held(sandbox)["name"] == "Acme"

    def test_a_refusal_before_anything_is_saved_does_not_say_saved(self, sandbox, tmp_path):
        sandbox.add_customer("acme", name="Acme")
        run = upsert(sandbox, [{**self.RECORD, "tax_codes": ["none"]}], tmp_path)
        assert run.reasons == {"tax_not_found": 1}

    @pytest.mark.parametrize("kind", ["provider_error", "third_party_error"])
    def test_a_providers_own_error_says_that_the_customer_is_saved(self, sandbox, tmp_path, kind):
        sandbox.add_payment_provider("stripe", "stripe")
        billing = {"payment_provider": "stripe", "payment_provider_code": "stripe", "sync_with_provider": True}
        sandbox.fault(kind, path="/customers")
        run = upsert(sandbox, [{"external_id": "acme", "billing_configuration": {**billing, "sync": True}}], tmp_path)
        assert run.counts == (1, 0, 1, 0)
        assert run.rejected[0]["reason"].startswith("saved, but")
        assert methods(sandbox)["POST"] == 1

    def test_a_provider_that_throttles_lago_is_waited_for(self, sandbox, tmp_path):
        sandbox.add_payment_provider("stripe", "stripe")
        billing = {
            "payment_provider": "stripe",
            "payment_provider_code": "stripe",
            "sync_with_provider": True,
            "sync": True,
        }
        sandbox.fault("too_many_provider_requests", path="/customers", times=2)
        run = upsert(sandbox, [{"external_id": "acme", "billing_configuration": billing}], tmp_path)
        assert run.kinds == {"created": 1}

    @pytest.mark.parametrize("sync", [True, False], ids=["calls the provider", "may be repeated"])
    def test_one_that_a_provider_throttles_for_good_is_rejected_and_holds_up_nobody(self, tmp_path, sync):
        """A 429 with Lago's own body is the provider's: the organization may send as much as before."""
        held = {}

        def answer(request):
            if request.method == "GET":
                name = request.path.rsplit("/", 1)[1]
                return as_json(200, {"customer": held[name]}) if name in held else MISSING
            customer = json.loads(request.body)["customer"]
            if customer["external_id"] == "c3":
                body = {"status": 429, "error": "Too Many Provider Requests", "code": "too_many_provider_requests"}
                return as_json(429, {**body, "error_details": {"provider_name": "Stripe", "message": "slow down"}})
            held[customer["external_id"]] = {**customer, "lago_id": "l", "created_at": "2026-01-01T00:00:00Z"}
            return as_json(200, {"customer": held[customer["external_id"]]})

        billing = {"billing_configuration": {"payment_provider": "stripe", "sync": True}} if sync else {}
        records = [{"external_id": f"c{n}", "name": "N", **billing} for n in range(20)]
        policy = RetryPolicy(attempts=4, base=0.01, cap=0.05)
        with ScriptedServer(answer) as server:
            run = upsert(server, records, tmp_path, policy=policy)
        assert run.halt is None
        assert run.counts == (20, 19, 1, 0)
        assert run.rejected[0]["code"] == "too_many_provider_requests"
        assert "a payment provider throttles Lago" in run.rejected[0]["detail"]
        assert sum(request.method == "POST" for request in server.requests) <= 19 + 4 * 4

    def test_a_post_that_calls_a_provider_is_not_repeated_unseen(self, sandbox, tmp_path):
        sandbox.add_payment_provider("stripe", "stripe")
        billing = {
            "payment_provider": "stripe",
            "payment_provider_code": "stripe",
            "sync_with_provider": True,
            "sync": True,
        }
        sandbox.fault("lost_response", method="POST", path="/customers", times=1)
        run = upsert(sandbox, [{"external_id": "acme", "billing_configuration": billing}], tmp_path)
        assert run.kinds == {"created": 1}
        assert [request.method for request in sandbox.requests] == ["GET", "POST", "GET"]


class TestLostAnswers:
    def test_a_create_whose_answer_was_lost_counts_as_created(self, sandbox, tmp_path):
        sandbox.fault("lost_response", method="POST", first_of_each_body=True)
        run = upsert(sandbox, [{"external_id": f"c{n}", "metadata": {"a": "1"}} for n in range(20)], tmp_path)
        assert run.kinds == {"created": 20}
        assert [metadata(sandbox, f"c{n}") for n in range(20)] == [{"a": "1"}] * 20

    @pytest.mark.parametrize("kind", ["empty", "cut_body", "broken_json", "error_after_commit", "lost_response"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_first_answer_that_says_nothing_changes_no_outcome(self, sandbox, tmp_path, kind, method):
        sandbox.add_customer("c0")
        sandbox.fault(kind, method=method, every=2)
        run = upsert(sandbox, [{"external_id": f"c{n}", "name": "x"} for n in range(5)], tmp_path, concurrency=1)
        assert run.kinds == {"created": 4, "updated": 1}

    def test_a_job_that_was_begun_anew_still_knows_that_it_created(self, tmp_path):
        there, posts = set(), []

        def answer(request):
            if request.method == "GET":
                name = request.path.rsplit("/", 1)[1]
                found = {"customer": {"external_id": name, "lago_id": "l"}}
                return (
                    as_json(200, found)
                    if name in there
                    else as_json(404, {"status": 404, "code": "customer_not_found"})
                )
            given = json.loads(request.body)["customer"]
            there.add(given["external_id"])
            posts.append(given["external_id"])
            if given["external_id"] == "c0" and posts.count("c0") <= 5:
                return CUT
            return as_json(200, {"customer": {**given, "lago_id": "l"}})

        with ScriptedServer(answer) as server:
            run = upsert(server, [{"external_id": f"c{n}"} for n in range(10)], tmp_path)
        assert run.kinds == {"created": 10}
        assert posts.count("c0") == 6

    def test_a_race_for_creation_is_posted_again_and_counts_as_an_update(self, tmp_path):
        posts = []

        def answer(request):
            if request.method == "GET":
                if not posts:
                    return as_json(404, {"status": 404, "code": "customer_not_found"})
                return as_json(200, {"customer": {"external_id": "a", "lago_id": "l"}})
            posts.append(1)
            if len(posts) == 1:
                return refused({"external_id": ["value_already_exist"]})
            return as_json(200, {"customer": {"external_id": "a", "lago_id": "l"}})

        with ScriptedServer(answer) as server:
            run = upsert(server, [{"external_id": "a"}], tmp_path)
        assert run.kinds == {"updated": 1}
        assert len(posts) == 2

    def test_a_race_that_never_ends_rejects_the_record(self, tmp_path):
        def answer(request):
            if request.method == "GET":
                return as_json(404, {"status": 404, "code": "customer_not_found"})
            return refused({"external_id": ["value_already_exist"]})

        with ScriptedServer(answer) as server:
            run = upsert(server, [{"external_id": "a"}], tmp_path)
        assert run.counts == (1, 0, 1, 0)
        assert len(server.requests) == 6

    @pytest.mark.parametrize("body", [{"customer": {"external_id": "other"}}, {"customer": {"external_id": "A"}}])
    def test_an_answer_about_another_customer_sends_nothing(self, tmp_path, body):
        with ScriptedServer(lambda request: as_json(200, body)) as server:
            run = upsert(server, [{"external_id": "a"}], tmp_path)
        assert run.reasons == {"external_id: Lago answers another one": 1}
        assert len(server.requests) == 1

    def test_every_first_answer_broken_ends_with_the_same_counts(self, sandbox, tmp_path):
        records = [{"external_id": f"c{n}", "name": str(n)} for n in range(30)]
        upsert(sandbox, records[:10], tmp_path)
        plain = {row["external_id"] for row in sandbox.customers()}
        sandbox.fault("lost_response", first_of_each_body=True)
        run = upsert(sandbox, records, tmp_path)
        assert run.kinds == {"created": 20, "updated": 10}
        assert plain < {row["external_id"] for row in sandbox.customers()} == {f"c{n}" for n in range(30)}


def test_lagos_lock_slows_the_whole_delivery_down_and_costs_nothing(tmp_path):
    locked = iter(range(10))

    def answer(request):
        if request.method == "GET":
            return as_json(404, {"status": 404, "code": "customer_not_found"})
        if next(locked, None) is not None:
            return as_json(422, {"status": 422, "error": "Unprocessable Entity", "code": "lock_acquisition_failed"})
        return as_json(200, {"customer": {"external_id": "a"}})

    with ScriptedServer(first_broken(answer, Reply(500))) as server:
        run = upsert(server, [{"external_id": f"c{n}"} for n in range(30)], tmp_path)
    assert run.counts == (30, 30, 0, 0)


class TestWhatWasNeverTaken:
    def test_a_change_that_was_never_taken_is_not_taken_for_one_that_lago_drops(self, tmp_path):
        """Else the record counted as updated, and others that differ were left out as unchanged."""
        with Sandbox(api_keys=[KEY], premium=True) as premium:
            names = [f"c{n:02}" for n in range(40)]
            for name in names:
                premium.add_customer(name, timezone="Europe/Berlin")
            premium.fault("error", method="POST", path="/customers", contains="c05", status=500)
            moved = [{"external_id": name, "timezone": "Europe/Paris"} for name in names]
            run = upsert(premium, moved, tmp_path, skip_unchanged=True, concurrency=2)
            held = {customer["external_id"]: customer["timezone"] for customer in premium.customers()}
        assert run.outcome(6)[0] == "rejected"
        assert run.counts == (40, 39, 1, 0)
        assert [name for name in names if held[name] != "Europe/Paris"] == ["c05"]

    def test_a_link_to_another_system_is_not_made_twice_over_a_lost_answer(self, sandbox, tmp_path):
        sandbox.add_integration("netsuite", "ns")
        link = {"integration_type": "netsuite", "integration_code": "ns", "sync_with_provider": True}
        sandbox.fault("lost_response", method="POST", path="/customers", times=1)
        run = upsert(sandbox, [{"external_id": "acme", "integration_customers": [link]}], tmp_path)
        assert run.kinds == {"created": 1}
        assert [request.method for request in sandbox.requests] == ["GET", "POST", "GET"]
