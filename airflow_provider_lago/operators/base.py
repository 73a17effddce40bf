"""What all operators that deliver records have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_lago.api.connection import ConnectionSettingsError
from airflow_provider_lago.api.plain_text import plain
from airflow_provider_lago.delivery.report import UNFORWARDED, FolderReport, NoReport, Report, write_preview
from airflow_provider_lago.delivery.shaping import Shaping
from airflow_provider_lago.exceptions import (
    LagoConnectionError,
    LagoDeliveryError,
    LagoFatalDeliveryError,
    LagoInputError,
    LagoRejectedError,
)
from airflow_provider_lago.operators.arguments import Threshold, as_bool, as_count, check_rate, check_whole
from airflow_provider_lago.operators.durability import begin_anew, conclude, find_durability
from airflow_provider_lago.operators.files import file_reading, object_store
from airflow_provider_lago.operators.folders import map_folder, open_folder
from airflow_provider_lago.operators.sql import load_sql, open_sql
from airflow_provider_lago.sources.files import FileSource
from airflow_provider_lago.sources.finding import Files
from airflow_provider_lago.sources.rows import Limited, NothingFound, Source, SourceError
from airflow_provider_lago.sources.values import ValueSource
from airflow_provider_lago.storage.lines import CannotContinueError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from jinja2 import Environment

    from airflow_provider_lago.delivery.checkpoint import Checkpoint, Durability
    from airflow_provider_lago.delivery.delivery import Delivery, Result
    from airflow_provider_lago.delivery.plan import Plan
    from airflow_provider_lago.delivery.responses import Responses
    from airflow_provider_lago.delivery.tally import Tally
    from airflow_provider_lago.hooks.lago import LagoHook
    from airflow_provider_lago.sources.sql import SqlSource
    from airflow_provider_lago.storage.folders import Folder

_PREVIEWED = 3

#: What tells one run of a task from another, in reports.
_RUN = ("dag_id", "run_id", "task_id", "map_index", "try_number")


class LagoDeliveryOperator(BaseOperator):
    """
    Deliver records to Lago: each exactly once, or into a file that says why not. The base of all that deliver.

    :param records: The records: a dict, a list of dicts, or another task's output (``records=that_task.output``). For
        more than some thousand records use ``files``: Airflow renders and stores every element. (templated)
    :param files: A path, a glob, or a list of them: on this machine, or in an object store
        (``s3://conn_id@bucket/usage/*.parquet``). ``.jsonl`` and ``.ndjson`` (one JSON object a line), ``.json`` (an
        array), ``.csv`` and ``.tsv`` (with a header; empty cells are missing values), ``.parquet``, ``.avro``; each may
        be compressed with gzip, bz2 or zstd. Parts of files, as :func:`~airflow_provider_lago.sharding.plan_shards`
        gives them, too. The ``rejected.jsonl`` of an earlier delivery gives its records as they were read, to be
        delivered with a better shaping. (templated)
    :param file_format: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet`` or ``avro``, where the names do not say it.
    :param csv_options: How CSV files are written, and what their columns hold; see
        :class:`~airflow_provider_lago.sources.csv_options.CsvOptions`.
    :param sql: One SELECT, or a ``.sql`` file that holds one: its rows are the records, column names their attributes,
        NULL is a missing value. Read while it is delivered, in a read-only transaction. (templated)
    :param sql_conn_id: Airflow connection of the database, of any type with a hook of Airflow's common SQL provider.
        (templated)
    :param sql_parameters: Values for the placeholders in ``sql``, a list or a dict, bound by the driver in its own
        style: what comes from outside belongs here, not into the text of ``sql``. (templated)
    :param fields: Payload field -> column or dotted path of the record, for columns that are not named like Lago's
        fields. (templated)
    :param constants: Payload field -> value that is the same for all records. Dotted names nest. (templated)
    :param exclude: Attributes of the records to leave out, dotted paths allowed. (templated)
    :param transform: Callable record -> record, or None to skip the record. Applied first. Numbers with a fraction
        from JSON files arrive as ``decimal.Decimal``.
    :param limit: Deliver only the first so many records of the source, for a trial. (templated)
    :param concurrency: Requests in flight.
    :param requests_per_second: Upper bound of requests a second; the connection's own bound holds as well.
    :param max_rejected: How many records may be rejected: a count, or a share of the records as a float (``0.01``) or
        text (``"1%"``). Above it the task fails after everything deliverable was delivered, without Airflow retries.
        Without ``report_path`` any rejected record fails the task. (templated)
    :param report_path: Folder for ``rejected.jsonl`` (each rejected record with its place and the reason) and
        ``summary.json``: a local one, or the URI of one in an object store, such as ``s3://conn_id@bucket/reports``.
        Files of earlier runs are kept under other names. A mapped task writes into a folder of its map index below it.
        (templated)
    :param receipts: Write ``receipts.jsonl`` into ``report_path`` too: a line for each record with its outcome, Lago's
        own id and the id of the request. (templated)
    :param responses_path: File that gets Lago's answers, one JSON line each, with the positions and ids of the records
        they are about; a file of an earlier run is kept under another name. A mapped task writes into a folder of its
        map index beside it. (templated)
    :param response_webhook_conn_id: Airflow connection of type ``http`` to which each answer is posted, in the same
        form. What it does never fails or repeats the delivery: a post that fails is tried again, then reported. It may
        get an answer twice, under the same ``Idempotency-Key``. (templated)
    :param response_webhook_path: Path of the webhook below that connection's address. (templated)
    :param skip_on_empty: Skip the task if a glob matches no file or the source has no records. By default a file
        source without records is an error, an empty ``records`` and a statement without rows are not.
    :param dry_run: Send nothing; log and return the first requests exactly as they would be sent, without the key, and
        write them to ``preview.jsonl`` in ``report_path``. (templated)
    :param durable: Keep a checkpoint, so that a retry goes on where the try before was killed: in Airflow's task state
        store (Airflow 3.3 and newer), or else in ``report_path``. See
        :mod:`airflow_provider_lago.operators.durability` for what it does and does not do.
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
        "sql",
        "sql_conn_id",
        "sql_parameters",
        "fields",
        "constants",
        "exclude",
        "limit",
        "max_rejected",
        "report_path",
        "receipts",
        "responses_path",
        "response_webhook_conn_id",
        "response_webhook_path",
        "preview",
    )
    # No extensions: the paths in ``files`` would be replaced by the contents of the files. For ``sql`` see load_sql.
    template_ext: Sequence[str] = ()
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "records": "json",
        "files": "json",
        "sql": "sql",
        "sql_parameters": "json",
        "fields": "json",
        "constants": "json",
    }
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        records: Any = None,
        files: Files | None = None,
        file_format: str | None = None,
        csv_options: Mapping[str, Any] | None = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        sql_parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        fields: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        exclude: Sequence[str] | None = None,
        transform: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None,
        limit: int | str | None = None,
        concurrency: int = 8,
        requests_per_second: float | None = None,
        max_rejected: int | float | str = 0,
        report_path: str | os.PathLike[str] | None = None,
        receipts: bool | str = False,
        responses_path: str | os.PathLike[str] | None = None,
        response_webhook_conn_id: str | None = None,
        response_webhook_path: str | None = None,
        skip_on_empty: bool = False,
        dry_run: bool | str = False,
        durable: bool = True,
        lago_conn_id: str = "lago_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.records = records
        self.files = files
        self.file_format = file_format
        self.csv_options = csv_options
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.sql_parameters = sql_parameters
        self.fields = fields
        self.constants = constants
        self.exclude = exclude
        self.transform = transform
        self.limit = limit
        self.concurrency = concurrency
        self.requests_per_second = requests_per_second
        self.max_rejected = max_rejected
        self.report_path = report_path
        self.receipts = receipts
        self.responses_path = responses_path
        self.response_webhook_conn_id = response_webhook_conn_id
        self.response_webhook_path = response_webhook_path
        self.skip_on_empty = skip_on_empty
        self.preview = dry_run  # BaseOperator has a method of the name dry_run
        self.durable = durable
        self.lago_conn_id = lago_conn_id
        self.edits: Mapping[str, Any] = {}  # what a trial from a shell changes in each payload

    _delivery: Delivery | None = None
    _read_files: Sequence[str] = ()
    _is_shard = False
    _rows: SqlSource | None = None

    @cached_property
    def hook(self) -> LagoHook:
        """The hook of this task's connection."""
        # Imported here because requests is most of what importing this module would cost every parsing of a DAG file.
        from airflow_provider_lago.hooks.lago import LagoHook

        return LagoHook(self.lago_conn_id)

    @property
    def bills(self) -> bool:
        """Whether what is delivered moves money or is billed, so that a trial from a shell must ask twice."""
        return False

    @property
    def _keeps_conflicts(self) -> bool:
        """Whether the report keeps both sides of what Lago holds with another content."""
        return False

    @property
    def _is_resumable(self) -> bool:
        """Whether a retry may go on where the try before left off."""
        return True

    @abstractmethod
    def _plan(self, common: dict[str, Any]) -> Plan[Any]:
        """
        Return what to deliver and how.

        :param common: The arguments that every plan takes.
        :raises ValueError: if an argument is wrong.
        """

    def plan(self) -> Plan[Any]:
        """
        Return what this operator would deliver and how, its templates being rendered.

        :raises ValueError: if an argument or the source is wrong.
        """
        from airflow_provider_lago.hooks.session import user_agent

        settings = self.hook.settings
        own = check_rate("requests_per_second", self.requests_per_second)
        bounds = [bound for bound in (own, settings.requests_per_second) if bound is not None]
        return self._plan(
            {
                "source": self._source(),
                "settings": settings,
                "user_agent": user_agent(),
                "concurrency": check_whole("concurrency", self.concurrency, 1, 256),
                "requests_per_second": min(bounds, default=None),
            }
        )

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """Render the templates, and ``sql`` from its file, so that Airflow shows the statement."""
        super().render_template_fields(context, jinja_env)
        self._load_sql(context)

    def execute(self, context: Context) -> Any:
        """Deliver the records and return the summary."""
        self._load_sql(context)  # a mapped task is rendered by other ways than render_template_fields
        try:
            return self._execute(context)
        finally:
            if self._rows is not None:
                self._rows.close()

    def _load_sql(self, context: Context) -> None:
        try:
            self.sql = load_sql(self, context, self.sql)
        except ValueError as error:
            raise self._input_error(error) from None

    def _execute(self, context: Context) -> Any:
        try:
            threshold = Threshold(self.max_rejected)
            preview = as_bool(self.preview, "dry_run")
            receipts = as_bool(self.receipts, "receipts")
            durable = as_bool(self.durable, "durable")
            if receipts and not self.report_path:
                raise ValueError("receipts need a folder to go to: set report_path")
            plan = self.plan()
        except NothingFound as error:
            if self.skip_on_empty:
                raise AirflowSkipException(str(error)) from None
            raise self._input_error(error) from None
        except ValueError as error:
            raise self._input_error(error) from None
        except PermissionError as error:
            raise self._input_error(f"the source cannot be read: {error}") from None
        except OSError as error:  # of an object store
            raise LagoDeliveryError(f"Task {self.task_id!r}: the source cannot be read now: {error}") from error
        if preview:
            return self._preview(plan, context)
        self._before_sending(plan, context)
        folder = self._folder(context)
        run = {name: getattr(context.get("ti"), name, None) for name in _RUN}
        durability = None
        if self._is_resumable:
            task = {name: value for name, value in run.items() if name != "try_number"}
            durability = find_durability(plan, task, context, folder, self.log, wanted=durable)
        report, durability = self._open_report(folder, run, durability, receipts=receipts)
        try:
            responses = self._open_responses(context, report, append=durability is not None and bool(durability.found))
        except Exception as error:
            report.finish({"halted": str(error)})
            raise
        result, summary = self._deliver(plan, report, responses, durability)
        if durability is not None:
            conclude(durability, result.halt, self.log)
        self._judge(result, threshold, report)
        return summary

    def on_kill(self) -> None:
        """End the delivery: on Airflow 3 nothing else does when the task is marked, cleared or terminated."""
        if self._delivery is not None:
            self._delivery.stop()

    def _columns(self) -> frozenset[str] | None:
        """Return the columns that the shaping needs, so that a source may leave out others; None for all."""
        return None

    def _before_sending(self, plan: Plan[Any], context: Context) -> None:
        """Look at what is about to be sent; raise where it must not be."""

    def _source(self) -> Source:
        given = [name for name in ("records", "files", "sql") if getattr(self, name) is not None]
        if len(given) != 1:
            raise SourceError(
                f"give exactly one of records, files and sql, not {' and '.join(given) or 'none of them'}; an upstream "
                "task may have returned None, as one that yields does"
            )
        source: Source
        if self.sql is not None:
            source = self._rows = open_sql(self.sql, self.sql_parameters, self.sql_conn_id, self.log.warning)
        elif self.files is not None:
            reading = file_reading(self.file_format, self.csv_options, self._columns())
            source = FileSource(self.files, reading, object_store)
            self._read_files, self._is_shard = source.paths, source.is_shard
        else:
            source = ValueSource(self.records)
        most = as_count(self.limit, "limit")
        return source if most is None else Limited(source, most)

    def _shaping(self) -> Shaping:
        return Shaping(
            fields=self.fields or {},
            constants=self.constants or {},
            exclude=self.exclude or (),
            transform=self.transform,
            edits=self.edits,
        )

    def _folder(self, context: Context) -> Folder | None:
        """Return the folder for reports, or None; raise where it cannot be one."""
        if not self.report_path:
            return None
        try:
            folder = open_folder("report_path", self.report_path, map_folder(context))
        except ValueError as error:
            raise self._input_error(error) from None
        for path in self._read_files:
            if os.path.realpath(path) == os.path.realpath(folder.path(os.path.basename(path))):
                raise self._input_error(
                    f"{path!r} lies in this task's own report_path, where it gets another name when the task begins: "
                    "give the task another report_path"
                )
        return folder

    def _local(self, argument: str, path: str | os.PathLike[str], kind: str) -> Path:
        try:
            if "://" in os.fspath(path):
                raise ValueError(f"{os.fspath(path)!r} must be a local {kind}, not a URI")
            return Path(path)
        except (ValueError, TypeError) as error:
            raise self._input_error(f"{argument}: {error}") from None

    def _answers_file(self, path: str | os.PathLike[str], context: Context) -> Path:
        """Return the file for Lago's answers, which a mapped task does not share with its siblings."""
        file = self._local("responses_path", path, "file")
        return file.parent / map_folder(context) / file.name

    def _open_report(
        self, folder: Folder | None, run: Mapping[str, Any], durability: Durability | None, *, receipts: bool
    ) -> tuple[Report, Durability | None]:
        """Return the report, and what is kept for a retry; that begins anew where the report cannot be gone on with."""
        if folder is None:
            return NoReport(), durability
        make = partial(FolderReport, folder, run, receipts=receipts, conflicts=self._keeps_conflicts)
        try:
            try:
                marks = durability.found.evidence if durability is not None and durability.found is not None else None
                return make(marks=marks), durability
            except CannotContinueError as error:
                durability = begin_anew(durability, str(error), self.log) if durability is not None else None
                return make(), durability
        except OSError as error:
            problem = f"report_path {str(self.report_path)!r} cannot be written: {error.strerror or error}"
            if folder.is_remote and not isinstance(error, (PermissionError, FileNotFoundError)):
                raise LagoDeliveryError(f"Task {self.task_id!r}: {problem}. Nothing was sent") from error
        except (ValueError, TypeError) as error:
            problem = f"report_path: {error}"
        raise self._input_error(problem)

    def _open_responses(self, context: Context, report: Report, *, append: bool) -> Responses:
        """Return what takes Lago's answers."""
        # Imported where a delivery begins, because of aiohttp.
        from airflow_provider_lago.delivery.responses import AllResponses, FileResponses, NoResponses, WebhookResponses
        from airflow_provider_lago.hooks.webhook import read_webhook

        takers: list[Responses] = []
        try:
            if self.responses_path:
                takers.append(FileResponses(self._answers_file(self.responses_path, context), append=append))
            if self.response_webhook_conn_id:
                webhook = read_webhook(self.response_webhook_conn_id, self.response_webhook_path)
                unforwarded = report.open(UNFORWARDED, append=append)
                takers.append(WebhookResponses(webhook, unforwarded=unforwarded, log=self.log))
        except OSError as error:
            raise self._input_error(f"responses_path: {error.strerror or error}") from None
        except ValueError as error:
            raise self._input_error(error) from None
        return AllResponses(takers) if takers else NoResponses()

    def _deliver(
        self, plan: Plan[Any], report: Report, responses: Responses, durability: Durability | None
    ) -> tuple[Result, dict[str, Any]]:
        from airflow_provider_lago.delivery.delivery import Delivery
        from airflow_provider_lago.delivery.loop_thread import Stopped

        self.log.info("Delivering %s to %s, %s requests in flight", plan.source, plan.goes_to, plan.concurrency)
        if durability is not None and durability.found is not None:
            self._tell_resumed(durability.found)
        self._delivery = delivery = Delivery(plan, report, self.log, responses, durability)
        try:
            result = delivery.run()
        except BaseException as error:
            self._keep_partial(delivery, report, responses, error)
            if isinstance(error, Stopped):
                raise self._stopped() from None
            if isinstance(error, ConnectionSettingsError):
                raise LagoConnectionError(str(error)) from None
            raise
        summary = {**result.summary(), "report": report.paths()}
        if forwarded := responses.summary():
            summary["responses"] = forwarded
        self.log.info("Delivery ended: %s", in_words(summary))
        try:
            report.finish(summary)
        except OSError as error:
            raise self._unfinished(result, error) from error
        return result, summary

    def _tell_resumed(self, found: Checkpoint) -> None:
        counts = found.counts
        self.log.info(
            "Resuming after record %s of the source, where the try before left off: %s accepted, %s duplicate, %s "
            "rejected, %s skipped so far",
            f"{found.settled[0]:,}",
            *(f"{counts[name]:,}" for name in ("accepted", "duplicate", "rejected", "skipped")),
        )

    def _unfinished(self, result: Result, error: OSError) -> LagoDeliveryError:
        """Return the error for a delivery whose report could not be brought to its end; a retry does that."""
        from airflow_provider_lago.delivery.courier import Halt

        trouble = f"the report in {str(self.report_path)!r} cannot be finished: {error.strerror or error}"
        halt = result.halt
        why = trouble if halt is None else f"{halt.why}; and {trouble}"
        return self._halted(replace(result, halt=Halt(why, final=halt is not None and halt.final)))

    def _stopped(self) -> LagoDeliveryError:
        """Return the error for a delivery that Airflow ended."""
        return LagoDeliveryError(
            f"Task {self.task_id!r} was ended by Airflow; a retry goes on without doubling anything"
        )

    def _keep_partial(self, delivery: Delivery, report: Report, responses: Responses, error: BaseException) -> None:
        """Write down how far a delivery came; what ended it must not be hidden by what this runs into."""
        partial = delivery.interrupted(f"interrupted by {type(error).__name__}").summary()
        if forwarded := responses.summary():
            partial["responses"] = forwarded
        self.log.warning("Delivery did not end: %s", in_words(partial))
        try:
            report.finish(partial)
        except Exception as trouble:  # noqa: BLE001 - the libraries of object stores raise what they like
            self.log.warning("The report in %s could not be finished: %s", self.report_path, trouble)

    def _judge(self, result: Result, threshold: Threshold, report: Report) -> None:
        """Raise what the result means for the task."""
        tally = result.tally
        if result.halt is not None:
            raise self._halted(result)
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

    def _halted(self, result: Result) -> LagoDeliveryError:
        """Return the error for a delivery that ended before its source did."""
        if result.halt is None:
            raise RuntimeError("the delivery was not halted")
        kind = LagoFatalDeliveryError if result.halt.final else LagoDeliveryError
        return kind(
            f"Delivery stopped: {plain(result.halt.why)}. So far {so_far(result.tally)}; the rest of the source was "
            "not sent and nothing of it is lost: a rerun goes on without doubling anything"
        )

    def _judge_empty(self) -> None:
        if self.skip_on_empty:
            raise AirflowSkipException("the source has no records")
        if self.files is not None and not self._is_shard:
            raise self._input_error(f"{self.files!r} holds no records; set skip_on_empty=True where that is normal")
        self.log.warning("The source is empty: nothing was delivered")

    def _rejected(self, tally: Tally) -> str:
        most = "; ".join(f"{reason} ({count:,})" for reason, count in tally.reasons.most_common(3))
        return f"{tally.rejected:,} of {tally.read:,} records were rejected: {plain(most)}"

    def _preview(self, plan: Plan[Any], context: Context) -> dict[str, Any]:
        from airflow_provider_lago.delivery.preview import as_dict, preview

        samples, tally = preview(plan, _PREVIEWED, self.log)
        for sample in samples:
            self.log.info("Dry run, not sent: %s %s\n%s", sample.method, sample.url, plain(sample.body))
        requests = [as_dict(sample) for sample in samples]
        folder = self._folder(context)
        report = {} if folder is None else {"preview": write_preview(folder, requests)}
        return {"dry_run": True, "preview": requests, **tally.as_dict(), "report": report}

    def _input_error(self, error: object) -> LagoInputError:
        return LagoInputError(f"Task {self.task_id!r}: {plain(str(error))}")


def so_far(tally: Tally) -> str:
    """Return in words what has an outcome."""
    return f"{tally.accepted:,} accepted, {tally.duplicate:,} duplicate, {tally.rejected:,} rejected"


def in_words(summary: Mapping[str, Any]) -> str:
    """Return a summary as a line for the log."""
    counts = [f"{name} {value:,}" for name, value in summary.items() if isinstance(value, (int, float))]
    reasons = [f"{count:,} x {reason}" for reason, count in summary["reasons"].items()]
    said = [summary["halted"]] if "halted" in summary else []
    paths = list(summary.get("report", {}).values())
    answers = [f"{name} {value}" for name, value in summary.get("responses", {}).items()]
    return plain("; ".join(", ".join(part) for part in (counts, reasons, said, paths, answers) if part))
