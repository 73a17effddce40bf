"""Airflow imports a DAG file's operators anew every time it parses the file."""

import subprocess
import sys

HEAVY = ["aiohttp", "pandas", "pyarrow", "starlette", "uvicorn", "fastavro", "airflow_provider_lago.hooks.lago"]

PROBE = f"""
import sys
import airflow
from airflow.providers.common.compat.sdk import BaseOperator
before = set(sys.modules)
from airflow_provider_lago.operators import LagoIngestEventsOperator
LagoIngestEventsOperator(task_id="t", files="x.jsonl")
print(sorted(set({HEAVY!r}) & (set(sys.modules) - before)))
"""


def test_importing_and_making_an_operator_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
