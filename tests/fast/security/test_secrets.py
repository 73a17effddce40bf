"""Where the key could be shown: representations, errors and their tracebacks, operators and what is stored of them."""

import base64
import http.client
import json
import pickle
import traceback
from urllib.parse import quote

import pytest
from support.airflow_runs import new_dag
from support.deliveries import KEY, connection, usage
from support.scripted import CUT, ScriptedServer, as_json, echo
from support.tasks import context
from support.wire import BOTH

from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.secrecy import Blot, secrets_of
from airflow_provider_lago.delivery.transport import Transport
from airflow_provider_lago.exceptions import LagoException
from airflow_provider_lago.operators import LagoGenericRequestOperator, LagoIngestEventsOperator


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        KEY.upper(),
        f"Bearer {KEY}",
        json.dumps({KEY: KEY}),
        *(
            base64.b64encode(f"{before}{KEY}{after}".encode()).decode()
            for before in ("", "x", "xy")
            for after in ("", "z")
        ),
        base64.urlsafe_b64encode(f"Authorization: Bearer {KEY}".encode()).decode(),
    ],
)
def test_the_key_is_blotted_out_in_every_usual_form(shown):
    blot = Blot(KEY)
    for cleaned in (blot.text(f"a {shown} b"), blot.data(f"a {shown} b".encode()).decode()):
        assert "***" in cleaned
        assert shown not in cleaned
        assert KEY[4:-4].lower() not in cleaned.lower()
        assert base64.b64encode(KEY.encode()).decode()[8:-8] not in cleaned


@pytest.mark.parametrize("key", ["a/b+c=d%e~f\"g\\h'i&j", "ABCDEFGH12345678"])
def test_a_key_of_any_characters_is_blotted_out(key):
    for shown in (key, quote(key, safe=""), json.dumps(key), json.dumps(key).replace("/", "\\/"), key.swapcase()):
        assert shown.strip('"') not in Blot(key).text(f"<{shown}>")


def test_what_holds_no_key_stays_as_it_is():
    body = json.dumps(usage(100)).encode()
    assert Blot(KEY).data(body) is body
    assert Blot("test").text("a test") == "a test"  # such a key would tear the answers apart


@pytest.mark.parametrize("exchange", BOTH)
def test_an_echo_of_the_key_is_taken_out_of_bodies_and_headers(hook_for, exchange):
    def answer(request):
        seen = request.headers["authorization"]
        return as_json(200, {"seen": [seen, base64.b64encode(seen.encode()).decode()]}, **{"X-Request-Id": seen})

    with ScriptedServer(answer) as server:
        given = exchange(hook_for(server))
    assert given.json()["seen"][0] == given.request_id == "Bearer ***"
    assert "***" in given.json()["seen"][1]


def test_the_answer_to_events_that_were_taken_is_rid_of_the_key_as_it_is(connect, tmp_path):
    def answer(request):
        return as_json(200, {"events": [{**event, "seen": KEY} for event in request.events]})

    with ScriptedServer(answer) as server:
        connect(server)
        LagoIngestEventsOperator(task_id="t", records=usage(3), responses_path=str(tmp_path / "r.jsonl")).execute(
            context()
        )
    kept = (tmp_path / "r.jsonl").read_text()
    assert KEY not in kept
    assert kept.count("***") == 3


def test_no_representation_shows_a_secret(hook_for):
    hook = hook_for("https://lago.example.com", extra={"proxy": "http://me:proxy-secret@proxy:1"})
    settings, session = hook.settings, hook.get_conn()
    transport = Transport(settings, "test", 1)
    for thing in (settings, hook, session, session.auth, transport, vars(hook), transport._blot):
        for text in (repr(thing), str(thing), f"{thing}", f"{[thing]!r}"):
            assert KEY not in text
            assert "proxy-secret" not in text
    assert secrets_of(settings.proxy) == {"proxy-secret"}


def errors_of(hook_for, connect, tmp_path):
    """Every kind of error that a user sees, raised for real."""
    with ScriptedServer(lambda request: as_json(401, {"error": request.headers["authorization"]})) as refusing:
        yield lambda: hook_for(refusing).get("plans")
        connect(refusing)
        yield lambda: LagoIngestEventsOperator(task_id="t", records=usage(3)).execute(context())
        yield lambda: LagoGenericRequestOperator(task_id="t", endpoint="plans", method="GET").execute(context())
    with ScriptedServer(lambda request: CUT) as cutting:
        yield lambda: hook_for(cutting).get("plans")
    yield lambda: hook_for("http://127.0.0.1:9").get("plans")
    yield lambda: hook_for("https://lago.example.com", login="x").get("plans")
    yield lambda: hook_for("https://lago.example.com", extra={"api_key": KEY}).get("plans")
    yield lambda: hook_for(KEY).get("plans")
    yield lambda: hook_for("https://lago.example.com", password=f"{KEY} {KEY}").get("plans")
    yield lambda: hook_for("https://lago.example.com", extra={"ca_bundle": "/nowhere"}).get("plans")


def test_no_error_shows_the_key_not_even_with_its_causes_pickled_or_in_a_traceback(hook_for, connect, tmp_path):
    count = 0
    for fail in errors_of(hook_for, connect, tmp_path):
        with pytest.raises(LagoException) as caught:
            fail()
        error, count = caught.value, count + 1
        shown = [str(error), repr(error), repr(vars(error)), repr(pickle.dumps(error)), traceback.format_exc()]
        shown += traceback.format_exception(error)
        assert not [text for text in shown if KEY in text]
        assert error.__cause__ is None
    assert count == 10


def test_a_traceback_with_the_locals_of_a_failed_call_shows_no_key(hook_for):
    """Error trackers collect them; frames of the connection's own parsing hold the password, those of calls do not."""
    with ScriptedServer(lambda request: as_json(401, {"error": "Unauthorized"})) as server:
        hooks = [hook_for(server), hook_for("http://127.0.0.1:9")]
        for hook in hooks:
            _ = hook.settings
            with pytest.raises(LagoException) as caught:
                hook.get("plans")
            text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
            assert "session" in text or "outcome" in text
            assert KEY not in text


def test_the_debug_switch_of_http_client_prints_nothing_of_the_hooks_calls(hook_for, monkeypatch, capfd):
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 2)
    with ScriptedServer(lambda request: as_json(200, {})) as server, ScriptedServer(lambda request: CUT) as proxy:
        hook_for(server).get("plans")
        through = hook_for("https://lago.example.com", extra={"proxy": proxy.url.replace("//", "//me:secret@")})
        with pytest.raises(LagoException):
            through.get("plans")
    printed = "".join(capfd.readouterr())
    assert "send:" not in printed
    assert KEY not in printed
    assert server.requests


def test_the_hook_keeps_no_cookies(hook_for):
    with ScriptedServer(lambda request: as_json(200, {}, **{"Set-Cookie": "k=v; Path=/"})) as server:
        hook = hook_for(server)
        hook.get("plans")
        hook.get("plans")
    assert all("cookie" not in request.headers for request in server.requests)


def walk(thing, seen=None):
    """Yield the texts of an object's attributes, as a serializer that knows no secrets would."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    yield repr(thing)
    parts = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, (list, tuple)) else ()
    for _, part in parts:
        yield from walk(part, seen)


def test_no_attribute_of_an_operator_shows_the_key_before_or_after_it_ran_nor_what_airflow_stores(connect):
    """OpenLineage's fallback and Airflow's serialization read the attributes of an operator."""
    with ScriptedServer(echo) as server:
        connect(server)
        with new_dag() as dag:
            operator = LagoIngestEventsOperator(task_id="t", records=usage(3))
        before = list(walk(vars(operator)))
        assert operator.execute(context())["accepted"] == 3
        after = list(walk(vars(operator)))
    assert "hook" in vars(operator)  # what could hold it is there
    assert not [text for text in before + after if KEY in text]
    assert KEY not in json.dumps(stored(dag), default=repr)


def stored(dag):
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    return DagSerialization.to_dict(dag)


def test_settings_have_to_hold_the_key_and_no_more_than_their_fields_do():
    """Pickles and ``asdict`` hold it by design: what calls Lago needs it. Nothing here makes either of them."""
    assert KEY in repr(pickle.dumps(connection("http://127.0.0.1")))
    assert KEY not in repr(connection("http://127.0.0.1"))
    assert KEY not in repr(Call("GET", "plans"))
