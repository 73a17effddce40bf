from collections import deque
from collections.abc import Sequence

import pytest

from airflow_provider_lago.sources.rows import SourceError
from airflow_provider_lago.sources.values import ValueSource


class Lazy(Sequence):
    """Like the XComs of mapped tasks: each element costs a call to Airflow, and so does a slice."""

    def __init__(self, *elements):
        self.elements = elements
        self.calls = 0

    def __len__(self):
        return len(self.elements)

    def __getitem__(self, key):
        self.calls += 1
        return list(self.elements[key]) if isinstance(key, slice) else self.elements[key]


def records(value):
    return [row.data for row in ValueSource(value).rows()]


def test_one_dict_is_one_record():
    assert records({"a": 1}) == [{"a": 1}]


def test_a_list_is_its_elements_and_their_place_is_said_in_words():
    rows = list(ValueSource([{"a": 1}, {"a": 2}]).rows())
    assert rows[1].data == {"a": 2}
    assert rows[1].where == "record 2"


def test_the_lists_of_mapped_tasks_are_joined():
    mapped = Lazy([{"a": 1}, {"a": 2}], [], [{"a": 3}])
    source = ValueSource(mapped)
    assert mapped.calls == 1
    assert [row.data["a"] for row in source.rows()] == [1, 2, 3]
    assert mapped.calls == 1


def test_mapped_tasks_that_return_one_dict_each_are_joined():
    assert records(Lazy({"a": 1}, {"a": 2})) == [{"a": 1}, {"a": 2}]


def test_rows_of_a_database_are_not_taken_apart_into_cells():
    assert records([("t1", "s"), ["t2", "s"]]) == [("t1", "s"), ["t2", "s"]]


def test_an_element_that_is_no_record_is_left_to_the_check():
    assert records(["x", None]) == ["x", None]


def test_the_share_done_of_a_list():
    source = ValueSource([{}, {}, {}, {}])
    rows = source.rows()
    next(rows), next(rows), next(rows)
    assert source.share_done() == 0.5


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "returned nothing"),
        ("[{'a': 1}]", "render_template_as_native_obj"),
        (5, "not a int"),
        ("x" * 1000, r"\.\.\."),
    ],
)
def test_what_is_no_list_of_records_is_refused_with_the_fix(value, says):
    with pytest.raises(SourceError, match=says):
        ValueSource(value)


def test_a_sequence_without_slices_is_read_too():
    source = ValueSource(deque([{"a": 1}, {"a": 2}]))
    assert [row.data for row in source.rows()] == [{"a": 1}, {"a": 2}]
    assert not source.is_foreign
