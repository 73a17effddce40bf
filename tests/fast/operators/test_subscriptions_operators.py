"""The operators in a task's hands, with the sandbox as Lago; no Airflow database."""

import pytest
from support.calls import methods
from support.tasks import context

from airflow_provider_lago.exceptions import LagoInputError, LagoRejectedError
from airflow_provider_lago.operators import LagoCreateSubscriptionOperator, LagoTerminateSubscriptionOperator

RECORD = {"external_id": "s1", "external_customer_id": "acme", "plan_code": "basic"}


def execute(operator, **arguments):
    return operator(task_id="subscriptions", **arguments).execute(context(task_id="subscriptions"))


def create(**arguments):
    return execute(LagoCreateSubscriptionOperator, **arguments)


def terminate(**arguments):
    return execute(LagoTerminateSubscriptionOperator, **arguments)


@pytest.fixture(autouse=True)
def sandbox(lago_sandbox, lago_sandbox_connection):
    lago_sandbox.add_plan("basic", amount_cents=100)
    lago_sandbox.add_plan("pro", amount_cents=500)
    lago_sandbox.add_customer("acme")
    return lago_sandbox


def test_a_second_run_posts_nothing(sandbox):
    assert create(records=[RECORD])["created"] == 1
    assert create(records=[RECORD])["unchanged"] == 1
    assert methods(sandbox)["POST"] == 1


def test_a_plan_is_changed_only_where_that_is_asked_for(sandbox):
    create(records=[RECORD])
    with pytest.raises(LagoRejectedError, match="plan_code: differs"):
        create(records=[{**RECORD, "plan_code": "pro"}])
    assert create(records=[{**RECORD, "plan_code": "pro"}], on_existing="change_plan")["upgraded"] == 1


def test_times_without_a_zone_are_in_the_operators(sandbox):
    create(records=[{**RECORD, "subscription_at": "2030-01-02T10:00"}], timezone="America/New_York")
    assert sandbox.subscriptions()[0]["subscription_at"] == "2030-01-02T15:00:00Z"


def test_a_csv_is_enough(sandbox, tmp_path):
    (tmp_path / "s.csv").write_text("sub,account,ending_at\ns1,acme,\ns2,acme,2030-01-01\n")
    fields = {"external_id": "sub", "external_customer_id": "account"}
    summary = create(files=str(tmp_path / "s.csv"), fields=fields, constants={"plan_code": "basic"})
    assert summary["created"] == 2


@pytest.mark.parametrize("value", [False, "false"])
def test_a_customer_is_made_along_the_way_only_where_that_is_asked_for(sandbox, value):
    record = {**RECORD, "external_customer_id": "new"}
    with pytest.raises(LagoRejectedError, match="no such customer"):
        create(records=[record])
    assert create(records=[record], require_customer=value)["created"] == 1


@pytest.mark.parametrize(
    ("operator", "arguments", "says"),
    [
        (create, {"on_existing": "replace"}, "on_existing"),
        (create, {"timezone": "Mars"}, "timezone"),
        (create, {"fields": {"plan": "p"}}, "plan"),
        (create, {"require_customer": "perhaps"}, "require_customer"),
        (terminate, {"status": "ended"}, "status"),
        (terminate, {"on_termination_credit_note": "maybe"}, "on_termination_credit_note"),
        (terminate, {"on_termination_invoice": "maybe"}, "on_termination_invoice"),
        (terminate, {"constants": {"plan_code": "x"}}, "plan_code"),
    ],
)
def test_a_wrong_argument_fails_without_retries_before_anything_is_sent(sandbox, operator, arguments, says):
    with pytest.raises(LagoInputError, match=says):
        operator(records=[RECORD], **arguments)
    assert sandbox.requests == []


def test_subscriptions_end_once_and_empty_templates_are_lagos_defaults(sandbox):
    create(records=[RECORD])
    options = {"on_termination_credit_note": "", "on_termination_invoice": "", "status": ""}
    assert terminate(records=[{"external_id": "s1"}], **options)["terminated"] == 1
    assert terminate(records=[{"external_id": "s1"}])["skipped"] == 1


def test_both_move_money():
    assert LagoCreateSubscriptionOperator(task_id="a", records=[]).bills
    assert LagoTerminateSubscriptionOperator(task_id="b", records=[]).bills
