"""What is printed of a request and of a receipt. No Lago, no Airflow."""

import io

import pytest

from airflow_provider_lago.delivery.plan import Sample
from airflow_provider_lago.shell.screen import Screen, clean
from airflow_provider_lago.shell.wording import receipt, request_lines

LINE = {
    "position": 7,
    "origin": "a.csv",
    "line": 8,
    "id": "t1",
    "outcome": "accepted",
    "kind": None,
    "lago_id": None,
    "request_id": None,
    "reason": None,
    "code": None,
}


@pytest.mark.parametrize(
    ("changes", "detail", "said"),
    [
        ({}, "", "Record 7 (a.csv line 8, id t1): accepted"),
        ({"id": None, "origin": "records"}, "", "Record 7: accepted"),
        (
            {"kind": "created", "lago_id": "l", "request_id": "r", "status": "active", "ending": None},
            "",
            "Record 7 (a.csv line 8, id t1): accepted (created); lago_id l; request_id r; status active",
        ),
        (
            {"outcome": "rejected", "reason": "plan_not_found", "code": "plan_not_found"},
            "nothing was changed",
            "Record 7 (a.csv line 8, id t1): rejected; plan_not_found - nothing was changed",
        ),
        (
            {"outcome": "rejected", "reason": "name: too long", "code": "validation_errors"},
            "",
            "Record 7 (a.csv line 8, id t1): rejected; name: too long (validation_errors)",
        ),
    ],
)
def test_a_receipt_says_all_it_knows_once(changes, detail, said):
    assert receipt({**LINE, **changes}, "id", detail) == said


def test_a_request_shows_the_callers_headers_and_a_body_that_is_not_json_as_it_is():
    sample = Sample("DELETE", "https://x/api/v1/y", "no json", 2, (("X-Trace", "1"),))
    assert list(request_lines(3, sample)) == [
        "Request 3 (2 records): DELETE https://x/api/v1/y",
        "X-Trace: 1",
        "no json",
    ]


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "a\rb", "\x00", "\u202e"])
def test_nothing_reaches_a_terminal_that_it_would_obey(text):
    assert clean(text).isprintable()
    assert clean(f"é\n\t{text}").startswith("é\n\t")


def test_the_key_is_hidden_in_results_questions_and_complaints():
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out, err)
    screen.secret = "s3cret-key"
    screen.say("say s3cret-key")
    screen.ask("ask s3cret-key")
    screen.complain("complain s3cret-key")
    assert "s3cret" not in out.getvalue() + err.getvalue()
