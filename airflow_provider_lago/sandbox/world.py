"""What every handler needs: the store, the clock and the organization's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from airflow_provider_lago.sandbox.expressions import Node, parse
from airflow_provider_lago.sandbox.releases import NEWEST, Release
from airflow_provider_lago.sandbox.store import Store
from airflow_provider_lago.sandbox.times import Clock, instant

# The same in every sandbox, so that ids derived from it (customers' slugs) do not change over restarts.
ORGANIZATION_ID = "00000000-0000-4000-8000-000000003c70"


@dataclass
class World:
    """
    The one organization of a sandbox.

    :param store: where everything is kept.
    :param clock: the time in seconds; tests may pass their own.
    :param max_batch: the longest batch of events that is taken.
    :param premium: whether Lago has a premium licence.
    :param release: the release of Lago that is imitated.
    """

    store: Store
    clock: Clock
    max_batch: int = 100
    premium: bool = False
    release: Release = NEWEST
    organization_id: str = ORGANIZATION_ID
    organization_name: str = "Acme"
    duplicates_refused: int = 0
    expressions: dict[str, tuple[str, Node]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._found()

    def _found(self) -> None:
        # At once, not on the first read: reading must not change what is stored.
        if self.store.find("organization", "") is None:
            self.store.add("organization", "", {"created_at": self.now(), "fields": {}})
        self.load_expressions()

    def reset(self) -> None:
        """Back to an empty organization."""
        self.store.reset()
        self.duplicates_refused = 0
        self._found()

    def now(self) -> int:
        """The present instant in microseconds."""
        return instant(self.clock())

    @property
    def slug(self) -> str:
        """The organization's slug, also the code of its only billing entity."""
        return re.sub(r"[^a-z0-9]+", "-", self.organization_name.lower()).strip("-")

    @property
    def document_prefix(self) -> str:
        """The prefix of customers' slugs: of the name and of the organization's id."""
        letters = re.sub(r"[^A-Z0-9]", "", self.organization_name.upper())
        return f"{letters[:3]}-{self.organization_id[-4:].upper()}"

    def load_expressions(self) -> None:
        """Compile the metrics' expressions again, after a metric changed."""
        self.expressions = {
            metric["code"]: (metric["field_name"], parse(metric["expression"]))
            for metric in self.store.all("billable_metric")
            if metric["expression"] and metric["field_name"]
        }
