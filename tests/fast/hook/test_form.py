"""The connection form, declared once and built twice: Airflow 3.2 reads the declaration, older ones ask the hook."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

from airflow_provider_lago.api.connection import EXTRA_KEYS
from airflow_provider_lago.get_provider_info import get_provider_info
from airflow_provider_lago.hooks.lago import LagoHook

DECLARED = get_provider_info()["connection-types"][0]


def test_the_form_has_a_field_for_every_extra_and_no_other():
    assert set(DECLARED["conn-fields"]) == set(EXTRA_KEYS)


def test_the_hook_and_the_declaration_agree():
    behaviour = LagoHook.get_ui_field_behaviour()
    declared = DECLARED["ui-field-behaviour"]
    assert behaviour["hidden_fields"] == declared["hidden-fields"]
    assert behaviour["relabeling"] == declared["relabeling"]
    assert behaviour["placeholders"] == declared["placeholders"]
    assert DECLARED["connection-type"] == LagoHook.conn_type
    assert DECLARED["hook-name"] == LagoHook.hook_name
    assert DECLARED["hook-class-name"] == f"{LagoHook.__module__}.{LagoHook.__qualname__}"


def test_the_widgets_of_old_airflows_are_the_declared_fields():
    pytest.importorskip("flask_appbuilder")
    pytest.importorskip("wtforms")
    widgets = LagoHook.get_connection_form_widgets()
    assert list(widgets) == list(DECLARED["conn-fields"])
    for name, widget in widgets.items():
        boolean = "boolean" in DECLARED["conn-fields"][name]["schema"]["type"]
        assert (widget.field_class.__name__ == "BooleanField") is boolean


def test_the_port_is_shown():
    # Airflow 3.3.1 and 3.3.2 refuse to test a stored connection without a port.
    assert "port" not in DECLARED["ui-field-behaviour"]["hidden-fields"]


def test_what_the_untouched_form_saves_is_a_valid_connection(hook_for):
    saved = {name: field["schema"].get("default") for name, field in DECLARED["conn-fields"].items()}
    assert hook_for(extra=saved).settings == hook_for().settings


def imported_at_the_top(module: str, seen: set[str]) -> set[str]:
    """Names of all modules outside of the provider that importing a module of it imports."""
    seen.add(module)
    found = set()
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text())
    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if not name.startswith("airflow_provider_lago"):
                found.add(name)
            elif name not in seen and is_module(name):
                found |= imported_at_the_top(name, seen)
    return found


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_importing_the_hook_costs_requests_and_nothing_heavier():
    found = {name.split(".")[0] for name in imported_at_the_top("airflow_provider_lago.hooks.lago", set())}
    assert found - sys.stdlib_module_names == {"airflow", "msgspec", "requests", "tenacity", "urllib3"}
