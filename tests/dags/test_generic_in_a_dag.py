"""LagoGenericRequestOperator in Airflow's own hands: rendering, mapping, serializing, and that money is sent once."""

from __future__ import annotations

import contextlib
import inspect
import json
import threading
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import task
from support.airflow_runs import Outcome, new_dag, run
from support.deliveries import KEY
from support.scripted import Reply, ScriptedServer, as_json

from airflow_provider_lago.operators import LagoGenericRequestOperator

WALLET = {"external_customer_id": "acme", "name": "w", "rate_amount": "1", "currency": "EUR"}


@pytest.fixture
def sandbox(lago_sandbox, lago_sandbox_connection):
    return lago_sandbox


class Lago:
    """Makes a wallet of every request, and answers late as long as ``slow``."""

    def __init__(self):
        self.wallets = 0
        self.slow = False
        self.arrived = threading.Event()

    def __call__(self, request):
        self.wallets += 1
        self.arrived.set()
        answer = as_json(200, {"wallet": {"lago_id": str(self.wallets)}})
        return Reply(answer.status, answer.body, answer.headers, delay=30) if self.slow else answer


@pytest.fixture
def lago(monkeypatch):
    answer = Lago()
    with ScriptedServer(answer) as server:
        connection = {"conn_type": "lago", "host": server.url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_LAGO_DEFAULT", json.dumps(connection))
        yield answer


def pay(**arguments):
    """A DAG whose one task makes a wallet."""
    with new_dag() as dag:
        LagoGenericRequestOperator(
            task_id="pay", endpoint="wallets", root="wallet", data=WALLET, retry_delay=timedelta(0), **arguments
        )
    return dag


def first_try(dag):
    """Run a DAG until its first try ends; 2.11's ``dag.test()`` lets a timeout out."""
    try:
        return run(dag)
    except BaseException as error:
        if type(error).__name__ != "AirflowTaskTimeout":
            raise
    return found(dag)


def found(dag):
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        return Outcome(session.query(DagRun).filter_by(dag_id=dag.dag_id).one())


def next_try(dag):
    """Run the task again, as the scheduler does when its turn has come."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        ti = session.query(TaskInstance).filter_by(dag_id=dag.dag_id, task_id="pay").one()
        ti.try_number += 1
        ti.state = "scheduled"
        session.commit()
        ti.task = dag.task_dict["pay"]
        try:
            from airflow.sdk.definitions.dag import _run_task
        except ImportError:
            from airflow.models.dag import _run_task

            with contextlib.suppress(Exception):  # the task failed; its state tells
                _run_task(ti=ti, inline_trigger=True, session=session)
            session.commit()
        else:
            session.expunge(ti)
            _run_task(ti=ti, task=dag.task_dict["pay"])
    return found(dag)


def clear(dag):
    """Clear the task, as Airflow's UI and API do."""
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.utils.session import create_session

    with create_session() as session:
        tis = session.query(TaskInstance).filter_by(dag_id=dag.dag_id, task_id="pay").all()
        # Airflow 2.11 would look for the DAG in the database, where this one, made in memory, is not.
        known = {"dag": dag} if "dag" in inspect.signature(clear_task_instances).parameters else {}
        clear_task_instances(tis, session, **known)


def die_in_the_first_try(monkeypatch):
    """Let the first try fail for a reason that Airflow retries, after Lago has done its work."""
    judge, tries = LagoGenericRequestOperator._judge, []

    def dies(self, *arguments):
        tries.append(self)
        if len(tries) == 1:
            raise RuntimeError("the worker died")
        return judge(self, *arguments)

    monkeypatch.setattr(LagoGenericRequestOperator, "_judge", dies)


def test_another_try_by_airflow_sends_no_second_wallet_and_one_after_clearing_sends(lago, monkeypatch):
    die_in_the_first_try(monkeypatch)
    dag = pay(retries=2)
    outcome = run(dag)
    assert (outcome.state_of("pay"), outcome.tries_of("pay")) == ("failed", 2), "the second try failed for good"
    assert lago.wallets == 1
    clear(dag)
    outcome = next_try(dag)
    assert (outcome.state_of("pay"), outcome.tries_of("pay")) == ("success", 3)
    assert lago.wallets == 2


def test_a_try_that_dies_after_clearing_is_not_followed_by_another_wallet(lago, monkeypatch):
    dag = pay(retries=2)
    assert run(dag).state_of("pay") == "success"
    clear(dag)
    die_in_the_first_try(monkeypatch)
    assert next_try(dag).state_of("pay") == "up_for_retry"
    assert lago.wallets == 2
    outcome = next_try(dag)
    assert (outcome.state_of("pay"), outcome.tries_of("pay")) == ("failed", 3)
    assert lago.wallets == 2


@pytest.mark.parametrize("retries", [0, 2])
def test_a_timeout_of_the_task_is_followed_by_no_second_wallet(retries, lago):
    lago.slow = True
    dag = pay(retries=retries, execution_timeout=timedelta(seconds=1))
    outcome = first_try(dag)
    lago.slow = False
    if outcome.state_of("pay") == "up_for_retry":
        outcome = next_try(dag)
    assert outcome.state_of("pay") == "failed"
    assert outcome.tries_of("pay") == (2 if retries else 1)
    assert lago.wallets == 1
    clear(dag)
    assert next_try(dag).state_of("pay") == "success"
    assert lago.wallets == 2


def test_a_task_that_airflow_ends_is_not_retried(lago, monkeypatch):
    lago.slow = True
    running = []
    monkeypatch.setattr(LagoGenericRequestOperator, "_before_sending", lambda self, *_: running.append(self))

    def end():
        assert lago.arrived.wait(20)
        running[0].on_kill()

    threading.Thread(target=end, daemon=True).start()
    outcome = first_try(pay(retries=2))
    assert (outcome.state_of("pay"), outcome.tries_of("pay")) == ("failed", 1)
    assert lago.wallets == 1


def test_a_lost_answer_fails_the_task_for_good(sandbox):
    with new_dag() as dag:
        LagoGenericRequestOperator(
            task_id="customer", endpoint="customers", data={"customer": {"external_id": "acme", "currency": "EUR"}}
        ) >> LagoGenericRequestOperator(
            task_id="pay", endpoint="wallets", root="wallet", data=WALLET, retries=2, retry_delay=timedelta(0)
        )
    sandbox.fault("lost_response", path="/api/v1/wallets", times=1)
    outcome = run(dag)
    assert (outcome.state_of("pay"), outcome.tries_of("pay")) == ("failed", 1)
    assert len(sandbox.wallets()) == 1


def test_what_moves_no_money_is_retried(sandbox, monkeypatch):
    die_in_the_first_try(monkeypatch)
    with new_dag() as dag:
        LagoGenericRequestOperator(task_id="read", method="GET", endpoint="taxes", retries=2, retry_delay=timedelta(0))
    outcome = run(dag)
    assert (outcome.state_of("read"), outcome.tries_of("read")) == ("success", 2)


def test_arguments_are_rendered_for_the_run(lago, monkeypatch):
    seen = []
    monkeypatch.setattr(Lago, "__call__", lambda self, request: seen.append(request) or as_json(200, {"ok": True}))
    params = {"what": "coupons", "verb": "put", "code": "a/b", "name": "Zoë", "amount": "1.10"}
    with new_dag(params=params) as dag:
        LagoGenericRequestOperator(
            task_id="call",
            method="{{ params.verb }}",
            endpoint="{{ params.what }}/{code}",
            query={"name": "{{ params.name }}", "code": "{code}"},
            headers="X-Run:{{ run_id }}",
            data={"code": "{{ params.code }}"},
            extra_body={"name": "{{ params.name }}"},
            exclude=["code"],
        )
        LagoGenericRequestOperator(
            task_id="text",
            endpoint="coupons",
            data='{"amount": {{ params.amount }}, "name": {{ params.name | tojson }}}',
        )
    outcome = run(dag)
    assert outcome.returned("call") == {"ok": True}
    call, text = sorted(seen, key=lambda request: request.method, reverse=True)
    assert (call.method, call.path) == ("PUT", "/api/v1/coupons/a%2Fb?name=Zo%C3%AB&code=a%2Fb")
    assert call.headers["x-run"] == outcome.run.run_id
    assert json.loads(call.body) == {"name": "Zoë"}
    assert text.body == '{"amount":1.10,"name":"Zoë"}'.encode()


def test_it_is_mapped_over_what_another_task_returned(sandbox, tmp_path):
    with new_dag() as dag:

        @task
        def taxes():
            return [{"name": code, "code": code, "rate": 20} for code in ("a", "b", "c")]

        LagoGenericRequestOperator.partial(
            task_id="make", endpoint="taxes", root="tax", responses_path=str(tmp_path / "answers.jsonl")
        ).expand(data=taxes())
    outcome = run(dag)
    assert sorted(outcome.returned("make", n)["tax"]["code"] for n in range(3)) == ["a", "b", "c"]
    for n in range(3):
        (line,) = (tmp_path / str(n) / "answers.jsonl").read_text().splitlines()
        assert json.loads(line)["body"]["tax"]["code"] == "abc"[n]


def checked(response, ti):
    return response.ok and ti.task_id == "call"


def filtered(response, **context):
    return [response.json(), context["params"]["what"]]


def built(payloads):
    return {"all": payloads}


def test_functions_work_in_a_dag_that_is_stored_and_read_by_airflow(lago, monkeypatch):
    monkeypatch.setattr(Lago, "__call__", lambda self, request: as_json(200, {"ok": True}))
    with new_dag(params={"what": "x"}) as dag:
        LagoGenericRequestOperator(
            task_id="call", endpoint="coupons", data={}, response_check=checked, response_filter=filtered
        )
        LagoGenericRequestOperator(
            task_id="group", endpoint="coupons", records=[{"a": 1}, {"a": 2}], build_request=built, transform=dict
        )
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization
    stored = json.loads(json.dumps(Serialization.to_dict(dag)))
    assert {"call", "group"} <= set(Serialization.from_dict(stored).task_dict)
    outcome = run(dag)
    assert outcome.returned("call") == [{"ok": True}, "x"]
    assert outcome.returned("group")["accepted"] == 2
