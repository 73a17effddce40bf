"""What Airflow gives to a task, for tests that call ``execute`` themselves."""

from types import SimpleNamespace


def context(more=None, **changes):
    """Return a context of a first try; ``changes`` are of the task instance, ``more`` of the context."""
    ti = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 1, "max_tries": 0, **changes}
    return {"ti": SimpleNamespace(**ti), **(more or {})}
