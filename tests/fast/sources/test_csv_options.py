"""What a user says about CSV files is checked before a file is opened, and a cell's type costs its own record only."""

import io
import pickle
from decimal import Decimal

import pytest

from airflow_provider_lago.sources.csv_lines import check_csv_header, read_csv
from airflow_provider_lago.sources.csv_options import CsvOptions
from airflow_provider_lago.sources.rows import BEGINNING, Cells, SourceError, Unreadable


def rows(content, **given):
    options = CsvOptions.of(given)
    return list(read_csv(io.BytesIO(content), "a.csv", BEGINNING, lambda start: None, options=options))


class TestTypes:
    @pytest.mark.parametrize(
        ("kind", "cell", "value"),
        [
            ("text", "0012", "0012"),
            ("integer", "123456789012345678901234567890", 123456789012345678901234567890),
            ("integer", " -7 ", -7),
            ("decimal", "0.10", Decimal("0.10")),
            ("decimal", "5", Decimal(5)),
            ("decimal", "1e-7", Decimal("1e-7")),
            ("number", "12", 12),
            ("number", "12.0", Decimal("12.0")),
            ("boolean", "TRUE", True),
            ("boolean", "0", False),
            ("boolean", "No", False),
            ("json", "{'x': 0.10}".replace("'", '""'), {"x": Decimal("0.10")}),
            ("json", "[1]", [1]),
        ],
    )
    def test_a_cell_is_read_exactly(self, kind, cell, value):
        record = rows(f'a,b\n"{cell}",x\n'.encode(), types={"a": kind})[0].data
        assert record == {"a": value, "b": "x"}
        assert str(record["a"]) == str(value)
        assert type(record["a"]) is type(value)

    @pytest.mark.parametrize(
        ("kind", "cell"),
        [
            ("integer", "1.0"),
            ("integer", "1_000"),
            ("integer", "٣"),
            ("integer", "9" * 5_000),
            ("decimal", "1,5"),
            ("decimal", "NaN"),
            ("decimal", "Infinity"),
            ("decimal", "1e99999"),
            ("number", "0x10"),
            ("boolean", "2"),
            ("json", "{"),
            ("json", "NaN"),
            ("json", "[" * 5_000),
        ],
    )
    def test_a_cell_that_does_not_fit_costs_its_record_and_is_named(self, kind, cell):
        found = rows(f'a,b\n"{cell}",x\n'.encode() + b",y\n", types={"a": kind})
        fault = found[0].data
        assert isinstance(fault, Unreadable)
        assert fault.reason == f"a: not {kind}"
        assert "column 'a'" in fault.detail
        assert cell[:20] in fault.detail
        assert len(fault.detail) < 200
        assert fault.text.startswith(f'"{cell[:20]}')
        assert found[0].line == 2
        assert found[1].data == {"a": None, "b": "y"}

    def test_bytes_that_are_no_text_do_not_become_json(self):
        assert rows(b'a\n"""\xff"""\n', types={"a": "json"})[0].data.reason == "a: not json"

    def test_a_missing_value_is_not_converted_and_null_in_json_is_not_missing(self):
        found = rows(b"a,b\nNULL,x\nnull,x\n", types={"a": "json"}, null=["NULL"])
        assert [(type(row.data), row.data) for row in found] == [
            (Cells, {"a": None, "b": "x"}),
            (dict, {"a": None, "b": "x"}),
        ]

    def test_a_typed_column_that_is_not_there_is_refused_before_anything_is_sent(self):
        with pytest.raises(SourceError, match=r"no column 'c'.*it has a, b"):
            check_csv_header(io.BytesIO(b"a,b\n"), "a.csv", CsvOptions.of({"types": {"c": "integer"}}))


class TestChecks:
    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"seperator": ";"}, "'seperator' is not an option; there are delimiter,"),
            ({"delimiter": ";;"}, "delimiter must be one character"),
            ({"delimiter": "\n"}, "delimiter must be one character"),
            ({"quotechar": 5}, "quotechar must be one character"),
            ({"delimiter": "'", "quotechar": "'"}, "different signs"),
            ({"doublequote": "no"}, "doublequote must be True or False"),
            ({"encoding": "utf-16"}, "encoding must be one that holds ASCII"),
            ({"encoding": "no-such"}, "encoding must be"),
            ({"encoding": "iso2022_jp"}, "encoding must be"),
            ({"encoding": None}, "encoding must be"),
            ({"header": "a,b"}, "header must be a list of texts"),
            ({"header": ["a", "a"]}, "none twice"),
            ({"header": []}, "name each column"),
            ({"skip_lines": -1}, "skip_lines must be a number"),
            ({"skip_lines": True}, "skip_lines must be a number"),
            ({"null": "NULL"}, "null must be a list"),
            ({"types": ["a"]}, "types must be a dict"),
            (
                {"types": {"a": "float"}},
                "'a' must be one of text, integer, decimal, number, boolean, json, not 'float'",
            ),
            ({"types": {1: "text"}}, "by text"),
            (["delimiter"], "must be a dict, not a list"),
        ],
    )
    def test_what_is_unknown_or_wrong_is_named(self, given, says):
        with pytest.raises(ValueError, match=r"^csv_options") as error:
            CsvOptions.of(given)
        assert says in str(error.value)

    def test_nothing_given_is_as_ever(self):
        assert CsvOptions.of(None) == CsvOptions.of({}) == CsvOptions()

    def test_options_can_be_compared_and_kept(self):
        options = CsvOptions.of({"types": {"a": "integer"}, "null": ["", "NULL"], "header": ["a"]})
        assert pickle.loads(pickle.dumps(options)) == options
        assert len({options, CsvOptions()}) == 2
