"""Seed data without HTTP: what tests put into a sandbox before they run what they test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from airflow_provider_lago.sandbox import api
from airflow_provider_lago.sandbox.app import SandboxApp
from airflow_provider_lago.sandbox.call import Call


class Seeds:
    """The part of :class:`~airflow_provider_lago.sandbox.Sandbox` that calls its API from within."""

    app: SandboxApp
    api_key: str

    def call(self, method: str, path: str, body: object = None, *, query: str = "") -> dict[str, Any]:
        """
        Call the API without HTTP: no faults, no limit, no trace in ``requests``.

        :param path: below ``/api/v1``.
        :raises ValueError: if Lago would refuse it.
        """
        headers = {b"authorization": f"Bearer {self.api_key}".encode(), b"content-type": b"application/json"}
        encoded = b"" if body is None else msgspec.json.encode(body)
        call = Call(method, f"/api/v1{path}", query.encode(), headers, encoded)
        answer = api.answer(call, self.app.world, self.app.keys)
        if answer.status != 200:
            raise ValueError(f"{method} {path}: {answer.status} {answer.body.decode()}")
        parsed: dict[str, Any] = msgspec.json.decode(answer.body)
        return parsed

    def post(self, path: str, body: object) -> dict[str, Any]:
        """POST below ``/api/v1``, see :meth:`call`."""
        return self.call("POST", path, body)

    def add_metric(self, code: str, aggregation_type: str = "count_agg", **more: Any) -> dict[str, Any]:
        """Create a billable metric."""
        metric = {"name": code, "code": code, "aggregation_type": aggregation_type, **more}
        found: dict[str, Any] = self.post("/billable_metrics", {"billable_metric": metric})["billable_metric"]
        return found

    def add_plan(self, code: str, *, metrics: Iterable[str] = (), price: str = "1", **more: Any) -> dict[str, Any]:
        """
        Create a monthly plan in USD.

        :param metrics: codes of metrics, each charged at ``price`` per unit.
        """
        charges = []
        for name in metrics:
            metric = self.app.world.store.find("billable_metric", name)
            if metric is None:
                raise ValueError(f"There is no billable metric {name!r}; add_metric() comes first.")
            charge = {"charge_model": "standard", "properties": {"amount": price}}
            charges.append({"billable_metric_id": metric["lago_id"], **charge})
        plan = {
            "name": code,
            "code": code,
            "interval": "monthly",
            "amount_cents": 0,
            "amount_currency": "USD",
            "pay_in_advance": False,
            "charges": charges,
            **more,
        }
        found: dict[str, Any] = self.post("/plans", {"plan": plan})["plan"]
        return found

    def add_customer(self, external_id: str, **more: Any) -> dict[str, Any]:
        """Create or change a customer."""
        customer = {"external_id": external_id, **more}
        found: dict[str, Any] = self.post("/customers", {"customer": customer})["customer"]
        return found

    def add_subscription(
        self, external_id: str, external_customer_id: str, plan_code: str, **more: Any
    ) -> dict[str, Any]:
        """Subscribe a customer to a plan."""
        ids = {
            "external_id": external_id,
            "external_customer_id": external_customer_id,
            "plan_code": plan_code,
        }
        found: dict[str, Any] = self.post("/subscriptions", {"subscription": {**ids, **more}})["subscription"]
        return found
