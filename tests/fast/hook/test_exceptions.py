"""Which errors Airflow retries, and what of them survives."""

from __future__ import annotations

import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_lago import exceptions
from airflow_provider_lago.exceptions import (
    LagoApiError,
    LagoConnectionError,
    LagoDeliveryError,
    LagoException,
    LagoFatalApiError,
    LagoInputError,
    LagoRejectedError,
    LagoTransportError,
)

ALL = [found for found in vars(exceptions).values() if isinstance(found, type) and issubclass(found, LagoException)]


def test_every_error_is_the_providers_and_airflows():
    assert LagoRejectedError in ALL
    assert all(issubclass(found, AirflowException) for found in ALL)


@pytest.mark.parametrize("kind", [LagoConnectionError, LagoInputError, LagoFatalApiError, LagoRejectedError])
def test_what_no_retry_heals_fails_the_task_at_once(kind):
    assert issubclass(kind, AirflowFailException)


@pytest.mark.parametrize("kind", [LagoException, LagoApiError, LagoTransportError, LagoDeliveryError])
def test_what_a_retry_may_heal_is_retried(kind):
    assert not issubclass(kind, AirflowFailException)


@pytest.mark.parametrize("kind", [LagoApiError, LagoFatalApiError, LagoTransportError])
def test_the_facts_of_a_call_survive_pickling(kind):
    error = kind(
        "said", method="GET", path="events", http_status_code=418, code="c", error_details={"a": [1]},
        request_id="r", rate_headers={"retry-after": "1"},
    )  # fmt: skip
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "said"
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_needs_no_more_than_a_message(kind):
    assert str(pickle.loads(pickle.dumps(kind("said")))) == "said"


def test_airflows_class_attribute_does_not_pass_for_the_status():
    assert LagoApiError("said", http_status_code=401).http_status_code == 401
    assert LagoTransportError("said").http_status_code is None
