"""Sources that are the user's own code: read in the thread that delivers for the task, and ended by their errors."""

import threading

import pytest
from support.deliveries import usage
from support.lago import Store, ids
from support.scripted import Reply, ScriptedServer, echo

from airflow_provider_lago.sources.rows import Limited
from airflow_provider_lago.sources.values import ValueSource


def broken_after(records, error):
    yield from records
    raise error


def test_only_what_runs_the_users_code_is_read_in_the_callers_thread(deliver):
    threads = {}

    class Spy(ValueSource):
        def rows(self, start):
            for row in super().rows(start):
                threads.setdefault(str(self), set()).add(threading.current_thread())
                yield row

    with ScriptedServer(echo) as server:
        for records in (usage(300), (row for row in usage(300))):
            deliver(server, Spy(records))
    assert threads["records"] == {threading.main_thread()}
    assert threading.main_thread() not in threads["records (300 elements)"]


@pytest.mark.parametrize("concurrency", [1, 8])
def test_records_are_sent_in_their_order_and_each_once(deliver, concurrency):
    store = Store()
    with ScriptedServer(store.take) as server:
        run = deliver(server, ValueSource(row for row in usage(5_050)), concurrency=concurrency)
    assert run.counts == (5_050, 5_050, 0, 0, 0)
    assert len(server.requests) == 51
    assert all(
        sent == [f"t{n}" for n in range(int(sent[0][1:]), int(sent[0][1:]) + len(sent))]
        for sent in map(ids, server.requests)
    )
    if concurrency == 1:
        assert [event for request in server.requests for event in ids(request)] == [f"t{n}" for n in range(5_050)]


@pytest.mark.parametrize("limit", [None, 1_000])
@pytest.mark.parametrize("error", [RuntimeError("r"), OSError("o"), ValueError("v")])
def test_its_error_goes_up_as_it_is_after_the_last_record_is_settled(deliver, error, limit):
    source = ValueSource(broken_after(usage(250), error))
    with ScriptedServer(echo) as server, pytest.raises(type(error)) as caught:
        deliver(server, Limited(source, limit) if limit else source)
    assert caught.value is error
    assert sum(len(ids(request)) for request in server.requests) == 250


def test_what_lago_says_for_good_goes_before_its_error(deliver):
    with ScriptedServer(lambda request: Reply(401)) as server:
        run = deliver(server, ValueSource(broken_after(usage(250), RuntimeError("r"))))
    assert run.halt.final


def test_a_generator_that_yields_what_is_no_record_is_delivered_around_it(deliver):
    rows = [*usage(2), 7, None, "text", [1], *usage(2, 2)]
    with ScriptedServer(echo) as server:
        run = deliver(server, ValueSource(iter(rows)))
    assert run.counts == (8, 4, 0, 4, 0)


def test_it_is_asked_for_no_more_than_is_in_flight(deliver):
    answered, ahead = [], []

    def rows():
        for n, row in enumerate(usage(2_000)):
            ahead.append(n - 100 * len(answered))
            yield row

    def answer(request):
        answered.append(request)
        return Reply(200, b"", delay=0.02)

    with ScriptedServer(answer) as server:
        run = deliver(server, ValueSource(rows()), concurrency=3)
    assert run.counts == (2_000, 2_000, 0, 0, 0)
    assert max(ahead) < 400
