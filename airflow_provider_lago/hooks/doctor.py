"""What the Test button says: whether a connection reaches Lago, and if not, what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_lago.api.advice import (
    advise,
    describe,
    is_redirect,
    is_web_page,
    is_wrong_url,
    missing_permission,
    one_line,
    redirect_origin,
)
from airflow_provider_lago.api.answers import read_error
from airflow_provider_lago.api.calls import Call
from airflow_provider_lago.api.failures import Failure
from airflow_provider_lago.exceptions import LagoException
from airflow_provider_lago.hooks.failures import redact

if TYPE_CHECKING:
    from airflow_provider_lago.api.answers import Answer
    from airflow_provider_lago.hooks.lago import LagoHook

#: Longest wait for a connection and for an answer, in seconds: the button blocks a thread of Airflow's API
#: server.
PATIENCE = 5.0

ORGANIZATIONS = Call(method="GET", path="organizations")

_STORES = {"postgres": "Postgres", "clickhouse": "ClickHouse"}


def diagnose(hook: LagoHook) -> tuple[bool, str]:
    """
    Ask Lago once for the organization of the API key. Never raises.

    ``GET /organizations`` needs a valid key, changes nothing and exists in every release since 0.55;
    ``/health`` would need no key and is not reachable on every installation.

    :param hook: The hook whose connection is tested.
    :return: Whether the connection works, and a sentence for a person.
    """
    try:
        return _ask(hook)
    except AirflowNotFoundException:
        return False, f"There is no connection {hook.lago_conn_id!r}."
    except LagoException as error:
        return False, _sentence(hook, str(error).removeprefix(f"Connection {hook.lago_conn_id!r}: "))
    except Exception as error:  # Airflow shows a raised error as a bare 500; the type alone is safe to show
        hook.log.debug("The connection test failed unexpectedly", exc_info=True)
        return False, f"The test failed unexpectedly ({type(error).__name__}); see the debug log of this process."


def _ask(hook: LagoHook) -> tuple[bool, str]:
    settings = hook.settings
    origin = settings.api_url.removesuffix("/api/v1")
    result = hook.exchange(ORGANIZATIONS, min(PATIENCE, settings.read_timeout))
    if isinstance(result, Failure):
        return False, _sentence(hook, result.message)
    works, said = judge(result, origin, settings.conn_id)
    return works, redact(_sentence(hook, said), settings.api_key)


def judge(answer: Answer, origin: str, conn_id: str) -> tuple[bool, str]:
    """
    Return what an answer to ``GET /organizations`` says about a connection.

    :param answer: The answer.
    :param origin: The address of the connection, for the sentence.
    :param conn_id: Id of the Airflow connection.
    """
    if 200 <= answer.status < 300:
        return _judge_success(answer, origin)
    if is_redirect(answer):
        return False, f"{origin} redirects to {redirect_origin(answer)}; {advise(answer, conn_id)}"
    permission = missing_permission(read_error(answer).code)
    if answer.status == 403 and permission == "organization:read":
        # The key was checked before the permission, so it is valid.
        return True, f"connected to {origin}; the API key is restricted and may not read the organization's name"
    if is_wrong_url(answer):
        lago = "Lago answers there, but not under this path" if read_error(answer).code else "this is not Lago's API"
        return False, f"{origin} has no /api/v1/organizations (HTTP 404): {lago}; check the host"
    if answer.status == 401:
        return (
            False,
            f"Lago at {origin} refuses the API key: it is wrong, expired or of another region; check the password",
        )
    return False, f"{origin} answers {describe(answer, conn_id)}"


def _judge_success(answer: Answer, origin: str) -> tuple[bool, str]:
    body = answer.json()
    organization = body.get("organization") if isinstance(body, dict) else None
    if isinstance(organization, dict) and "lago_id" in organization:
        store = organization.get("events_store")
        kept = f", events kept in {_STORES.get(str(store), store)}" if store else ""
        return True, one_line(f"connected to organization {organization.get('name')!r} at {origin}{kept}")
    if is_web_page(answer):
        return False, f"{origin} answers with a web page, so this is not Lago's API (its UI perhaps?); check the host"
    return False, f"{origin} answers, but not as Lago does; check the host"


def _sentence(hook: LagoHook, text: str) -> str:
    # The form tests a copy of the connection under a random id, which would mean nothing to its reader.
    plain = text.replace(f" of connection {hook.lago_conn_id!r}", "")
    return f"{plain[:1].upper()}{plain[1:].rstrip('.')}." if not plain.startswith("http") else f"{plain.rstrip('.')}."
