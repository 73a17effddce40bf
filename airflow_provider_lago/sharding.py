"""
Big inputs on many workers: a plan of shards, a mapped task for each, and one summary of them all.

.. code-block:: python

    from airflow.sdk import task
    from airflow_provider_lago.sharding import plan_shards, sum_summaries

    plan = task(plan_shards)("s3://aws_default@usage/{{ ds }}/*.jsonl", shards=8, requests_per_second=40)
    deliveries = LagoIngestEventsOperator.partial(task_id="deliver", report_path="...").expand_kwargs(plan)
    task(sum_summaries)(deliveries.output)

A shard is a list of whole files and of parts of files. Airflow's own executor runs the mapped tasks where and when it
likes, each with its own retries, checkpoint and report (below ``report_path``, in a folder of its map index).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from airflow_provider_lago.operators.arguments import check_rate, check_whole
from airflow_provider_lago.operators.files import file_reading, object_store

#: Airflow maps a task 1,024 times at most unless told otherwise.
MOST_SHARDS = 1_024

#: What counts add up over the shards; everything else in a summary is of one task.
_COUNTS = ("read", "accepted", "duplicate", "rejected", "skipped", "requests")


def plan_shards(
    files: Any,  # a Files, or in a DAG the output of a task that gives one
    shards: int,
    *,
    requests_per_second: float | None = None,
    file_format: str | None = None,
    csv_options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """
    Divide files among mapped tasks, each record to one of them.

    JSONL and CSV files are cut between two lines (a CSV file that has quotes is read through for it), Parquet files
    between two row groups; JSON arrays, Avro and compressed files are read by one task each. A part knows size and time
    of its file, so that a file that changes after the plan ends the delivery instead of losing or doubling lines.

    Use it in a task, ``task(plan_shards)(...)``, as the files must be there when it looks at them.

    :param files: A path, a URI or a glob, or a list of them, as the operator takes it.
    :param shards: How many tasks to divide them among. There are fewer where the files cannot be divided so often.
    :param requests_per_second: Upper bound of requests a second for all shards together; each gets its part, whether or
        not the others run at the same time.
    :param file_format: Format of the files, where their names do not say it.
    :param csv_options: How CSV files are written.
    :return: For each task the arguments ``files`` and, where it is bounded, ``requests_per_second``, for
        ``expand_kwargs``.
    :raises SourceError: if a file is not there or cannot be read.
    :raises ValueError: if an argument is wrong.
    """
    from airflow_provider_lago.sources.shards import plan

    check_whole("shards", shards, 1, MOST_SHARDS)
    rate = check_rate("requests_per_second", requests_per_second)
    parts = plan(files, shards, file_reading(file_format, csv_options), object_store)
    bound = {} if rate is None else {"requests_per_second": rate / len(parts)}
    return [{"files": shard, **bound} for shard in parts]


def sum_summaries(summaries: Any) -> dict[str, Any]:
    """
    Add up what mapped deliveries return.

    :param summaries: The summaries, as the output of the mapped deliveries gives them; None, of a task that was
        skipped, counts as nothing.
    :return: The counts and reasons of all, ``seconds`` of the one that took longest, and the number of ``shards``.
    :raises ValueError: if one is not the summary of a delivery, as that of a dry run.
    """
    whole: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
    reasons: Counter[str] = Counter()
    seconds, shards = 0.0, 0
    for number, summary in enumerate(summaries):
        if summary is None:
            continue
        if summary.get("dry_run") or not set(_COUNTS) <= set(summary):
            shown = str(dict(summary))[:200]
            raise ValueError(f"what mapped task {number} returned is not the summary of a delivery: {shown}")
        whole.update({name: summary[name] for name in _COUNTS})
        reasons.update(summary.get("reasons", {}))
        seconds = max(seconds, summary.get("seconds", 0.0))
        shards += 1
    return {**whole, "seconds": seconds, "shards": shards, "reasons": dict(reasons.most_common())}
