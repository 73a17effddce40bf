"""Deliver usage events to Lago."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_lago.api.connection import ConnectionSettingsError
from airflow_provider_lago.api.timestamps import UNITS
from airflow_provider_lago.delivery.identity import RANDOM
from airflow_provider_lago.delivery.plan import LARGEST_BATCH, Plan
from airflow_provider_lago.delivery.report import FolderReport, NoReport, Report
from airflow_provider_lago.delivery.shaping import Shaper, Shaping
from airflow_provider_lago.exceptions import (
    LagoConnectionError,
    LagoDeliveryError,
    LagoFatalDeliveryError,
    LagoInputError,
    LagoRejectedError,
)
from airflow_provider_lago.operators.arguments import (
    Threshold,
    as_bool,
    check_choice,
    check_rate,
    check_whole,
    check_zone,
)
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.rows import NothingFound, Source, SourceError
from airflow_provider_lago.sources.values import ValueSource

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lago.delivery.delivery import Delivery, Result
    from airflow_provider_lago.delivery.tally import Tally
    from airflow_provider_lago.hooks.lago import LagoHook

_PREVIEWED = 3
_NOW = "now"


class LagoIngestEventsOperator(BaseOperator):
    """
    Deliver usage events to Lago: each record of the source exactly once, or into a file that says why not.

    Records are shaped into events, checked, sent in batches with several requests in flight, and settled one by one:
    a bad event costs only itself, an event that Lago already has counts as duplicate, and a lost answer is found out
    by sending the same events again. See the guide for what each answer of Lago means.

    :param records: The records: a dict, a list of dicts, or another task's output (``records=that_task.output``). For
        more than some thousand records use ``files``: Airflow renders and stores every element. (templated)
    :param files: A path, a glob, or a list of them; ``.jsonl``, ``.ndjson`` (one JSON object a line) and ``.csv``
        (with a header; empty cells are missing values). (templated)
    :param fields: Event field -> column or dotted path of the record, for columns that are not named like Lago's
        fields: ``{"external_subscription_id": "account.id"}``. Event fields that are not mapped are taken from the
        columns of their own names. (templated)
    :param constants: Event field -> value that is the same for all records: ``{"code": "api_calls"}``. Dotted names
        nest: ``{"properties.region": "eu"}``. ``{"timestamp": "now"}`` takes the start of the delivery for all records;
        a retry of the task then has another time, which Lago's ClickHouse store bills again. (templated)
    :param properties: Columns to nest under ``properties``: a list of columns or dotted paths, or
        ``{property: column}``. A record in which one is missing or null is rejected, because Lago would not bill it;
        write ``"column?"`` where that is fine. (templated)
    :param exclude: Attributes of the records to leave out, dotted paths allowed. (templated)
    :param transform: Callable record -> record, or None to skip the record. Applied first. Numbers with a fraction
        from JSON files arrive as ``decimal.Decimal``.
    :param transaction_id: How to derive the id of a record that has none: a list of columns that identify a record,
        ``"hash"`` (of the event's content: records that say exactly the same count once), a callable record -> id, or
        ``"random"``. Derived ids depend on the record
        alone, so that a repeated delivery adds nothing; ``"random"`` bills a repeated delivery again. Without it, a
        record without an id is rejected. Not templated: Airflow calls functions in template fields.
    :param timestamp_unit: Unit of timestamps that are numbers: ``s`` (default), ``ms``, ``us`` or ``ns``. Datetimes and
        ISO 8601 texts are always understood.
    :param timezone: Time zone of timestamps that name none, default ``UTC``.
    :param batch_size: Events of a request, 1 to 100 (Lago's limit); 1 sends each event alone, to ``POST /events``.
    :param concurrency: Requests in flight.
    :param requests_per_second: Upper bound of requests a second; the connection's own bound holds as well.
    :param max_rejected: How many records may be rejected: a count, or a share of the records as a float (``0.01``) or
        text (``"1%"``). Above it the task fails after everything deliverable was delivered, without Airflow retries.
        Without ``report_path`` any rejected record fails the task. (templated)
    :param on_duplicate: ``accept`` (default) or ``fail``: whether events that Lago has already fail the task, after
        everything was delivered.
    :param report_path: Folder for ``rejected.jsonl`` (each rejected record with its place and the reason) and
        ``summary.json``; files of earlier runs are kept under other names. A mapped task writes into a folder of its
        map index below it. (templated)
    :param skip_on_empty: Skip the task if a glob matches no file or the source has no records. By default a file
        source without records is an error, an empty ``records`` is not.
    :param dry_run: Send nothing; log and return the first requests exactly as they would be sent, without the key.
        (templated)
    :param lago_conn_id: The Airflow connection to Lago. (templated)
    :return: Counts and report paths: ``read``, ``accepted``, ``duplicate``, ``rejected``, ``skipped``, ``requests``,
        ``seconds``, ``report``, ``reasons``.
    :raises LagoInputError: if the arguments or the source are wrong; not retried by Airflow.
    :raises LagoRejectedError: if more records were rejected than ``max_rejected`` allows; not retried.
    :raises LagoFatalDeliveryError: if Lago refuses the key, the permission or the address; not retried.
    :raises LagoDeliveryError: if Lago could not be reached for too long; Airflow retries it, and nothing is doubled.
    """

    template_fields: Sequence[str] = (
        "lago_conn_id",
        "records",
        "files",
        "fields",
        "constants",
        "properties",
        "exclude",
        "max_rejected",
        "report_path",
        "preview",
    )
    # No extensions: the paths in ``files`` would be replaced by the contents of the files.
    template_ext: Sequence[str] = ()
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "records": "json",
        "files": "json",
        "fields": "json",
        "constants": "json",
        "properties": "json",
    }
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        records: Any = None,
        files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        fields: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        properties: Sequence[str] | Mapping[str, str] | None = None,
        exclude: Sequence[str] | None = None,
        transform: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None,
        transaction_id: str | Sequence[str] | Callable[[Mapping[str, Any]], str] | None = None,
        timestamp_unit: str = "s",
        timezone: str = "UTC",
        batch_size: int = 100,
        concurrency: int = 8,
        requests_per_second: float | None = None,
        max_rejected: int | float | str = 0,
        on_duplicate: str = "accept",
        report_path: str | os.PathLike[str] | None = None,
        skip_on_empty: bool = False,
        dry_run: bool | str = False,
        lago_conn_id: str = "lago_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.records = records
        self.files = files
        self.fields = fields
        self.constants = constants
        self.properties = properties
        self.exclude = exclude
        self.transform = transform
        self.transaction_id = transaction_id
        self.timestamp_unit = timestamp_unit
        self.timezone = timezone
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.requests_per_second = requests_per_second
        self.max_rejected = max_rejected
        self.on_duplicate = on_duplicate
        self.report_path = report_path
        self.skip_on_empty = skip_on_empty
        self.preview = dry_run  # BaseOperator has a method of the name dry_run
        self.lago_conn_id = lago_conn_id

    _delivery: Delivery | None = None

    @cached_property
    def hook(self) -> LagoHook:
        """The hook of this task's connection."""
        # Imported here because requests is most of what importing this module would cost every parsing of a DAG file.
        from airflow_provider_lago.hooks.lago import LagoHook

        return LagoHook(self.lago_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Deliver the records and return the summary."""
        try:
            threshold = Threshold(self.max_rejected)
            check_choice("on_duplicate", self.on_duplicate, ("accept", "fail"))
            preview = as_bool(self.preview, "dry_run")
            plan = self._plan()
        except NothingFound as error:
            if self.skip_on_empty:
                raise AirflowSkipException(str(error)) from None
            raise self._input_error(error) from None
        except ValueError as error:
            raise self._input_error(error) from None
        if preview:
            return self._preview(plan)
        report = self._open_report(context)
        result, summary = self._deliver(plan, report)
        self._judge(result, threshold, report)
        return summary

    def on_kill(self) -> None:
        """End the delivery: on Airflow 3 nothing else does when the task is marked, cleared or terminated."""
        if self._delivery is not None:
            self._delivery.stop()

    def _plan(self) -> Plan:
        from airflow_provider_lago.hooks.session import user_agent

        shaping = self._shaping()
        Shaper(shaping)  # checks the settings before anything is read
        settings = self.hook.settings
        own = check_rate("requests_per_second", self.requests_per_second)
        bounds = [bound for bound in (own, settings.requests_per_second) if bound is not None]
        return Plan(
            source=self._source(),
            shaping=shaping,
            settings=settings,
            user_agent=user_agent(),
            batch_size=check_whole("batch_size", self.batch_size, 1, LARGEST_BATCH),
            concurrency=check_whole("concurrency", self.concurrency, 1, 256),
            requests_per_second=min(bounds, default=None),
        )

    def _source(self) -> Source:
        if (self.records is None) == (self.files is None):
            given = "both" if self.files is not None else "neither"
            raise SourceError(
                f"give exactly one of records and files, not {given}; an upstream task may have returned None"
            )
        return ValueSource(self.records) if self.files is None else FileSource(self.files)

    def _shaping(self) -> Shaping:
        return Shaping(
            fields=self.fields or {},
            constants=self._constants(),
            properties=self.properties or (),
            exclude=self.exclude or (),
            transform=self.transform,
            transaction_id=self.transaction_id,
            timestamp_unit=check_choice("timestamp_unit", self.timestamp_unit, tuple(UNITS)),
            zone=check_zone("timezone", self.timezone),
        )

    def _constants(self) -> dict[str, Any]:
        constants = dict(self.constants or {})
        if constants.get("timestamp") == _NOW:
            constants["timestamp"] = datetime.now(UTC)
            self.log.warning(
                "All events get the time of this try, %s: a retry has another one, and where Lago stores events in "
                "ClickHouse it bills them again",
                constants["timestamp"].isoformat(),
            )
        if self.transaction_id == RANDOM:
            self.log.warning("Ids are random, as asked for: a retry or rerun of this task bills every record again")
        return constants

    def _open_report(self, context: Context) -> Report:
        if not self.report_path:
            return NoReport()
        ti = context.get("ti")
        run = {name: getattr(ti, name, None) for name in ("dag_id", "run_id", "task_id", "map_index", "try_number")}
        try:
            if "://" in os.fspath(self.report_path):
                raise ValueError(f"report_path {os.fspath(self.report_path)!r} must be a local folder, not a URI")
            folder = Path(self.report_path)
            if run["map_index"] is not None and run["map_index"] >= 0:
                folder = folder / str(run["map_index"])
            return FolderReport(folder, run)
        except OSError as error:
            problem = f"report_path {str(self.report_path)!r} cannot be written: {error.strerror or error}"
        except (ValueError, TypeError) as error:
            problem = f"report_path: {error}"
        raise self._input_error(problem)

    def _deliver(self, plan: Plan, report: Report) -> tuple[Result, dict[str, Any]]:
        from airflow_provider_lago.delivery.delivery import Delivery
        from airflow_provider_lago.delivery.loop_thread import Stopped

        self.log.info(
            "Delivering %s to %s: %s events a request, %s requests in flight",
            plan.source,
            plan.url,
            plan.batch_size,
            plan.concurrency,
        )
        self._delivery = delivery = Delivery(plan, report, self.log)
        try:
            result = delivery.run()
        except BaseException as error:
            self._keep_partial(delivery, report, error)
            if isinstance(error, Stopped):
                raise LagoDeliveryError(
                    f"Task {self.task_id!r} was ended by Airflow; a retry goes on without doubling anything"
                ) from None
            if isinstance(error, ConnectionSettingsError):
                raise LagoConnectionError(str(error)) from None
            raise
        summary = {**result.summary(), "report": report.paths()}
        report.finish(summary)
        self.log.info("Delivery ended: %s", _in_words(summary))
        return result, summary

    def _keep_partial(self, delivery: Delivery, report: Report, error: BaseException) -> None:
        """Write down how far a delivery came; what ended it must not be hidden by what this runs into."""
        partial = delivery.interrupted(f"interrupted by {type(error).__name__}").summary()
        self.log.warning("Delivery did not end: %s", _in_words(partial))
        try:
            report.finish(partial)
        except OSError as trouble:
            self.log.warning("The report in %s could not be finished: %s", self.report_path, trouble)

    def _judge(self, result: Result, threshold: Threshold, report: Report) -> None:
        """Raise what the result means for the task."""
        tally = result.tally
        if result.halt is not None:
            left = (
                f"{tally.accepted:,} accepted, {tally.duplicate:,} duplicate, {tally.rejected:,} rejected; the rest of "
                "the source was not sent and nothing of it is lost: a rerun goes on without doubling anything"
            )
            kind = LagoFatalDeliveryError if result.halt.final else LagoDeliveryError
            raise kind(f"Delivery stopped: {result.halt.why}. So far {left}")
        if tally.read == 0:
            self._judge_empty()
        evidence = report.paths().get("rejected")
        if tally.rejected and not evidence:
            raise LagoRejectedError(
                f"{self._rejected(tally)}. All others were delivered. Set report_path to keep the rejected records "
                "in a file; then max_rejected may allow some"
            )
        if not threshold.allows(tally.rejected, tally.read):
            raise LagoRejectedError(
                f"{self._rejected(tally)}, more than max_rejected={threshold} allows. All others were delivered, "
                f"the rejected ones are in {evidence}"
            )
        if tally.duplicate and self.on_duplicate == "fail":
            raise LagoRejectedError(
                f"{tally.duplicate:,} of {tally.read:,} records were in Lago already, or twice in the source, and "
                "on_duplicate='fail'. All others were delivered"
            )

    def _judge_empty(self) -> None:
        if self.skip_on_empty:
            raise AirflowSkipException("the source has no records")
        if self.files is not None:
            raise self._input_error(f"{self.files!r} holds no records; set skip_on_empty=True where that is normal")
        self.log.warning("records is empty: nothing was delivered")

    def _rejected(self, tally: Tally) -> str:
        most = "; ".join(f"{reason} ({count:,})" for reason, count in tally.reasons.most_common(3))
        return f"{tally.rejected:,} of {tally.read:,} records were rejected: {most}"

    def _preview(self, plan: Plan) -> dict[str, Any]:
        from airflow_provider_lago.delivery.preview import preview

        shown = preview(plan, _PREVIEWED, self.log)
        for request in shown["preview"]:
            self.log.info("Dry run, not sent: %s %s\n%s", request["method"], request["url"], request["body"])
        return shown

    def _input_error(self, error: object) -> LagoInputError:
        return LagoInputError(f"Task {self.task_id!r}: {error}")


def _in_words(summary: Mapping[str, Any]) -> str:
    counts = [f"{name} {value:,}" for name, value in summary.items() if isinstance(value, (int, float))]
    reasons = [f"{count:,} x {reason}" for reason, count in summary["reasons"].items()]
    said = [summary["halted"]] if "halted" in summary else []
    paths = list(summary.get("report", {}).values())
    return "; ".join(", ".join(part) for part in (counts, reasons, said, paths) if part)
