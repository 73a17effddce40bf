"""What is sent, what is refused, and what is said about it."""

import json

import pytest
from support.deliveries import KEY
from support.scripted import ScriptedServer, as_json

THREE = "records=[event(1), event(2), event(3)]"


@pytest.fixture
def live(monkeypatch):
    """A connection to a live organization; nothing may be sent there."""
    connection = {"conn_type": "lago", "host": "api.getlago.com", "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_LIVE", json.dumps(connection))
    return "live"


def test_yes_sends_the_first_record_and_prints_its_receipt(shell, lago, one_task):
    ended = shell("send", one_task(THREE), terminal=True, typed="y\n")
    assert ended.code == 0
    assert f"Send it to {lago.url} (connection 'lago_default', organization 'Acme')? [y/N] y" in ended.lines
    (event,) = lago.events()
    assert event["transaction_id"] == "t1"
    receipt, done = ended.lines[-2:]
    assert receipt.startswith(f"Record 1 (transaction_id t1): accepted; lago_id {event['lago_id']}; request_id ")
    assert done.startswith("Done: read 1, accepted 1, duplicate 0, rejected 0, skipped 0, requests 1")


@pytest.mark.parametrize("typed", ["n\n", "\n", "", "maybe\n"])
def test_any_other_answer_sends_nothing(shell, lago, one_task, typed):
    ended = shell("send", one_task(THREE), terminal=True, typed=typed)
    assert (ended.code, lago.count()) == (1, 0)
    assert ended.err.strip() == "Nothing was sent."


def test_without_a_terminal_nothing_is_sent_unless_yes_is_given(shell, lago, one_task):
    ended = shell("send", one_task(THREE), typed="y\n")
    assert (ended.code, lago.count()) == (2, 0)
    assert "--yes" in ended.err
    assert lago.requests == []
    assert shell("send", one_task(THREE), "--yes").code == 0
    assert lago.count() == 1


def test_what_is_sent_is_what_was_shown(shell, lago, one_task):
    path = one_task("records=[event(1, timestamp=None)], constants={'timestamp': 'now'}")
    ended = shell("send", path, "--yes", "--set", "properties.n=7")
    shown = json.loads(ended.out[ended.out.index("\n{\n") : ended.out.index("\n}\n") + 2])["events"][0]
    sent = lago.events()[0]
    assert sent["properties"] == shown["properties"] == {"n": 7}


def test_a_number_of_records_may_be_sent_and_never_all(shell, lago, one_task):
    assert shell("send", one_task(THREE), "--yes", "--limit", "2").code == 0
    assert lago.count() == 2
    ended = shell("send", one_task(THREE), "--yes", "--limit", "all")
    assert (ended.code, lago.count()) == (2, 2)


def test_a_duplicate_is_no_failure(shell, lago, one_task):
    path = one_task(THREE)
    assert shell("send", path, "--yes").code == 0
    ended = shell("send", path, "--yes")
    assert ended.code == 0
    assert "Record 1 (transaction_id t1): duplicate; in Lago already" in ended.out


def test_a_rejected_record_is_a_failure_with_the_reason(shell, lago, one_task):
    ended = shell("send", one_task("records=[event(1), event(2, code='')]"), "--yes", "--limit", "2")
    assert (ended.code, lago.count()) == (1, 1)
    (line,) = [line for line in ended.lines if line.startswith("Record 2")]
    assert "rejected; code: " in line
    assert " - " in line


def test_where_there_is_nothing_to_send_lago_is_not_asked(shell, lago, one_task):
    ended = shell("send", one_task("records=[event(1, code='')]"), "--yes")
    assert ended.code == 1
    assert "There is nothing to send." in ended.err
    assert lago.requests == []


class TestLive:
    def test_usage_events_are_refused_before_anything_is_asked(self, shell, live, one_task, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.hooks.lago.LagoHook.exchange", None)
        ended = shell("send", one_task(THREE), "--yes", "--conn-id", live)
        assert ended.code == 2
        assert "--yes-bill-it" in ended.err
        assert ended.err.strip().endswith("Nothing was sent.")

    def test_yes_bill_it_does_not_answer_the_question(self, shell, live, one_task):
        ended = shell("send", one_task(THREE), "--yes-bill-it", "--conn-id", live)
        assert ended.code == 2
        assert "not a terminal" in ended.err

    def test_what_lago_does_not_bill_needs_no_flag(self, shell, live, one_task, monkeypatch):
        monkeypatch.setattr("airflow_provider_lago.operators.LagoIngestEventsOperator.bills", property(lambda _: False))
        ended = shell("send", one_task(THREE), "--conn-id", live)
        assert "--yes-bill-it" not in ended.err
        assert "not a terminal" in ended.err


class TestTrouble:
    def test_a_wrong_key_is_found_before_the_question(self, shell, lago, one_task, monkeypatch):
        wrong = "99999999-2222-4333-8444-555555555555"
        monkeypatch.setenv(
            "AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": lago.url, "password": wrong})
        )
        ended = shell("send", one_task(THREE), "--yes")
        assert (ended.code, lago.count()) == (1, 0)
        assert "refuses the API key" in ended.err
        assert wrong not in ended.out + ended.err

    def test_a_key_that_may_not_read_the_organization_can_send(self, shell, one_task, monkeypatch):
        def answer(request):
            if request.path.endswith("/organizations"):
                return as_json(
                    403, {"status": 403, "error": "Forbidden", "code": "read_action_not_allowed_for_organization"}
                )
            return as_json(200, {"events": json.loads(request.body)["events"]})

        with ScriptedServer(answer) as server:
            monkeypatch.setenv(
                "AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": server.url, "password": KEY})
            )
            ended = shell("send", one_task(THREE), terminal=True, typed="y\n")
        assert ended.code == 0, ended.err
        assert "an organization whose name the key may not read)? [y/N]" in ended.out

    def test_a_server_that_is_not_there_is_named_before_the_question(self, shell, one_task, monkeypatch):
        connection = {"conn_type": "lago", "host": "http://127.0.0.1:9", "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(connection))
        ended = shell("send", one_task(THREE), "--yes")
        assert ended.code == 1
        assert "127.0.0.1:9" in ended.err
        assert "Nothing was sent." in ended.err

    def test_a_delivery_that_stops_is_a_failure_that_says_why(self, shell, one_task, monkeypatch):
        def answer(request):
            if request.path.endswith("/organizations"):
                return as_json(200, {"organization": {"lago_id": "1", "name": "Acme"}})
            return as_json(401, {"status": 401, "error": "Unauthorized"})

        with ScriptedServer(answer) as server:
            monkeypatch.setenv(
                "AIRFLOW_CONN_LAGO_DEFAULT", json.dumps({"conn_type": "lago", "host": server.url, "password": KEY})
            )
            ended = shell("send", one_task(THREE), "--yes")
        assert ended.code == 1
        assert ended.lines[-1].startswith("Stopped: read 1, accepted 0")
        assert "API key" in ended.lines[-1]

    def test_what_the_operator_refuses_before_sending_is_refused_here(self, shell, lago, one_task, monkeypatch):
        from airflow_provider_lago.exceptions import LagoInputError

        def refuse(self, plan, context):
            raise LagoInputError(
                f"the look before sending says no to {len(list(plan.source.rows()))} of {context['ds']}"
            )

        monkeypatch.setattr("airflow_provider_lago.operators.LagoIngestEventsOperator._before_sending", refuse)
        ended = shell("send", one_task(THREE), "--yes", "--logical-date", "2026-11-02")
        assert (ended.code, lago.count()) == (1, 0)
        assert "says no to 1 of 2026-11-02" in ended.err
