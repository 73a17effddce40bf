from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.delivery.events.identity import identity
from airflow_provider_lago.delivery.events.shaping import EventShaper, EventShaping, needed_columns

EVENT = {"transaction_id": "t", "external_subscription_id": "s", "code": "c", "timestamp": 1_700_000_000}
ROW = {"id": "t", "account": {"sub": "s"}, "at": 1_700_000_000, "bytes": 5, "region": None, "noise": 1}


def shape(record, **settings):
    shaper = EventShaper(EventShaping(**settings))
    if "transform" in settings:
        record = shaper.transformed(record)
    return None if record is None and "transform" in settings else shaper.event(record)


def test_a_record_that_is_an_event_stays_as_it_is():
    assert shape(EVENT) == EVENT


def test_columns_are_mapped_also_out_of_nested_objects():
    event = shape(
        ROW,
        fields={"transaction_id": "id", "external_subscription_id": "account.sub", "timestamp": "at"},
        constants={"code": "traffic", "properties.source": "edge"},
        properties=["bytes"],
    )
    assert event == {**EVENT, "code": "traffic", "properties": {"bytes": 5, "source": "edge"}}


def test_with_a_mapping_the_columns_that_nobody_names_stay_behind():
    assert "noise" not in shape({**EVENT, "noise": 1, "n": 2}, properties=["n"])


def test_without_a_mapping_nothing_is_left_behind_in_silence():
    assert shape({**EVENT, "noise": 1})["noise"] == 1


def test_a_column_whose_own_name_has_dots_is_found():
    assert shape({**EVENT, "a.b": 3}, properties={"x": "a.b"})["properties"] == {"x": 3}


def test_properties_can_be_renamed_and_join_those_of_the_record():
    record = {**EVENT, "properties": {"old": 1}, "n": 2}
    assert shape(record, properties={"new": "n"})["properties"] == {"old": 1, "new": 2}
    assert record["properties"] == {"old": 1}


def test_a_property_that_fields_name_may_not_be_missing_either():
    with pytest.raises(InvalidRecord, match="an empty 'n'"):
        shape({**EVENT, "n": None}, fields={"properties.n": "n"})
    assert "properties" not in shape({**EVENT, "n": None}, fields={"properties.n": "n?"})


def test_properties_that_fields_and_constants_nest_join_those_of_the_record():
    record = {**EVENT, "properties": {"old": 1}, "m": 2}
    settings = {"fields": {"properties.n": "m"}, "constants": {"properties.x": 3}}
    assert shape(record, **settings)["properties"] == {"old": 1, "n": 2, "x": 3}


def test_edits_come_last_and_may_nest():
    edits = {"code": "edited", "properties.n": 9}
    event = shape({**EVENT, "n": 2}, constants={"code": "constant"}, properties=["n"], edits=edits)
    assert event == {**EVENT, "code": "edited", "properties": {"n": 9}}


@pytest.mark.parametrize(
    "settings",
    [
        {"fields": {"code": "kind"}},
        {"constants": {"code": "c"}},
        {"properties": ["n"]},
        {"exclude": ["n"]},
        {"transform": dict},
        {"edits": {"code": "c"}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_lines_are_sent_as_they_stand_only_where_nothing_is_to_be_changed(settings):
    assert EventShaping().is_plain
    assert not EventShaping(**settings).is_plain


def test_fields_may_nest_into_properties():
    assert shape({**EVENT, "n": 2}, fields={"properties.deep.n": "n"})["properties"] == {"deep": {"n": 2}}


@pytest.mark.parametrize(("record", "found"), [({}, "no 'bytes'"), ({"bytes": None}, "an empty 'bytes'")])
def test_a_property_that_is_missing_rejects_the_record_because_lago_would_not_bill_it(record, found):
    with pytest.raises(InvalidRecord, match=found) as caught:
        shape({**EVENT, **record}, properties=["bytes"])
    assert caught.value.reason == "property missing: bytes"


def test_a_question_mark_lets_a_property_be_missing():
    assert "properties" not in shape({**EVENT, "region": None}, properties=["region?"])
    assert shape({**EVENT, "region": "eu"}, properties=["region?"])["properties"] == {"region": "eu"}


def test_a_mapped_column_that_is_missing_rejects_the_record():
    with pytest.raises(InvalidRecord, match="the record has no 'kode', which fields maps to 'code'"):
        shape(EVENT, fields={"code": "kode"})


def test_excluded_attributes_are_left_out_and_the_record_stays_whole():
    record = {**EVENT, "noise": 1, "properties": {"a": 1, "b": {"c": 2, "d": 3}}}
    assert shape(record, exclude=["noise", "properties.b.c", "nothing"])["properties"] == {"a": 1, "b": {"d": 3}}
    assert record["properties"]["b"] == {"c": 2, "d": 3}


def test_the_transform_comes_first_and_cannot_change_the_source():
    def rename(record):
        record["code"] = record.pop("kind")
        return record

    record = {**EVENT, "kind": "k"}
    assert shape(record, transform=rename)["code"] == "k"
    assert record["kind"] == "k"


def test_a_transform_skips_with_none():
    assert shape(EVENT, transform=lambda record: None) is None


@pytest.mark.parametrize(
    ("transform", "reason", "says"),
    [
        (lambda record: record["nope"], "transform failed", "KeyError: 'nope'"),
        (lambda record: [record], "transform: not a record", "returned a list"),
    ],
)
def test_a_transform_that_fails_rejects_its_record_only(transform, reason, says):
    with pytest.raises(InvalidRecord, match=says) as caught:
        shape(EVENT, transform=transform)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("record", "kind"), [([1], "list"), ("x", "str"), (None, "null"), (5, "int")])
def test_what_is_no_object_is_refused(record, kind):
    with pytest.raises(InvalidRecord, match=kind):
        shape(record)


def test_nesting_into_something_that_is_no_object_is_refused():
    with pytest.raises(InvalidRecord, match="nothing can be nested"):
        shape({**EVENT, "properties": "x", "n": 1}, properties=["n"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fields": {"cod": "x"}}, "fields names 'cod', which an event does not have"),
        ({"constants": {"code.x": 1}}, "constants names 'code.x'"),
        ({"fields": {"code": "x"}, "constants": {"code": "y"}}, "'code' is given twice"),
        ({"transaction_id": "id"}, r"did you mean \['id'\]"),
        ({"transaction_id": []}, "list of column names"),
        ({"properties": "seconds"}, r"write \['seconds'\]"),
        ({"exclude": "secret"}, r"write \['secret'\]"),
        ({"properties": [None]}, "name columns by text"),
        ({"properties": {"a", "b"}}, "not a set"),
        ({"fields": {"code": None}}, "name columns by text"),
        ({"fields": ["code"]}, "fields must be a dict"),
        ({"transform": "module.function"}, "must be a function"),
        ({"properties": ["a"], "constants": {"properties": {"b": 1}}}, "would replace 'properties.a'"),
        ({"fields": {"properties.a": "x"}, "constants": {"properties.a": 1}}, "given twice"),
        ({"transaction_id": 5}, "list of column names"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_the_first_record(settings, says):
    with pytest.raises(ValueError, match=says):
        EventShaper(EventShaping(**settings))


class TestIdentity:
    NO_ID = {name: value for name, value in EVENT.items() if name != "transaction_id"}

    def id_of(self, record, strategy, **settings):
        return shape(record, transaction_id=strategy, **settings)["transaction_id"]

    def test_an_id_of_the_record_is_kept(self):
        assert self.id_of(EVENT, "hash") == "t"

    def test_without_a_strategy_a_record_needs_its_own_id(self):
        for record in (self.NO_ID, {**self.NO_ID, "transaction_id": None}, {**self.NO_ID, "transaction_id": ""}):
            with pytest.raises(InvalidRecord, match="say how to derive it"):
                shape(record)

    def test_columns_make_a_readable_id_and_are_not_left_over(self):
        record = {**self.NO_ID, "flight": "UA1545", "day": 3}
        assert self.id_of(record, ["flight", "day"]) == "UA1545:3"
        assert "flight" not in shape(record, transaction_id=["flight", "day"])

    def test_text_and_number_of_the_same_value_give_the_same_id(self):
        first = self.id_of({**self.NO_ID, "n": 3, "x": Decimal("1.10")}, ["n", "x"])
        assert first == self.id_of({**self.NO_ID, "n": "3", "x": "1.1"}, ["n", "x"])
        assert first == self.id_of({**self.NO_ID, "n": 3.0, "x": 1.1}, ["n", "x"])

    def test_values_with_the_separator_do_not_collide(self):
        one = self.id_of({**self.NO_ID, "a": "x:y", "b": "z"}, ["a", "b"])
        other = self.id_of({**self.NO_ID, "a": "x", "b": "y:z"}, ["a", "b"])
        assert one != other

    @pytest.mark.parametrize("value", [None, "", {"x": 1}, float("nan"), Decimal("NaN"), object(), frozenset("ab")])
    def test_a_column_that_identifies_nothing_rejects_the_record(self, value):
        with pytest.raises(InvalidRecord, match="'a'"):
            self.id_of({**self.NO_ID, "a": value}, ["a"])

    def test_a_hash_depends_on_content_alone(self):
        one = self.id_of({**self.NO_ID, "properties": {"a": 1, "b": 2}}, "hash")
        same = self.id_of({"properties": {"b": 2, "a": 1}, **self.NO_ID}, "hash")
        other = self.id_of({**self.NO_ID, "properties": {"a": 1, "b": 3}}, "hash")
        assert one == same != other
        assert len(one) == 40

    def test_a_hash_is_the_same_for_every_form_of_the_time(self):
        forms = [1_700_000_000, "1700000000", "2023-11-14T22:13:20Z", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)]
        assert len({self.id_of({**self.NO_ID, "timestamp": form}, "hash") for form in forms}) == 1

    def test_a_hash_is_the_same_for_a_number_of_a_file_and_of_a_task(self):
        one = self.id_of({**self.NO_ID, "properties": {"x": [Decimal("7.10"), Decimal("1E+2")]}}, "hash")
        assert one == self.id_of({**self.NO_ID, "properties": {"x": [7.1, 100]}}, "hash")

    @pytest.mark.parametrize(
        ("one", "other"), [(f"1.{'0' * 40}10", f"1.{'0' * 40}20"), ("1E-2000000", "2E-2000000"), ("0.10", "0.11")]
    )
    @pytest.mark.parametrize("strategy", ["hash", ["x"]])
    def test_numbers_that_differ_in_their_last_digit_make_different_ids(self, strategy, one, other):
        first, second = (
            self.id_of({**self.NO_ID, "x": Decimal(text)}, strategy, properties=["x"]) for text in (one, other)
        )
        assert first != second

    def test_a_hash_is_the_same_whether_or_not_a_number_is_written_in_its_shortest_form(self):
        texts = ["12.50", "12.5", "1.25E+1", "12.500000000000000000000000000000"]
        assert len({self.id_of({**self.NO_ID, "properties": {"x": Decimal(text)}}, "hash") for text in texts}) == 1

    def test_a_hash_tells_times_of_different_zones_apart(self):
        paris = {"zone": ZoneInfo("Europe/Paris")}
        local = self.id_of({**self.NO_ID, "timestamp": "2024-06-01T12:00:00"}, "hash", **paris)
        assert local != self.id_of({**self.NO_ID, "timestamp": "2024-06-01T12:00:00Z"}, "hash", **paris)
        assert local == self.id_of({**self.NO_ID, "timestamp": "2024-06-01T10:00:00Z"}, "hash", **paris)

    def test_a_hash_does_not_change_from_release_to_release(self):
        record = {**self.NO_ID, "properties": {"n": Decimal("1.10")}}
        assert self.id_of(record, "hash") == "8675b6386ab6548ba592bc5b7d44cac426a80a00"

    def test_a_callable_gets_the_record(self):
        record = {**self.NO_ID, "row": 9}
        assert self.id_of(record, lambda r: f"row-{r['row']}", properties=["row"]) == "row-9"

    def test_a_callable_that_fails_rejects_its_record_only(self):
        with pytest.raises(InvalidRecord, match="KeyError"):
            self.id_of(self.NO_ID, lambda r: r["row"])

    def test_random_ids_come_only_when_asked_for_by_name(self):
        assert self.id_of(self.NO_ID, "random") != self.id_of(self.NO_ID, "random")

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("a b", "a b"),
            ("50%:x", "50%25%3Ax"),
            ("50%", "50%25"),
            (3, "3"),
            (3.0, "3"),
            (3.25, "3.25"),
            (-0.5, "-0.5"),
            (Decimal("7.100"), "7.1"),
            (Decimal("1E+3"), "1000"),
            (Decimal("1E+99"), "1" + "0" * 99),
            (Decimal("1E+100"), "1E+100"),
            (True, "True"),
            (2**998, str(2**998)),
            (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (date(2026, 1, 2), "2026-01-02"),
            (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03%3A00%3A00Z"),
        ],
    )
    def test_the_id_made_of_a_column_never_changes(self, value, text):
        assert self.id_of({**self.NO_ID, "a": value}, ["a"]) == text
        assert self.id_of({**self.NO_ID, "a": value, "b": "z"}, ["a", "b"]) == f"{text}:z"

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (None, "transaction_id: column missing"),
            ("", "transaction_id: column missing"),
            (float("inf"), "transaction_id: column not plain"),
            (Decimal("-Infinity"), "transaction_id: column not plain"),
            (["x"], "transaction_id: column not plain"),
            (2**999, "transaction_id: column not plain"),
            (b"x", "transaction_id: column not plain"),
        ],
    )
    def test_a_column_that_identifies_nothing_is_told_by_its_reason(self, value, reason):
        with pytest.raises(InvalidRecord) as caught:
            self.id_of({**self.NO_ID, "a": value}, ["a"])
        assert caught.value.reason == reason

    def test_a_column_that_is_not_there_identifies_nothing(self):
        with pytest.raises(InvalidRecord) as caught:
            self.id_of(self.NO_ID, ["a"])
        assert caught.value.reason == "transaction_id: column missing"

    @pytest.mark.parametrize("strategy", ["flight", "Hash", [], [""], [1], 7, {"a": 1}, ("a", None)])
    def test_what_is_no_strategy_is_refused(self, strategy):
        with pytest.raises(ValueError, match="transaction_id must be 'hash', 'random', a list of column names"):
            identity(strategy)

    def test_a_column_name_that_is_no_list_is_told_how_to_write_it(self):
        with pytest.raises(ValueError, match=r"did you mean \['flight'\]"):
            identity("flight")
        with pytest.raises(ValueError, match=r"not 7$"):
            identity(7)

    def test_a_hash_of_what_has_no_json_form_rejects_the_record(self):
        with pytest.raises(InvalidRecord) as caught:
            self.id_of({**self.NO_ID, "properties": {"a": object()}}, "hash")
        assert caught.value.reason == "transaction_id: cannot be hashed"
        assert "object" in caught.value.detail


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, None),
        ({"constants": {"code": "c"}}, None),
        ({"transform": dict, "properties": ["a"]}, None),
        ({"transaction_id": lambda record: record["x"], "properties": ["a"]}, None),
        ({"properties": ["a", "b?"]}, {"a", "b"}),
        ({"properties": {"x": "o.a.b"}}, {"o.a.b", "o"}),
        ({"fields": {"code": "metric", "properties.x": "y"}}, {"metric", "y"}),
        ({"properties": ["a"], "transaction_id": ["day", "o.no"]}, {"a", "day", "o.no", "o"}),
        ({"properties": ["a"], "transaction_id": "hash"}, {"a"}),
    ],
    ids=str,
)
def test_only_columns_that_are_used_need_to_be_read(settings, needed):
    own = {"transaction_id", "external_subscription_id", "code", "timestamp", "precise_total_amount_cents"}
    own.add("properties")
    given = {*settings.get("fields", ())}
    found = needed_columns(EventShaping(**settings))
    assert found == (None if needed is None else frozenset(needed | (own - given)))
