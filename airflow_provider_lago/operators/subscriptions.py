"""Create subscriptions in Lago, change their plans, and end them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_lago.delivery.calls.subscriptions import CHANGE_PLAN, FAIL, KEEP, SubscriptionPlan
from airflow_provider_lago.delivery.calls.terminations import OPTIONS, TerminationPlan
from airflow_provider_lago.operators.arguments import as_bool, check_choice, check_zone
from airflow_provider_lago.operators.base import LagoDeliveryOperator


class LagoCreateSubscriptionOperator(LagoDeliveryOperator):
    """
    Create subscriptions in Lago: each once, however often it runs, and no plan changed by accident.

    Each subscription is looked up first, as posting one that is there changes its plan and bills. ``accepted`` is split
    into ``created``, ``unchanged`` (it was there), ``upgraded`` (from now on), ``downgraded`` (from the end of the
    period) and ``changed`` (one that had not begun). Receipts tell status, plan, and the plans before and after it.

    Takes all arguments of :class:`~airflow_provider_lago.operators.base.LagoDeliveryOperator`, and returns and raises
    the same. Times (``subscription_at``, ``ending_at``) may be datetimes, days or ISO 8601 texts.

    :param on_existing: What to do where Lago has an active, pending or incomplete subscription of that id: ``keep``
        (default; one with another plan rejects the record), ``change_plan`` (which moves money) or ``fail`` (reject).
        A record with ``plan_overrides`` is never posted onto a subscription that exists: Lago would end that one, bill
        it and begin another.
    :param require_customer: Reject a record whose customer Lago does not hold (default); it would make an empty one out
        of a misspelt id. (templated)
    :param timezone: Time zone of times that name none, default ``UTC``.
    :param concurrency: Requests in flight.
    """

    template_fields: Sequence[str] = (*LagoDeliveryOperator.template_fields, "on_existing", "require_customer")

    def __init__(
        self,
        *,
        on_existing: str = KEEP,
        require_customer: bool | str = True,
        timezone: str = "UTC",
        concurrency: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(concurrency=concurrency, **kwargs)
        self.on_existing = on_existing
        self.require_customer = require_customer
        self.timezone = timezone

    @property
    def bills(self) -> bool:
        """Beginning, changing and ending a subscription moves money."""
        return True

    def _plan(self, common: dict[str, Any]) -> SubscriptionPlan:
        return SubscriptionPlan(
            shaping=self._shaping(),
            on_existing=check_choice("on_existing", self.on_existing, (KEEP, CHANGE_PLAN, FAIL)),
            require_customer=as_bool(self.require_customer, "require_customer"),
            zone=check_zone("timezone", self.timezone),
            **common,
        )


class LagoTerminateSubscriptionOperator(LagoDeliveryOperator):
    """
    End subscriptions in Lago. One that has ended already is ``skipped``.

    A record needs ``external_id``, and may give the three options below for itself. An id with a dot is rejected: Lago
    would cut it at the dot and end another subscription.

    Takes all arguments of :class:`~airflow_provider_lago.operators.base.LagoDeliveryOperator`, and returns and raises
    the same. ``accepted`` is split into ``terminated`` and ``canceled``.

    :param status: Which subscription of an id: ``active`` (default), or ``pending`` for one that has not begun, such as
        a downgrade. (templated)
    :param on_termination_credit_note: For plans that are paid in advance: ``credit`` (Lago's default), ``refund``,
        ``skip`` or ``offset``. (templated)
    :param on_termination_invoice: ``generate`` (Lago's default) or ``skip``. (templated)
    :param concurrency: Requests in flight.
    """

    template_fields: Sequence[str] = (*LagoDeliveryOperator.template_fields, *OPTIONS)

    def __init__(
        self,
        *,
        status: str = "active",
        on_termination_credit_note: str | None = None,
        on_termination_invoice: str | None = None,
        concurrency: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(concurrency=concurrency, **kwargs)
        self.status = status
        self.on_termination_credit_note = on_termination_credit_note
        self.on_termination_invoice = on_termination_invoice

    @property
    def bills(self) -> bool:
        """Beginning, changing and ending a subscription moves money."""
        return True

    def _plan(self, common: dict[str, Any]) -> TerminationPlan:
        # A template gives an empty text for none.
        options: dict[str, Any] = {name: getattr(self, name) or None for name in OPTIONS}
        for name, value in options.items():
            if value is not None:
                check_choice(name, value, OPTIONS[name])
        return TerminationPlan(shaping=self._shaping(), **{**options, "status": self.status or "active"}, **common)
