"""What a preview shows, and that it sends nothing."""

import functools
import json
import operator

import pytest

THREE = "records=[event(1), event(2), event(3)]"


def bodies(ended):
    """The JSON bodies that were printed."""
    decoder, text, found = json.JSONDecoder(), ended.out, []
    while (start := text.find("\n{\n")) >= 0:
        body, end = decoder.raw_decode(text[start + 1 :])
        found.append(body)
        text = text[start + 1 + end :]
    return found


def test_the_first_record_is_shown_as_it_would_be_sent_and_nothing_is_sent(shell, lago, one_task):
    ended = shell("preview", one_task(THREE))
    assert ended.code == 0
    assert ended.err == ""
    assert f"Request 1 (1 record): POST {lago.url}/api/v1/events/batch" in ended.lines
    (body,) = bodies(ended)
    assert body == {
        "events": [
            {
                "transaction_id": "t1",
                "external_subscription_id": "s",
                "code": "c",
                "timestamp": 1_700_000_001,
                "properties": {"n": 1},
            }
        ]
    }
    assert ended.lines[-1] == "Nothing was sent."
    assert lago.requests == []


def test_the_limit_is_the_command_lines_not_the_tasks(shell, lago, one_task):
    path = one_task(f"{THREE}, limit=2")
    assert len(bodies(shell("preview", path, "--limit", "3"))[0]["events"]) == 3
    assert len(bodies(shell("preview", path, "--limit", "all"))[0]["events"]) == 3


def test_of_many_requests_three_are_printed(shell, lago, one_task):
    ended = shell("preview", one_task("records=[event(n) for n in range(9)], batch_size=1"), "--limit", "all")
    assert len(bodies(ended)) == 3
    assert "And more requests, not printed: only the first 3 are." in ended.out


def test_rejected_records_are_named_with_the_reason(shell, lago, one_task):
    ended = shell("preview", one_task("records=[event(1), event(2, timestamp='soon')]"), "--limit", "all")
    assert ended.code == 0
    assert "Rejected record 2 (transaction_id 't2'): timestamp: not a time" in ended.out
    assert "2 records read: 1 in requests, 1 rejected, 0 skipped." in ended.lines


def test_where_no_request_can_be_made_the_exit_status_is_1(shell, lago, one_task):
    ended = shell("preview", one_task("records=[event(1, timestamp='soon')]"))
    assert ended.code == 1
    assert ended.lines[-2:] == ["1 record read: 0 in requests, 1 rejected, 0 skipped.", "Nothing was sent."]


@pytest.mark.parametrize(
    ("edit", "path", "value"),
    [
        ("properties.tokens=12", ["properties", "tokens"], 12),
        ("properties.tokens=twelve", ["properties", "tokens"], "twelve"),
        ("properties.n=null", ["properties", "n"], None),
        ('transaction_id="12"', ["transaction_id"], "12"),
        ("properties.model.name=a=b", ["properties", "model", "name"], "a=b"),
    ],
)
def test_set_changes_a_field_of_each_payload_whatever_gave_it_a_value(shell, lago, one_task, edit, path, value):
    ended = shell("preview", one_task(THREE), "--limit", "2", "--set", edit)
    assert ended.code == 0
    for event in bodies(ended)[0]["events"]:
        assert functools.reduce(operator.getitem, path, event) == value


def test_numbers_keep_every_digit(shell, lago, one_task):
    ended = shell("preview", one_task(THREE), "--set", "properties.n=0.1000000000000000055511151231257827")
    assert '"n": 0.1000000000000000055511151231257827' in ended.out


def test_a_field_that_an_event_does_not_have_is_named(shell, lago, one_task):
    ended = shell("preview", one_task(THREE), "--set", "tokens=12")
    assert ended.code == 1
    assert "tokens" in ended.out
    assert "Traceback" not in ended.err


class TestTemplates:
    def test_templates_know_params_and_the_moment_of_the_run(self, shell, lago, one_task):
        path = one_task(
            "records=[event(1)], constants={'properties.x': '{{ params.x }} {{ ds }} {{ ts_nodash }} {{ run_id }} "
            "{{ logical_date.year }} {{ macros.ds_add(ds, 1) }} {{ dag.dag_id }} {{ task.task_id }}'}",
            dag_arguments="params={'x': Param('a', type='string')}",
        )
        ended = shell("preview", path, "--param", "x=b", "--logical-date", "2026-11-02T03:04:05Z")
        assert bodies(ended)[0]["events"][0]["properties"]["x"] == (
            "b 2026-11-02 20261102T030405 manual__2026-11-02T03:04:05+00:00 2026 2026-11-03 d deliver"
        )

    def test_airflows_variables_are_found(self, shell, lago, one_task, monkeypatch):
        monkeypatch.setenv("AIRFLOW_VAR_FOLDER", "f")
        path = one_task("records=[event(1)], constants={'properties.x': '{{ var.value.folder }}'}")
        assert bodies(shell("preview", path))[0]["events"][0]["properties"]["x"] == "f"

    @pytest.mark.parametrize(
        ("given", "words"),
        [(["x=7"], "param"), (["y=7"], "no param 'y'; its params: x"), ([], "param")],
    )
    def test_wrong_and_missing_params_are_wrong_usage(self, shell, lago, one_task, given, words):
        path = one_task("records=[event(1)]", dag_arguments="params={'x': Param(type='string')}")
        ended = shell("preview", path, *(f"--param={value}" for value in given))
        assert ended.code == 2
        assert words in ended.err

    def test_a_template_that_fails_is_named_without_a_traceback(self, shell, lago, one_task):
        ended = shell("preview", one_task("files='{{ prev_start_date_success }}.jsonl'"))
        assert ended.code == 1
        assert "prev_start_date_success" in ended.err
        assert "Traceback" not in ended.err

    def test_a_template_that_pulls_an_xcom_says_that_there_is_no_run(self, shell, lago, one_task):
        ended = shell("preview", one_task("files=\"{{ ti.xcom_pull('export') }}\""))
        assert ended.code == 2
        assert "cannot be had without a run" in ended.err

    def test_what_only_a_run_writes_is_not_even_rendered(self, shell, lago, one_task, tmp_path):
        path = one_task(
            f"{THREE}, report_path='{tmp_path}/report/{{{{ ti.xcom_pull(1) }}}}', receipts=True, dry_run=True"
        )
        assert shell("preview", path).code == 0
        assert not (tmp_path / "report").exists()


class TestRecords:
    @pytest.fixture
    def from_a_task(self, one_task):
        return one_task(
            "records=make()",
            before="make = task(task_id='make')(lambda: [])",
        )

    def test_the_output_of_another_task_cannot_be_had_and_the_way_out_is_named(self, shell, lago, from_a_task):
        ended = shell("preview", from_a_task)
        assert ended.code == 2
        assert "'make'" in ended.err
        assert "--records FILE" in ended.err

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (
                "r.jsonl",
                '{"transaction_id": "a", "external_subscription_id": "s", "code": "c", "timestamp": 1700000000}\n',
            ),
            (
                "r.json",
                '[{"transaction_id": "a", "external_subscription_id": "s", "code": "c", "timestamp": 1700000000}]',
            ),
            ("r.csv", "transaction_id,external_subscription_id,code,timestamp\na,s,c,1700000000\n"),
        ],
    )
    def test_records_from_a_file_take_its_place(self, shell, lago, from_a_task, tmp_path, name, text):
        (tmp_path / name).write_text(text)
        ended = shell("preview", from_a_task, "--records", tmp_path / name)
        assert ended.code == 0
        assert bodies(ended)[0]["events"][0]["transaction_id"] == "a"

    def test_records_from_the_standard_input_take_its_place(self, shell, lago, from_a_task):
        line = '{"transaction_id": "{{ ds }}", "external_subscription_id": "s", "code": "c", "timestamp": 1700000000}'
        ended = shell("preview", from_a_task, "--records", "-", typed=f"{line}\n{line}\n")
        assert bodies(ended)[0]["events"][0]["transaction_id"] == "{{ ds }}"  # data is no template

    @pytest.mark.parametrize(
        ("given", "typed", "words"),
        [
            ("-", "{}\n{broken\n", "standard input line 2 is not JSON"),
            ("none.jsonl", "", "'none.jsonl' does not exist"),
            ("none.json", "", "cannot be read"),
            ("records.parquet", "", "must end in one of"),
        ],
    )
    def test_records_that_cannot_be_read_are_named(self, shell, lago, from_a_task, given, typed, words):
        ended = shell("preview", from_a_task, "--records", given, typed=typed)
        assert ended.code in {1, 2}
        assert words in ended.err

    def test_of_a_mapped_task_the_first_element_is_taken(self, shell, lago, dag_file):
        path = dag_file(
            "with DAG('d', schedule=None):\n"
            "    LagoIngestEventsOperator.partial(task_id='deliver', constants={'code': '{{ ds }}'}).expand(\n"
            "        records=[[event(1)], [event(2)]])\n"
        )
        ended = shell("preview", path, "--logical-date", "2026-11-02")
        assert [(e["transaction_id"], e["code"]) for e in bodies(ended)[0]["events"]] == [("t1", "2026-11-02")]

    def test_of_a_task_mapped_over_dicts_the_first_is_taken(self, shell, lago, dag_file):
        path = dag_file(
            "with DAG('d', schedule=None):\n"
            "    LagoIngestEventsOperator.partial(task_id='deliver').expand_kwargs([{'records': [event(1)]}])\n"
        )
        assert bodies(shell("preview", path))[0]["events"][0]["transaction_id"] == "t1"

    def test_a_task_mapped_over_another_tasks_output_wants_records(self, shell, lago, dag_file, tmp_path):
        path = dag_file(
            "with DAG('d', schedule=None):\n"
            "    make = task(task_id='make')(lambda: [])\n"
            "    LagoIngestEventsOperator.partial(task_id='deliver').expand(files=make())\n"
        )
        ended = shell("preview", path)
        assert ended.code == 2
        assert "--records FILE" in ended.err
        (tmp_path / "r.json").write_text(
            '{"transaction_id": "a", "external_subscription_id": "s", "code": "c", "timestamp": 1700000000}'
        )
        assert shell("preview", path, "--records", tmp_path / "r.json").code == 0


class TestSettings:
    @pytest.fixture
    def settings(self, tmp_path):
        def write(**described):
            (path := tmp_path / "settings.json").write_text(json.dumps(described))
            return path

        return write

    RECORD = {"transaction_id": "a", "external_subscription_id": "s", "code": "c", "timestamp": 1_700_000_000}

    def test_an_operator_is_described_by_a_file(self, shell, lago, settings):
        path = settings(
            operator="LagoIngestEventsOperator", records=[self.RECORD], constants={"properties.day": "{{ ds }}"}
        )
        ended = shell("preview", "--settings", path, "--logical-date", "2026-11-02")
        assert bodies(ended)[0]["events"][0]["properties"] == {"day": "2026-11-02"}

    @pytest.mark.parametrize(
        ("described", "words"),
        [
            ({"operator": "BashOperator"}, "operator must be one of"),
            ({}, "LagoIngestEventsOperator"),
            ({"operator": "LagoIngestEventsOperator", "recordz": []}, "recordz"),
        ],
    )
    def test_what_describes_no_operator_is_wrong_usage(self, shell, lago, settings, described, words):
        ended = shell("preview", "--settings", settings(**described))
        assert ended.code == 2
        assert words in ended.err

    @pytest.mark.parametrize("text", ["[1]", "{", None])
    def test_a_file_that_is_no_object_is_wrong_usage(self, shell, lago, tmp_path, text):
        if text is not None:
            (tmp_path / "s.json").write_text(text)
        assert shell("preview", "--settings", tmp_path / "s.json").code == 2


class TestConnection:
    def test_another_connection_may_be_named(self, shell, lago, one_task, monkeypatch):
        monkeypatch.setenv(
            "AIRFLOW_CONN_OTHER", '{"conn_type": "lago", "host": "lago.example.com", "password": "k-123456789"}'
        )
        ended = shell("preview", one_task(THREE), "--conn-id", "other")
        assert "POST https://lago.example.com/api/v1/events/batch" in ended.out

    def test_a_connection_that_does_not_exist_is_named_with_the_way_to_make_it(self, shell, lago, one_task):
        ended = shell("preview", one_task(THREE), "--conn-id", "nope")
        assert ended.code == 1
        assert "There is no connection 'nope': set AIRFLOW_CONN_NOPE" in ended.err

    def test_a_broken_connection_is_named_by_its_field(self, shell, one_task, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_OTHER", '{"conn_type": "lago"}')
        ended = shell("preview", one_task(THREE), "--conn-id", "other")
        assert ended.code == 1
        assert "password" in ended.err

    def test_the_key_is_never_printed_even_where_a_record_holds_it(self, shell, lago, one_task):
        ended = shell("preview", one_task(THREE), "--set", f"properties.key={lago.api_key}")
        assert lago.api_key not in ended.out + ended.err
        assert '"key": "***"' in ended.out


def test_what_a_terminal_would_obey_is_written_out(shell, lago, one_task):
    ended = shell("preview", one_task("records=[event('\\x9b2J', timestamp='\\x1b[2Jsoon')]"))
    assert "\x1b" not in ended.out + ended.err
    assert "\x9b" not in ended.out + ended.err


def test_warnings_of_the_operator_are_printed(shell, lago, one_task):
    ended = shell("preview", one_task("records=[event(1, transaction_id=None)], transaction_id='random'"))
    assert "Note: Ids are random" in ended.err
