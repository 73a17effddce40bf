"""Airflow imports a DAG file's operators anew every time it parses the file."""

import subprocess
import sys

HEAVY = ["aiohttp", "pandas", "pyarrow", "starlette", "uvicorn", "fastavro", "airflow_provider_lago.hooks.lago"]

PROBE = f"""
import sys
import airflow
from airflow.providers.common.compat.sdk import BaseOperator
before = set(sys.modules)
from airflow_provider_lago import operators
needs = {{
    "LagoExtractOperator": {{"endpoint": "events", "path": "/data"}},
    "LagoGenericRequestOperator": {{"endpoint": "coupons"}},
    "LagoIngestEventsOperator": {{"files": "x.jsonl"}},
}}
for name in sys.argv[1:] or operators.__all__:
    getattr(operators, name)(task_id=name, **needs.get(name, {{}}))
print(sorted(set({HEAVY!r}) & (set(sys.modules) - before)))
"""


def heavy(*names):
    command = [sys.executable, "-W", "ignore", "-c", PROBE, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def test_importing_and_making_the_operators_imports_nothing_heavy():
    assert heavy() == "[]"


def test_requests_is_not_imported_for_an_operator_either_where_airflow_does_not():
    """Airflow 2.11 imports it by itself."""
    command = "import sys, airflow; from airflow.providers.common.compat.sdk import BaseOperator; before = 'requests' in sys.modules; "
    command += "from airflow_provider_lago import operators; [getattr(operators, name) for name in operators.__all__]; "
    command += "print(before or 'requests' not in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "True"
