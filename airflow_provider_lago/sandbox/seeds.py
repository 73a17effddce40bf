"""Seed data without HTTP: what tests put into a sandbox before they run what they test."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable
from typing import Any

import msgspec

from airflow_provider_lago.sandbox import api
from airflow_provider_lago.sandbox.app import SandboxApp
from airflow_provider_lago.sandbox.call import Call
from airflow_provider_lago.sandbox.integrations import add_integration
from airflow_provider_lago.sandbox.lifecycle import hold_back, pay
from airflow_provider_lago.sandbox.payment_providers import add_provider
from airflow_provider_lago.sandbox.resources import must_get
from airflow_provider_lago.sandbox.store import Doc
from airflow_provider_lago.sandbox.subscription_views import STATUSES
from airflow_provider_lago.sandbox.times import SECOND, iso


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

    def add_tax(self, code: str, rate: float = 20.0, **more: Any) -> dict[str, Any]:
        """Create a tax."""
        found: dict[str, Any] = self.post("/taxes", {"tax": {"name": code, "code": code, "rate": rate, **more}})["tax"]
        return found

    def add_add_on(self, code: str, *, amount_cents: int = 100, **more: Any) -> dict[str, Any]:
        """Create an add-on, in USD unless told otherwise."""
        money = {"amount_cents": amount_cents, "amount_currency": "USD"}
        body = {"add_on": {"name": code, "code": code, **money, **more}}
        found: dict[str, Any] = self.post("/add_ons", body)["add_on"]
        return found

    def add_coupon(self, code: str, *, amount_cents: int = 100, **more: Any) -> dict[str, Any]:
        """Create a coupon of a fixed amount for one use, in USD unless told otherwise."""
        money = {"coupon_type": "fixed_amount", "amount_cents": amount_cents, "amount_currency": "USD"}
        body = {"coupon": {"name": code, "code": code, **money, "frequency": "once", **more}}
        found: dict[str, Any] = self.post("/coupons", body)["coupon"]
        return found

    def add_wallet(self, external_customer_id: str, *, rate_amount: str = "1", **more: Any) -> dict[str, Any]:
        """Give a customer a wallet, in USD unless told otherwise."""
        wallet = {"external_customer_id": external_customer_id, "rate_amount": rate_amount, "currency": "USD"}
        found: dict[str, Any] = self.post("/wallets", {"wallet": {**wallet, **more}})["wallet"]
        return found

    def add_payment_provider(self, kind: str, code: str) -> None:
        """
        Have an account with a payment provider, which customers may then be linked to.

        :param kind: ``stripe``, ``gocardless``, ``cashfree``, ``adyen``, ``flutterwave`` or ``moneyhash``.
        """
        with self.app.world.store.lock:
            add_provider(kind, code, self.app.world)

    def add_integration(self, kind: str, code: str) -> None:
        """Be connected to another system (``netsuite``, ``xero`` ...), which customers may then be linked to."""
        with self.app.world.store.lock:
            add_integration(kind, code, self.app.world)

    def add_subscription(
        self, external_id: str, external_customer_id: str, plan_code: str, *, status: str = "", **more: Any
    ) -> dict[str, Any]:
        """
        Subscribe a customer to a plan.

        :param status: bring it to this status: ``pending`` (it starts in 30 days if ``subscription_at`` does not
            say), ``incomplete`` (waiting for its first payment), ``terminated`` or ``canceled``.
        """
        if status not in ("", *STATUSES):
            raise ValueError(f"{status!r} is no status; there are {', '.join(STATUSES)}.")
        ids = {"external_id": external_id, "external_customer_id": external_customer_id, "plan_code": plan_code}
        if status in ("pending", "canceled"):
            more.setdefault("subscription_at", iso(self.app.world.now() + 30 * 86_400 * SECOND))
        found: dict[str, Any] = self.post("/subscriptions", {"subscription": {**ids, **more}})["subscription"]
        path = f"/subscriptions/{urllib.parse.quote(external_id, safe='')}"
        if status == "incomplete":
            with self.app.world.store.lock:
                hold_back(self._subscription(found["lago_id"]), self.app.world)
        elif status in ("terminated", "canceled"):
            self.call("DELETE", path, query="status=pending" if status == "canceled" else "")
        if status in ("incomplete", "terminated", "canceled"):
            found = self.call("GET", path, query=f"status={status}")["subscription"]
        return found

    def pay_subscription(self, external_id: str) -> dict[str, Any]:
        """
        Let the first payment of an incomplete subscription succeed: it becomes active.

        :raises ValueError: if there is none.
        """
        path = f"/subscriptions/{urllib.parse.quote(external_id, safe='')}"
        waiting = self.call("GET", path, query="status=incomplete")["subscription"]
        with self.app.world.store.lock:
            pay(self._subscription(waiting["lago_id"]), self.app.world)
        found: dict[str, Any] = self.call("GET", path)["subscription"]
        return found

    def _subscription(self, lago_id: str) -> Doc:
        return must_get(self.app.world, "subscription", lago_id)
