"""What the package must never do with data from outside: the syntax of every module is read."""

import ast
from pathlib import Path

import pytest

import airflow_provider_lago

ROOT = Path(airflow_provider_lago.__file__).parent
MODULES = {
    "yaml",
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "jinja2",
    "mako",
    "subprocess",
    "pty",
}
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "render_template", "from_string", "load_module"}
#: What is allowed, and why.
ALLOWED = {
    ("operators/__init__.py", "import_module of a name that is made"): "the name stands in a table of the same module",
    ("sources/compression.py", "import_module of a name that is made"): "the name stands in a table of the same module",
    ("sources/sql_drivers.py", "import_module of a name that is made"): "of the package that made the connection",
    ("operators/base.py", "jinja2"): "a type",
    ("operators/sql.py", "jinja2"): "an error of Airflow's loader of templates",
    ("operators/sql.py", "render_template"): "the file that the author of the DAG names; records are never rendered",
    ("sandbox/__init__.py", "import_module of a name that is made"): "the name stands in a table of the same module",
}


def uses(source):
    """Yield the forbidden things that a source text uses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            called, owner = node.func, None
            if isinstance(called, ast.Attribute):
                owner = called.value.id if isinstance(called.value, ast.Name) else ""
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in CALLS and not (name == "compile" and owner == "re"):
                yield name
            if name == "import_module" and not isinstance(node.args[0], ast.Constant):
                yield "import_module of a name that is made"
            yield from ("shell=True" for word in node.keywords if word.arg == "shell")


def test_no_module_unpickles_evaluates_renders_or_runs_anything():
    modules = sorted(ROOT.rglob("*.py"))
    assert len(modules) > 80
    found = {(str(path.relative_to(ROOT)), use) for path in modules for use in uses(path.read_text())}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "import xml, marshal",
        "def f(x):\n    return eval(x)",
        "import os\nos.system('ls')",
        "run('ls', shell=True)",
        "__import__(name)",
        "importlib.import_module(name)",
        "self.render_template(value, context)",
    ],
)
def test_the_check_sees_what_it_looks_for(source):
    assert list(uses(source))
