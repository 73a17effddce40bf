"""What Airflow reads of this provider when it starts; a mistake here breaks every airflow command."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema

from airflow_provider_lago.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_it_is_valid_for_the_installed_airflow():
    import airflow

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_it_is_plain_json():
    assert json.loads(json.dumps(get_provider_info())) == get_provider_info()


def test_its_name_is_that_of_the_distribution_or_airflow_refuses_to_start():
    assert get_provider_info()["package-name"] == PYPROJECT["project"]["name"]


def test_the_entry_point_leads_to_it():
    (target,) = PYPROJECT["project"]["entry-points"]["apache_airflow_provider"].values()
    module, name = target.split(":")
    assert getattr(importlib.import_module(module), name) is get_provider_info


def test_the_hook_class_can_be_imported_under_its_declared_name():
    (declared,) = get_provider_info()["connection-types"]
    module, name = declared["hook-class-name"].rsplit(".", 1)
    assert getattr(importlib.import_module(module), name).conn_type == declared["connection-type"]


def test_every_declared_module_exists():
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for item in info.get(kind, []):
            for module in item["python-modules"]:
                assert importlib.util.find_spec(module) is not None, module


def test_reading_it_imports_nothing_else():
    code = (
        "import sys; import airflow_provider_lago.get_provider_info as m; m.get_provider_info(); "
        "print([n for n in ('airflow', 'requests', 'aiohttp', 'msgspec', 'tenacity') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env={}
    )
    assert done.stdout.strip() == "[]"
