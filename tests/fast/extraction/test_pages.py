"""The hook's page-wise reading."""

import json

import msgspec
import pytest
from fast.extraction.recorder import Recorder
from support.deliveries import KEY, usage
from support.scripted import Reply, ScriptedServer

from airflow_provider_lago.exceptions import LagoApiError, LagoInputError
from airflow_provider_lago.hooks.lago import LagoHook

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def hook_for(monkeypatch):
    def make(url):
        connection = {"conn_type": "lago", "host": url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(connection))
        return LagoHook(retry_limit=1)

    return make


def test_pages_begin_where_they_are_asked_to_and_know_the_whole(lago_sandbox, hook_for):
    lago_sandbox.post("/events/batch", {"events": usage(25)})
    with Recorder(lago_sandbox) as front, hook_for(front.url) as hook:
        pages = list(hook.pages("events", per_page=10, first_page=2))
        assert front.pages == [2, 3]
    assert [(page.number, len(page.items), page.following, page.total_count) for page in pages] == [
        (2, 10, 3, 25),
        (3, 5, None, 25),
    ]


def test_a_page_beyond_the_end_has_no_items(lago_sandbox, hook_for):
    lago_sandbox.post("/events/batch", {"events": usage(5)})
    with hook_for(lago_sandbox.url) as hook:
        (page,) = hook.pages("events", first_page=9)
    assert (page.items, page.following, page.total_count) == ([], None, 5)


def test_raw_items_are_the_bytes_that_came(hook_for):
    body = b'{ "meta": {"next_page": null}, "fees" : [ {"a": 1.10} , [], "x" ] }'
    with ScriptedServer(lambda _: Reply(200, body, JSON)) as server, hook_for(server.url) as hook:
        (page,) = hook.pages("fees", raw=True)
        assert [bytes(item) for item in page.items] == [b'{"a": 1.10}', b"[]", b'"x"']
        assert isinstance(page.items[0], msgspec.Raw)
        assert next(hook.pages("fees")).items == [{"a": 1.1}, [], "x"]


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b'{"fees": {}}', b"", b'{"fees": [', b"<html>"])
@pytest.mark.parametrize("raw", [True, False])
def test_an_answer_that_is_no_list_is_an_error(hook_for, body, raw):
    with ScriptedServer(lambda _: Reply(200, body, JSON)) as server:
        pages = hook_for(server.url).pages("fees", raw=raw)
        with pytest.raises(LagoApiError):
            list(pages)


@pytest.mark.parametrize("first", [0, -1, "2", True, None])
def test_a_first_page_that_is_none_is_refused(hook_for, first):
    with pytest.raises(LagoInputError, match="first_page"):
        hook_for("http://localhost").pages("fees", first_page=first)
