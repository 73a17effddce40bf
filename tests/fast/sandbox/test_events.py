"""What Lago takes for an event, what it refuses, and what it calls a duplicate."""

from __future__ import annotations

import json

import pytest

EXISTS = {"transaction_id": ["value_already_exist"]}
BAD_TIME = {"timestamp": ["invalid_format"]}


def event(transaction_id, **fields):
    given = {"code": "calls", "external_subscription_id": "s1", "timestamp": 1700000000}
    return {"transaction_id": transaction_id, **given, **fields}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (1700000000, "2023-11-14T22:13:20.000Z"),
        (1700000000.1239, "2023-11-14T22:13:20.123Z"),
        ("1700000000.123", "2023-11-14T22:13:20.123Z"),
        (" 1700000000 ", "2023-11-14T22:13:20.000Z"),
        ("1.7e9", "2023-11-14T22:13:20.000Z"),
        ("1_700_000_000", "2023-11-14T22:13:20.000Z"),
        (-5.5, "1969-12-31T23:59:54.500Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (-62135596801, "0000-12-31T23:59:59.000Z"),
        (253402300800, "10000-01-01T00:00:00.000Z"),
        (1795360629012, "58862-09-17T21:50:12.000Z"),
    ],
)
def test_timestamps_are_decimal_seconds_even_when_they_were_meant_as_milliseconds(lago, given, shown):
    assert lago.event(timestamp=given).json["event"]["timestamp"] == shown
    assert lago.batch(event("b", timestamp=given)).json["events"][0]["timestamp"] == shown


@pytest.mark.parametrize("given", ["2024-12-10T17:36:46Z", "2024-12-10", "", "abc", True, "0x10", "1__0", "."])
def test_other_timestamps_are_refused(lago, given):
    answer = lago.event(timestamp=given)
    assert (answer.status, answer.details) == (422, BAD_TIME)
    answer = lago.batch(event("a"), event("b", timestamp=given))
    assert (answer.status, answer.details) == (422, {"1": BAD_TIME})
    assert lago.sandbox.count() == 0


@pytest.mark.parametrize("given", ["NaN", "Infinity", "-Infinity", 1e30, -1e30, "1e3000", 1700000000123456])
def test_numbers_beyond_postgres_crash_lago_and_store_nothing(lago, given):
    assert lago.event(timestamp=given).status == 500
    assert lago.batch(event("a"), event("b", timestamp=given)).status == 500
    assert lago.sandbox.count() == 0


@pytest.mark.parametrize("given", [None, False, [1], {"a": 1}])
def test_a_missing_timestamp_is_now(lago, monkeypatch, given):
    monkeypatch.setattr(lago.sandbox.app.world, "clock", lambda: 1795360000.5)
    assert lago.event(timestamp=given).json["event"]["timestamp"] == "2026-11-22T15:06:40.500Z"


@pytest.mark.parametrize(
    ("given", "shown"),
    [("0.25", "0.25"), (12, "12.0"), ("1e2", "100.0"), ("abc", "0.0"), ("12abc", "12.0"), ("", None), (None, None)],
)
def test_precise_amounts_are_decimals_and_nonsense_is_zero(lago, given, shown):
    assert lago.event(precise_total_amount_cents=given).json["event"]["precise_total_amount_cents"] == shown
    batch = lago.batch(event("b", precise_total_amount_cents=given))
    assert batch.json["events"][0]["precise_total_amount_cents"] == shown


def test_properties_keep_their_types_but_arrays_lose_their_nulls(lago):
    given = {"i": 1, "big": 10**30, "n": None, "t": "x", "a": [1, None, [None]], "o": {"b": [None, True]}}
    kept = {"i": 1, "big": 10**30, "n": None, "t": "x", "a": [1, []], "o": {"b": [True]}}
    assert lago.event(properties=given).json["event"]["properties"] == kept
    assert lago.batch(event("b", properties=given)).json["events"][0]["properties"] == kept
    assert [stored["properties"] for stored in lago.sandbox.events()] == [kept, kept]


@pytest.mark.parametrize("given", ["x", 1, [1], None])
def test_properties_that_are_no_object_are_dropped(lago, given):
    assert lago.batch(event("b", properties=given)).json["events"][0]["properties"] == {}


def test_a_whole_event_reads_back_as_it_was_answered(lago):
    created = lago.event(properties={"region": "eu"}, precise_total_amount_cents="1.5").json["event"]
    assert created["lago_customer_id"] is created["lago_subscription_id"] is None
    assert lago.get("/events/t1").json["event"] == created
    assert list(created) == [
        "lago_id",
        "transaction_id",
        "lago_customer_id",
        "code",
        "timestamp",
        "precise_total_amount_cents",
        "properties",
        "lago_subscription_id",
        "external_subscription_id",
        "created_at",
    ]


def test_quick_and_careful_reading_of_a_batch_agree(lago):
    items = [
        event(f"t{n}", timestamp=stamp, properties={"v": n, "s": "ü"}, precise_total_amount_cents=amount)
        for n, (stamp, amount) in enumerate([(1700000000, "1.10"), (1700000000.5, None), ("1700000001.25", "7")])
    ]
    quick = lago.batch(*items).json["events"]
    lago.sandbox.reset()
    # A field of a type that the quick path does not know sends the whole batch down the careful one.
    careful = lago.batch(*items, event("t9", external_subscription_id=7)).json["events"][:-1]

    def comparable(found):
        return [{k: v for k, v in one.items() if k not in ("lago_id", "created_at")} for one in found]

    assert comparable(quick) == comparable(careful)


def test_a_batch_is_stored_whole_or_not_at_all(lago):
    lago.batch(event("a"))
    answer = lago.batch(event("b"), event("a"), event("c"), event("b"))
    assert (answer.status, answer.details) == (422, {"1": EXISTS, "3": EXISTS})
    assert [stored["transaction_id"] for stored in lago.sandbox.events()] == ["a"]
    assert lago.batch(event("b"), event("c")).status == 200
    assert lago.sandbox.state()["duplicates_refused"] == 2


def test_invalid_items_hide_duplicates_until_they_are_gone(lago):
    lago.batch(event("a"))
    answer = lago.batch(event("a"), {"code": "calls"}, {})
    mandatory = ["value_is_mandatory"]
    assert answer.details == {
        "1": {"transaction_id": mandatory},
        "2": {"transaction_id": mandatory, "code": mandatory},
    }


def test_a_replayed_batch_is_all_duplicates_whatever_the_payload(lago):
    lago.batch(*(event(f"t{n}") for n in range(100)))
    answer = lago.batch(*(event(f"t{n}", timestamp=1) for n in range(100)))
    assert answer.details == {str(n): EXISTS for n in range(100)}


def test_one_id_for_two_subscriptions_passes_in_two_requests_but_not_in_one(lago):
    assert lago.batch(event("a"), event("a", external_subscription_id="s2")).details == {"1": EXISTS}
    assert lago.batch(event("a")).status == 200
    assert lago.batch(event("a", external_subscription_id="s2")).status == 200


def test_an_event_without_subscription_is_never_a_duplicate(lago):
    for _ in range(2):
        assert lago.event(external_subscription_id=None).status == 200
        assert lago.batch(event("b", external_subscription_id=None)).status == 200
    assert lago.sandbox.count() == 4


def test_batches_have_a_length(lago):
    items = [event(f"t{n}") for n in range(101)]
    assert lago.batch(*items).details == {"events": ["too_many_events"]}
    assert lago.batch(*items[:100]).status == 200


@pytest.mark.parametrize("body", [{"events": []}, {}, {"events": "x"}, {"events": {"a": 1}}, {"events": ["x"]}])
def test_a_batch_without_events_is_refused(lago, body):
    assert lago.post("/events/batch", body).details == {"events": ["no_events"]}


def test_items_that_are_no_objects_shift_the_indexes_of_those_behind_them(lago):
    assert lago.batch(None, "x", event("a"), event("b", timestamp="bad")).details == {"1": BAD_TIME}


def test_a_nul_is_refused_in_lagos_own_misleading_ways(lago):
    assert lago.event(transaction_id="a\0b").details == BAD_TIME
    assert lago.batch(event("a\0b")).status == 500
    assert lago.batch(event("a", properties={"x": ["\0"]})).status == 500
    assert lago.batch(event("a", properties={"x": "\\u0000"})).status == 200
    assert lago.sandbox.count() == 1


def test_malformed_json_is_answered_in_the_format_the_client_accepts(lago):
    for path in ("/events", "/events/batch"):
        plain = lago.post(path, b"{x")
        assert (plain.status, plain.text) == (400, b"")
        assert lago.post(path, b"{x", Accept="application/json").json == {"status": 400, "error": "Bad Request"}
    deep = b'{"event":{"properties":' + b'{"a":' * 120 + b"1" + b"}" * 122
    assert lago.post("/events", deep).status == 400


def test_only_json_and_forms_are_parsed(lago):
    body = json.dumps({"events": [event("a")]}).encode()
    assert lago.post("/events/batch", body, Content_Type="text/plain").details == {"events": ["no_events"]}
    assert lago.post("/events/batch", body, Content_Type="application/json; charset=utf-8").status == 200


def test_expressions_fill_a_property_or_refuse_the_event(lago):
    lago.sandbox.add_metric("gb", "sum_agg", field_name="value", expression="ceil(event.properties.mb / 1024)")
    done = lago.batch(event("a", code="gb", properties={"mb": "1025"})).json["events"][0]
    assert done["properties"] == {"mb": "1025", "value": "2.0"}
    answer = lago.batch(event("b"), event("c", code="gb"))
    assert answer.details == {"1": "expression_evaluation_failed: Variable: mb not found"}
    single = lago.event(code="gb")
    assert single.details == "expression_evaluation_failed: Variable: mb not found"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7.0"),
        ("-(1 - 2.5) / 3", "0.5"),
        ("round(2.345, 2)", "2.35"),
        ("floor(event.properties.v)", "3.0"),
        ("concat('a-', event.code, '-', event.properties.v)", "a-calls-3.7"),
    ],
)
def test_expressions_are_computed(lago, expression, value):
    body = {"expression": expression, "event": {"code": "calls", "properties": {"v": "3.7"}}}
    answer = lago.post("/billable_metrics/evaluate_expression", body)
    assert answer.json == {"expression_result": {"value": value}}


@pytest.mark.parametrize("expression", ["1 +", "nope(1)", "(1", "1 2", "a.b", "1 ; 2"])
def test_what_is_no_expression_is_refused(lago, expression):
    answer = lago.post("/billable_metrics/evaluate_expression", {"expression": expression, "event": {}})
    assert answer.details == {"expression": ["invalid_expression"]}


def test_clickhouse_takes_every_event_and_tells_no_ids(clickhouse):
    first = clickhouse.batch(event("a"), event("a")).json["events"]
    assert first[0]["lago_id"] is first[0]["created_at"] is None
    assert clickhouse.event(transaction_id="a").status == 200
    assert clickhouse.sandbox.count() == 3
    assert clickhouse.get("/organizations").json["organization"]["events_store"] == "clickhouse"


def test_clickhouse_shows_properties_as_texts(clickhouse):
    clickhouse.event(properties={"n": 1, "s": "x", "o": {"a": 1}})
    assert clickhouse.get("/events/t1").json["event"]["properties"] == {"n": "1", "s": "x", "o": '{"a":1}'}


def test_events_are_listed_newest_first_and_filtered(lago):
    lago.batch(*(event(f"t{n}", timestamp=1700000000 + n, code="ab"[n % 2]) for n in range(6)))
    listed = lago.get("/events?code=b&timestamp_from=2023-11-14T22:13:22Z&timestamp_to=2023-11-15").json
    assert [one["transaction_id"] for one in listed["events"]] == ["t5", "t3"]
    page = lago.get("/events?per_page=4&page=2").json
    assert [one["transaction_id"] for one in page["events"]] == ["t1", "t0"]
    assert page["meta"] == {
        "current_page": 2,
        "next_page": None,
        "prev_page": 1,
        "total_pages": 2,
        "total_count": 6,
    }
    assert lago.get("/events?timestamp_from=xx").details == {"timestamp_from": ["invalid_date"]}
    assert lago.get("/events?per_page=0").status == 500


def test_an_event_is_found_by_any_id(lago):
    lago.event(transaction_id="1Az()[]?#._/|-/../")
    assert lago.get("/events/1Az()%5B%5D%3F%23._%2F%7C-%2F..%2F").status == 200
    assert lago.get("/events/none.such.one").json["code"] == "event_not_found"
