"""
Lago's answers as a source of their own: each goes, with the records it is about, to a file and to a webhook.

:class:`NoResponses` keeps none, :class:`FileResponses` writes JSONL, :class:`WebhookResponses` posts, and
:class:`AllResponses` does several of these.
"""

from __future__ import annotations

from airflow_provider_lago.delivery.responses.file import FileResponses
from airflow_provider_lago.delivery.responses.response import Response
from airflow_provider_lago.delivery.responses.sinks import AllResponses, NoResponses, Responses
from airflow_provider_lago.delivery.responses.webhook import Limits, WebhookResponses

__all__ = [
    "AllResponses",
    "FileResponses",
    "Limits",
    "NoResponses",
    "Response",
    "Responses",
    "WebhookResponses",
]
