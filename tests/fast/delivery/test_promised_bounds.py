"""Figures that the documentation promises, or that are Lago's own."""

from pathlib import Path

import pytest

from airflow_provider_lago.delivery import delivery, transport
from airflow_provider_lago.delivery.events import auditing, plan
from airflow_provider_lago.delivery.keeper import REMOTE, Rhythm
from airflow_provider_lago.delivery.plan import Plan

DOCS = Path(__file__).parents[3] / "docs"


def test_lagos_own_limits():
    assert plan.LARGEST_BATCH == 100
    assert plan.LARGEST_BODY == 1_000_000  # nginx refuses 1 MiB
    assert auditing._PAGE * auditing._MOST_PAGES == 1_000


def test_how_often_a_checkpoint_is_kept():
    assert Rhythm() == Rhythm(records=2_500, seconds=3.0, ahead=3_500)
    assert Rhythm(records=50_000, seconds=5.0, ahead=100_000) == REMOTE


def test_what_bounds_a_delivery():
    assert Plan.concurrency == 8
    assert delivery._PROGRESS_EVERY == 5.0
    assert transport._LONGEST_ANSWER == 64 << 20


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("durable.md", "every 2,500 records or 3 seconds"),
        ("durable.md", "more than 3,500 records ahead"),
        ("durable.md", "up to 100,000"),
        ("performance.md", "| `concurrency` | 8 |"),
        ("performance.md", "| `batch_size` | 100 |"),
    ],
)
def test_the_documentation_says_the_same(document, said):
    assert said in (DOCS / document).read_text()
