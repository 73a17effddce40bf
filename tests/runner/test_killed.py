"""A task that is killed under Airflow's real runner goes on where it was, and a cleared one delivers all again."""

import contextlib
import os
import random
import signal

import pytest
from support.killing import Delivery, lago, write_dags, write_usage
from support.standalone import standalone

EVENTS = 150_000
FEW = 3_000

#: What a retry may send again at most.
LIMIT = 5_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runner")


@pytest.fixture(scope="module")
def servers(folder):
    with contextlib.ExitStack() as stack:
        yield {store: stack.enter_context(lago(folder, store)) for store in ("postgres", "clickhouse")}


@pytest.fixture(scope="module")
def airflow(folder, servers):
    home = folder / "airflow"
    home.mkdir()
    connections = {f"AIRFLOW_CONN_{store.upper()}": server.connection for store, server in servers.items()}
    with standalone(home, write_dags(folder / "dags"), 2, **connections) as running:
        yield running


def counts(summary):
    return tuple(summary[name] for name in ("read", "accepted", "duplicate", "rejected"))


@pytest.mark.parametrize("store", ["postgres", "clickhouse"])
def test_a_killed_task_sends_little_again_and_doubles_nothing(airflow, servers, store, folder):
    servers[store].reset()
    source = write_usage(folder / "usage.jsonl", EVENTS)
    delivery = Delivery(airflow, servers[store], source, f"killed-{store}")
    process = delivery.processes(1)["task"]
    held = delivery.wait_for_events(random.randrange(EVENTS // 10, EVENTS // 2))
    os.kill(process, signal.SIGKILL)
    outcome = delivery.end(2)
    assert (outcome.state, outcome.tries) == ("success", 2), f"killed when Lago held {held}"
    assert (outcome.lost, outcome.doubled, outcome.foreign) == (0, 0, 0)
    assert counts(outcome.summary) == (EVENTS, EVENTS, 0, 0)
    assert 0 <= outcome.received - EVENTS < LIMIT, f"killed when Lago held {held}"
    assert outcome.kept == {}


def test_a_task_that_is_cleared_after_its_success_delivers_all_again(airflow, servers, folder):
    servers["postgres"].reset()
    source = write_usage(folder / "few.jsonl", FEW)
    delivery = Delivery(airflow, servers["postgres"], source, "cleared")
    first = delivery.end(1)
    assert counts(first.summary) == (FEW, FEW, 0, 0)
    assert first.kept == {}
    delivery.clear()
    second = delivery.end(2)
    assert counts(second.summary) == (FEW, 0, FEW, 0)
    assert (second.lost, second.doubled) == (0, 0)
