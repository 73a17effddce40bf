"""An embedded server that behaves like Lago, for demos and tests. Needs the extra ``[sandbox]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_lago.sandbox.faults import Fault
    from airflow_provider_lago.sandbox.journal import SeenRequest
    from airflow_provider_lago.sandbox.server import Sandbox

__all__ = ["Fault", "Sandbox", "SeenRequest"]

_HOME = {"Fault": "faults", "Sandbox": "server", "SeenRequest": "journal"}
_EXTRA = {"starlette", "uvicorn", "httptools", "msgspec"}


def __getattr__(name: str) -> object:
    """Load the server on first use: the pytest plugin imports this package in every pytest run."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        module = importlib.import_module(f"{__name__}.{_HOME[name]}")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] not in _EXTRA:
            raise
        raise ModuleNotFoundError(
            f"The Lago sandbox needs {missing.name!r}: pip install 'airflow-provider-lago[sandbox]'",
            name=missing.name,
        ) from missing
    return getattr(module, name)
