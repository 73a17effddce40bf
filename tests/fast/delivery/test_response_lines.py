"""The line that tells of one answer of Lago."""

import json
from datetime import UTC, datetime

import pytest

from airflow_provider_lago.delivery.responses.response import LONGEST_TEXT, Response, key_of, with_fields

AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def response(body=b"{}", records=((7, "a"),)):
    return Response(records, "POST", "events", 200, "req", body, AT)


def line(body=b"{}", **more):
    return json.loads(response(body, **more).line())


def test_a_line_tells_all_of_an_answer():
    assert line(b'{"event": {}}') == {
        "position": 7,
        "id": "a",
        "records": [{"position": 7, "id": "a"}],
        "method": "POST",
        "path": "events",
        "status": 200,
        "request_id": "req",
        "body": {"event": {}},
        "at": "2026-01-02T03:04:05.678+00:00",
    }


@pytest.mark.parametrize("records", [(), ((7, "a"), (8, None))])
def test_position_and_id_stand_at_the_top_only_where_it_is_about_one_record(records):
    told = line(records=records)
    assert "position" not in told
    assert "id" not in told
    assert told["records"] == [{"position": position, "id": name} for position, name in records]


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", None),
        (b"null", None),
        (b' {"a":\r\n1.10}\n', {"a": 1.1}),
        (b'"x"', "x"),
        (b"not json", "not json"),
        (b'{"a": "\xff"}', '{"a": "\\xff"}'),
        (b"[" * 5000, "[" * 5000),
    ],
)
def test_a_body_is_shown_as_it_came_or_as_text(body, shown):
    made = response(body).line()
    assert json.loads(made)["body"] == shown
    assert b"\n" not in made
    assert b"\r" not in made
    assert "body_length" not in json.loads(made)


def test_every_digit_of_lagos_json_stays():
    assert b'"body":{"a":1.10000000000000000001}' in response(b'{"a":1.10000000000000000001}').line()


def test_a_long_text_is_cut_and_its_length_told():
    assert line(b"x" * LONGEST_TEXT)["body"] == "x" * LONGEST_TEXT
    assert "body_length" not in line(b"x" * LONGEST_TEXT)
    told = line(b"x" * (LONGEST_TEXT + 1))
    assert told["body"] == "x" * LONGEST_TEXT
    assert told["body_length"] == LONGEST_TEXT + 1
    emoji = "\U0001f600".encode() * LONGEST_TEXT  # four bytes each: all of them are still shown
    assert line(emoji)["body"] == "\U0001f600" * LONGEST_TEXT


def test_an_id_that_is_no_unicode_is_shown_nevertheless():
    assert "ud800" in line(records=((7, "\ud800"),))["id"]


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ((), "no record (POST events)"),
        (((7, None),), "record 7"),
        (((7, "a"),), "record 7 (id 'a')"),
        (((7, "a"), (9, "c")), "2 records from 7 (id 'a') to 9"),
        (((7, "x" * 61),), f"record 7 (id '{'x' * 60}')"),
    ],
)
def test_messages_say_which_records_it_is_about(records, told):
    assert response(records=records).where == told


def test_the_same_line_has_the_same_key_and_another_has_another():
    assert key_of(b"a") == key_of(b"a")
    assert key_of(b"a") != key_of(b"b")
    assert len(key_of(b"a")) == 32


def test_fields_are_added_at_the_end_of_a_line():
    assert with_fields(b'{"a":1}', reason="x\ud800", b="c").startswith(b'{"a":1,"reason":"x')
    assert json.loads(with_fields(b'{"a":1}', b="c")) == {"a": 1, "b": "c"}


def test_an_answer_has_the_time_when_it_came():
    before = datetime.now(UTC)
    assert before <= Response((), "GET", "x", 200, None, b"").at <= datetime.now(UTC)
