"""The page of features links each row to tests that are there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "features.md"
LINKED = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")
ROWS = {int(found[1]): found[0] for found in re.finditer(r"^\| (\d+) \|.*$", PAGE.read_text(encoding="utf-8"), re.M)}


def test_every_row_is_there():
    assert sorted(ROWS) == list(range(1, 18))


@pytest.mark.parametrize("number", sorted(ROWS))
def test_a_row_names_tests_that_exist(number):
    linked = LINKED.findall(ROWS[number])
    assert linked
    assert ROWS[number].count("](../tests/") == len(linked)
    for name, path in linked:
        assert re.search(rf"^ *def {name}\(", (PROJECT / path).read_text(encoding="utf-8"), re.M), f"{path}::{name}"


@pytest.mark.parametrize(
    "page", [*sorted(PROJECT.glob("docs/*.md")), PROJECT / "README.md"], ids=lambda page: page.name
)
def test_links_between_the_documents_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target
