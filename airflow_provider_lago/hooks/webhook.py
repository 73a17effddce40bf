"""From an Airflow HTTP connection to the webhook that takes Lago's answers."""

from __future__ import annotations

import os
from dataclasses import replace

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_provider_lago.api.connection import ConnectionSettingsError
from airflow_provider_lago.api.webhook import Webhook, parse_webhook
from airflow_provider_lago.exceptions import LagoConnectionError
from airflow_provider_lago.hooks import environment
from airflow_provider_lago.hooks.extras import read_extra


def read_webhook(conn_id: str, path: str | None = None) -> Webhook:
    """
    Return the webhook that an Airflow connection of type ``http`` describes.

    Its secrets are masked in the task's log from here on. Where the connection names no proxy and no CA bundle, those
    of the environment count (``HTTPS_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE`` ...), as for Lago's own connection.

    :param conn_id: Id of the connection.
    :param path: Path below the connection's address.
    :raises LagoConnectionError: The connection is wrongly configured.
    :raises AirflowNotFoundException: There is no such connection.
    """
    connection = BaseHook.get_connection(conn_id)
    try:
        if connection.conn_type == "lago":
            raise ConnectionSettingsError(conn_id, "this is a connection to Lago: a webhook needs one of type 'http'")
        webhook = parse_webhook(
            conn_id=conn_id,
            host=connection.host,
            schema=connection.schema,
            port=connection.port,
            login=connection.login,
            password=connection.password,
            extra=read_extra(conn_id, connection, '{"headers": {"X-Token": "..."}}'),
            path=path,
        )
        webhook = _with_environment(webhook)
    except ConnectionSettingsError as error:
        raise LagoConnectionError(str(error)) from None
    for secret in webhook.secrets():
        mask_secret(secret)
    return webhook


def _with_environment(webhook: Webhook) -> Webhook:
    if webhook.trust_env and webhook.proxy is None:
        found = environment.proxy_of_environment(webhook.url)
        if found and not found.lower().startswith(("http://", "https://")):
            raise ConnectionSettingsError(
                webhook.conn_id,
                "the proxy of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) is not an http one: set extra "
                "'proxy', or add the webhook's host to NO_PROXY",
            )
        webhook = replace(webhook, proxy=found or None)
    if webhook.trust_env and webhook.verify is True:
        webhook = replace(webhook, verify=environment.bundle_of_environment())
    if isinstance(webhook.verify, str) and not os.path.exists(webhook.verify):
        raise ConnectionSettingsError(
            webhook.conn_id,
            f"the CA bundle {webhook.verify!r} (extra 'verify', or REQUESTS_CA_BUNDLE/CURL_CA_BUNDLE of the "
            "environment) does not exist on this machine",
        )
    return webhook
