#!/usr/bin/env bash
# Build the sdist and the wheel, look into them, and use the wheel in an environment of its own.
# usage: scripts/check_wheel.sh VENV PYTHON AIRFLOW_VERSION
set -euo pipefail

tools=$1 python=$2 airflow=$3
cd "$(dirname "$0")/.."
tools=$(cd "$tools" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$tools/bin/python" -m uv build --quiet --out-dir "$work/dist" .
"$tools/bin/python" -m uv tool run --quiet twine check --strict "$work"/dist/*.whl "$work"/dist/*.tar.gz

"$tools/bin/python" - "$work/dist" << 'PY'
import sys
import tarfile
import zipfile
from pathlib import Path

dist = Path(sys.argv[1])
(wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
    (entry_points,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
    entries = archive.read(entry_points).decode()
strays = [name for name in names if not name.startswith(("airflow_provider_lago/", "airflow_provider_lago-"))]
assert not strays, f"these do not belong into the wheel: {strays}"
assert not [name for name in names if "__pycache__" in name]
for wanted in ("airflow_provider_lago/py.typed", "licenses/LICENSE", "licenses/NOTICE"):
    assert any(name.endswith(wanted) for name in names), f"{wanted} is missing in the wheel"
for wanted in ("[apache_airflow_provider]", "[pytest11]"):
    assert wanted in entries, f"{wanted} is missing in the entry points"
with tarfile.open(sdist) as archive:
    kept = {name.partition("/")[2] for name in archive.getnames()}
for wanted in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "tests/conftest.py", "example_dags/bill_airlines.py"):
    assert wanted in kept, f"{wanted} is missing in the sdist"
print(f"{wheel.name}: {len(names)} files; {sdist.name}: {len(kept)} files")
PY

"$python" -m venv "$work/venv"
"$tools/bin/python" -m uv pip install --quiet --python "$work/venv/bin/python" "$work"/dist/*.whl "apache-airflow==$airflow"
cd "$work" # away from the sources, so that nothing but the wheel can be imported
export AIRFLOW_HOME=$work/airflow AIRFLOW__CORE__LOAD_EXAMPLES=False
"$work/venv/bin/airflow" providers list --output plain > providers.txt
grep -F airflow-provider-lago providers.txt
"$work/venv/bin/python" - << 'PY'
import sys

from airflow_provider_lago.hooks.lago import LagoHook
from airflow_provider_lago.operators import LagoIngestEventsOperator

assert "venv" in sys.modules["airflow_provider_lago"].__file__
assert not {"starlette", "uvicorn"} & set(sys.modules), "production code loads the sandbox"
print(f"{LagoHook.hook_name} hook and {LagoIngestEventsOperator.__name__} come from the wheel")
PY
