"""
What Airflow learns about this provider without importing it.

A pure dict: Airflow reads it unguarded when any of its commands starts, so nothing here may fail. From
Airflow 3.2 on it is also the connection form; earlier releases ask
:class:`~airflow_provider_lago.hooks.lago.LagoHook`, which builds the same form from this dict.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the shape of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-lago",
        "name": "Lago",
        "description": "Usage events, customers and subscriptions for `Lago <https://www.getlago.com/>`__.",
        "integrations": [
            {
                "integration-name": "Lago",
                "external-doc-url": "https://www.getlago.com/docs/api-reference/intro",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": "Lago",
                "python-modules": [
                    "airflow_provider_lago.operators.customers",
                    "airflow_provider_lago.operators.events",
                    "airflow_provider_lago.operators.extract",
                    "airflow_provider_lago.operators.requests",
                    "airflow_provider_lago.operators.subscriptions",
                ],
            },
        ],
        "hooks": [
            {"integration-name": "Lago", "python-modules": ["airflow_provider_lago.hooks.lago"]},
        ],
        "task-decorators": [
            {
                "name": "lago_ingest_events",
                "class-name": "airflow_provider_lago.decorators.events.lago_ingest_events_task",
            }
        ],
        "connection-types": [
            {
                "connection-type": "lago",
                "hook-class-name": "airflow_provider_lago.hooks.lago.LagoHook",
                "hook-name": "Lago",
                "ui-field-behaviour": {
                    # The port stays: Airflow 3.3.1 and 3.3.2 cannot test a stored connection without one.
                    "hidden-fields": ["login", "schema"],
                    "relabeling": {"host": "API URL", "password": "API key"},
                    "placeholders": {
                        "host": "empty for Lago Cloud, or https://lago.example.com",
                        "port": "443",
                        "password": "Lago: Developers, API keys",
                    },
                },
                "conn-fields": {
                    "region": {
                        "label": "Region",
                        "description": "Region of Lago Cloud: us (default) or eu. Empty for a self-hosted Lago.",
                        "schema": {
                            "type": ["string", "null"],
                            "enum": ["us", "eu", None],
                            "values_display": {"us": "us", "eu": "eu", "None": "not set"},
                        },
                    },
                    "timeout": {
                        "label": "Timeout",
                        "description": "Longest wait for an answer, in seconds. Empty for 30.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 3600},
                    },
                    "verify_tls": {
                        "label": "Verify TLS",
                        "description": "Check the server's certificate. Switch off for tests only.",
                        "schema": {"type": ["boolean", "null"], "default": True},
                    },
                    "ca_bundle": {
                        "label": "CA bundle",
                        "description": "Path, on the workers, of the certificates to trust instead of the usual ones.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "URL of an HTTP proxy. Empty for the environment's.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "requests_per_second": {
                        "label": "Requests per second",
                        "description": "Upper bound of the pace of one task. Empty for none.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "ingest_host": {
                        "label": "Ingest URL",
                        "description": "Separate address for single events, such as https://ingest.getlago.com.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "allow_plain_http": {
                        "label": "Allow plain HTTP",
                        "description": "Accept http:// to a public address. The API key then travels readable.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            }
        ],
    }
