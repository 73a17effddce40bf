from types import MappingProxyType

import pytest

from airflow_provider_lago.api.records import InvalidRecord
from airflow_provider_lago.delivery.paths import MISSING, getter, without
from airflow_provider_lago.delivery.shaping import RecordShaper, Shaping
from airflow_provider_lago.sources.rows import Cells

KNOWN = frozenset({"external_id", "name", "email", "metadata", "shipping_address"})


def shape(record, **settings):
    shaper = RecordShaper(Shaping(**settings), KNOWN, "a customer")
    return shaper.payload(shaper.record(record))


def test_dotted_columns_nest():
    assert shape({"external_id": "a", "metadata.tier": "gold", "shipping_address.city": "Rome"}) == {
        "external_id": "a", "metadata": {"tier": "gold"}, "shipping_address": {"city": "Rome"},
    }  # fmt: skip


@pytest.mark.parametrize("turn", [1, -1])
def test_an_object_and_its_dotted_columns_are_joined_in_whatever_order_they_come(turn):
    columns = [("metadata.tier", "gold"), ("metadata", {"region": "eu"})][::turn]
    assert shape(dict(columns)) == {"metadata": {"region": "eu", "tier": "gold"}}


@pytest.mark.parametrize("turn", [1, -1])
def test_the_same_holds_for_fields_and_constants(turn):
    fields = dict([("metadata.tier", "t"), ("metadata", "m")][::turn])
    assert shape({"t": "gold", "m": {"region": "eu"}}, fields=fields) == {"metadata": {"region": "eu", "tier": "gold"}}
    constants = dict([("metadata.tier", "gold"), ("metadata", {"region": "eu"})][::turn])
    assert shape({}, constants=constants) == {"metadata": {"region": "eu", "tier": "gold"}}


def test_nothing_is_nested_in_a_text():
    with pytest.raises(InvalidRecord, match=r"metadata.tier"):
        shape({"metadata": "gold", "metadata.tier": "x"})


def test_the_users_own_objects_stay_as_they_are():
    mine = {"region": "eu"}
    shape({"metadata": mine}, constants={"metadata.tier": "gold"})
    assert mine == {"region": "eu"}


def test_empty_cells_are_missing_and_nulls_of_a_task_are_not():
    assert shape(Cells({"external_id": "a", "email": None})) == {"external_id": "a"}
    assert shape({"external_id": "a", "email": None}) == {"external_id": "a", "email": None}


def test_a_constant_null_clears_also_for_a_table_of_texts():
    assert shape(Cells({"external_id": "a"}), constants={"email": None}) == {"external_id": "a", "email": None}


def test_a_mapped_column_may_be_missing_from_a_record_and_is_told_of_if_it_always_is():
    shaper = RecordShaper(Shaping(fields={"name": "title", "email": "mail"}), KNOWN, "a customer")
    assert shaper.payload(shaper.record({"external_id": "a", "title": "A"})) == {"external_id": "a", "name": "A"}
    assert shaper.never_found == {"mail": "email"}


def test_with_a_mapping_columns_of_no_field_stay_behind_and_without_one_they_do_not():
    assert shape({"external_id": "a", "x": 1}, fields={"name": "x"}) == {"external_id": "a", "name": 1}
    assert shape({"external_id": "a", "x": 1}) == {"external_id": "a", "x": 1}


@pytest.mark.parametrize("settings", [{"fields": {"emial": "x"}}, {"constants": {"emial.x": "x"}}])
def test_a_misspelt_target_is_an_error_before_a_record_is_read(settings):
    with pytest.raises(ValueError, match="emial"):
        RecordShaper(Shaping(**settings), KNOWN, "a customer")


@pytest.mark.parametrize("data", [[], "x", 5, None])
def test_what_is_no_object_is_no_record(data):
    with pytest.raises(InvalidRecord, match="not an object"):
        shape(data)


def test_an_empty_cell_stays_missing_where_a_transform_hands_it_on():
    def tidy(record):
        return {"external_id": record["id"], "name": record["name"], "email": record["mail"]}

    shaper = RecordShaper(Shaping(transform=tidy), None, "a customer")
    assert shaper.record(Cells(id="a", name=None, mail="a@b.co")) == {"external_id": "a", "email": "a@b.co"}
    assert shaper.record({"id": "a", "name": None, "mail": "m"}) == {"external_id": "a", "name": None, "email": "m"}


def test_where_any_field_may_be_a_column_may_only_be_missing_if_it_says_so():
    shaper = RecordShaper(Shaping(fields={"a": "one", "b": "two?"}), None, "a request")
    assert shaper.payload({"one": 1}) == {"a": 1}
    assert shaper.payload({"one": 1, "two": 2, "three": 3}) == {"a": 1, "b": 2}
    with pytest.raises(InvalidRecord, match=r"no 'one'.*'one\?'"):
        shaper.payload({"two": 2})


def test_edits_come_last_and_nest():
    edited = shape({"external_id": "a", "metadata": {"x": 1}}, edits={"metadata.tier": "gold", "external_id": "b"})
    assert edited == {"external_id": "b", "metadata": {"x": 1, "tier": "gold"}}


@pytest.mark.parametrize(
    ("record", "left"),
    [
        ({"a": 5, "b": 1}, {"a": 5, "b": 1}),
        ({"b": 1}, {"b": 1}),
        ({"a": {"b": {"c": 1}, "d": 2}}, {"a": {"b": {"c": 1}, "d": 2}}),
        ({"a": {"x": 1, "d": 2}}, {"a": {"d": 2}}),
        ({"a": MappingProxyType({"x": 1})}, {"a": {}}),
        ({"a.x": 1, "a": {"x": 2}}, {"a": {"x": 2}}),
    ],
    ids=str,
)
def test_what_is_left_out_may_not_be_there(record, left):
    assert without(record, ["a.x"]) == left


def test_objects_that_are_no_dicts_are_looked_into():
    assert getter("a.b.c")({"a": MappingProxyType({"b": {"c": 7}})}) == 7
    assert getter("a.b.c")({"a": MappingProxyType({"b": 5})}) is MISSING
    assert getter("a.b.c")({"a": "text"}) is MISSING


def test_what_is_missing_is_no_value_and_says_so():
    assert not MISSING
    assert repr(MISSING) == "missing"
