"""The operator in a task's hands, with the sandbox as Lago; no Airflow database."""

import json

import pytest
from support.calls import methods
from support.deliveries import KEY
from support.tasks import context

from airflow_provider_lago.exceptions import LagoInputError, LagoRejectedError
from airflow_provider_lago.operators import LagoUpsertCustomerOperator


def execute(**arguments):
    return LagoUpsertCustomerOperator(task_id="customers", **arguments).execute(context(task_id="customers"))


@pytest.fixture(autouse=True)
def connection(lago_sandbox_connection):
    return lago_sandbox_connection


def held(sandbox, external_id):
    return next(row for row in sandbox.customers() if row["external_id"] == external_id)


def test_the_summary_tells_created_from_updated(lago_sandbox):
    lago_sandbox.add_customer("old")
    summary = execute(records=[{"external_id": "old"}, {"external_id": "new"}])
    assert {name: summary[name] for name in ("read", "accepted", "created", "updated", "rejected", "skipped")} == {
        "read": 2, "accepted": 2, "created": 1, "updated": 1, "rejected": 0, "skipped": 0,
    }  # fmt: skip
    json.dumps(summary)


def test_a_csv_with_dotted_columns_and_empty_cells_clears_nothing(lago_sandbox, tmp_path):
    lago_sandbox.add_customer("a", email="a@a.com", shipping_address={"city": "Rome"})
    (tmp_path / "c.csv").write_text(
        "id,title,email,shipping_address.city,metadata.tier,noise\na,Acme,,,gold,1\nb,Bee,b@b.com,Bari,,2\n"
    )
    execute(files=str(tmp_path / "c.csv"), fields={"external_id": "id", "name": "title"})
    acme, bee = held(lago_sandbox, "a"), held(lago_sandbox, "b")
    assert (acme["name"], acme["email"], acme["shipping_address"]["city"]) == ("Acme", "a@a.com", "Rome")
    assert [(row["key"], row["value"]) for row in acme["metadata"]] == [("tier", "gold")]
    assert (bee["email"], bee["shipping_address"]["city"], bee["metadata"]) == ("b@b.com", "Bari", [])


def test_an_empty_cell_is_cleared_where_clear_names_the_column(lago_sandbox, tmp_path):
    lago_sandbox.add_customer("a", email="a@a.com")
    (tmp_path / "c.csv").write_text("external_id,email\na,\n")
    execute(files=str(tmp_path / "c.csv"), clear=["email"])
    assert held(lago_sandbox, "a")["email"] is None


def test_a_constant_null_clears_and_nulls_may_be_kept(lago_sandbox):
    lago_sandbox.add_customer("a", email="a@a.com", city="Rome")
    execute(records=[{"external_id": "a", "city": None}], nulls="keep")
    assert held(lago_sandbox, "a")["city"] == "Rome"
    execute(records=[{"external_id": "a"}], constants={"email": None})
    assert held(lago_sandbox, "a")["email"] is None


@pytest.mark.parametrize("value", [True, "True"])
def test_unchanged_customers_are_skipped_where_that_is_asked_for(lago_sandbox, value):
    records = [{"external_id": "a", "name": "A", "metadata": {"tier": "gold"}}]
    execute(records=records)
    summary = execute(records=records, skip_unchanged=value)
    assert (summary["skipped"], summary["accepted"]) == (1, 0)
    assert methods(lago_sandbox)["POST"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"nulls": "drop"}, "nulls"),
        ({"metadata_mode": "add"}, "metadata_mode"),
        ({"clear": "email"}, "clear"),
        ({"clear": ["emial"]}, "emial"),
        ({"fields": {"emial": "x"}}, "emial"),
        ({"constants": {"emial": "x"}}, "emial"),
        ({"skip_unchanged": "perhaps"}, "skip_unchanged"),
    ],
)
def test_a_wrong_argument_fails_without_retries_before_anything_is_sent(lago_sandbox, arguments, says):
    with pytest.raises(LagoInputError, match=says):
        execute(records=[{"external_id": "a"}], **arguments)
    assert lago_sandbox.requests == []


def test_a_saved_customer_without_its_provider_is_in_the_file_of_rejected_records(lago_sandbox, tmp_path, caplog):
    billing = {"payment_provider": "stripe", "provider_customer_id": "cus_1"}
    with pytest.raises(LagoRejectedError, match="saved, but"):
        execute(records=[{"external_id": "a", "billing_configuration": billing}], report_path=str(tmp_path))
    (line,) = (tmp_path / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["detail"].startswith("the customer itself was created")
    assert KEY not in caplog.text


def test_a_dry_run_sends_nothing_and_shows_the_request(lago_sandbox):
    summary = execute(records=[{"external_id": "a", "metadata": {"tier": "gold"}}], dry_run=True)
    (shown,) = summary["preview"]
    assert (shown["method"], shown["records"]) == ("POST", 1)
    assert json.loads(shown["body"])["customer"]["metadata"] == [{"key": "tier", "value": "gold"}]
    assert lago_sandbox.requests == []
