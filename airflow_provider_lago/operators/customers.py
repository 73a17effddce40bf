"""Create and change customers in Lago."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_lago.api.customers import Clearing
from airflow_provider_lago.delivery.calls.customers import CustomerPlan
from airflow_provider_lago.delivery.shaping import check_columns
from airflow_provider_lago.operators.arguments import as_bool, check_choice
from airflow_provider_lago.operators.base import LagoDeliveryOperator


class LagoUpsertCustomerOperator(LagoDeliveryOperator):
    """
    Create customers in Lago, or change those that are there: one record or a million, each known by ``external_id``.

    Each customer is looked up first, so that ``accepted`` is split into ``created`` and ``updated``, metadata keeps its
    ids, and unchanged customers can be left alone. What a record does not name stays as it is in Lago. Dotted columns
    and ``fields`` nest: ``billing_configuration.payment_provider``, ``metadata.tier``.

    Takes all arguments of :class:`~airflow_provider_lago.operators.base.LagoDeliveryOperator`, and returns and raises
    the same.

    :param nulls: What a null in a record means: ``clear`` (default; Lago empties the field) or ``keep`` (as if the
        field were not there). Empty cells of a CSV are never nulls. ``billing_configuration.payment_provider`` is
        cleared only where ``clear`` names it, because Lago then discards the customer's payment methods.
    :param clear: Fields, dotted ones too, that Lago empties where a record has no value for them. (templated)
    :param metadata_mode: ``merge`` (default): metadata that a record does not name stays, and a null removes a key; or
        ``replace``: a record that names metadata gives all of it. Lago holds 5 for a customer.
    :param skip_unchanged: Leave out customers that Lago holds as they are to be; they count as ``skipped``. (templated)
    :param concurrency: Requests in flight; few, because Lago creates customers one at a time.
    """

    template_fields: Sequence[str] = (*LagoDeliveryOperator.template_fields, "clear", "skip_unchanged")

    def __init__(
        self,
        *,
        nulls: str = "clear",
        clear: Sequence[str] | None = None,
        metadata_mode: str = "merge",
        skip_unchanged: bool | str = False,
        concurrency: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(concurrency=concurrency, **kwargs)
        self.nulls = nulls
        self.clear = clear
        self.metadata_mode = metadata_mode
        self.skip_unchanged = skip_unchanged

    def _plan(self, common: dict[str, Any]) -> CustomerPlan:
        check_columns("clear", self.clear or ())
        return CustomerPlan(
            shaping=self._shaping(),
            clearing=Clearing(
                nulls=check_choice("nulls", self.nulls, ("clear", "keep")) == "clear", fields=tuple(self.clear or ())
            ),
            replace_metadata=check_choice("metadata_mode", self.metadata_mode, ("merge", "replace")) == "replace",
            skip_unchanged=as_bool(self.skip_unchanged, "skip_unchanged"),
            **common,
        )
