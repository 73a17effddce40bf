"""Tests under Airflow's real scheduler and task runner; its store of task state came with 3.3."""

from importlib.metadata import version

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])

collect_ignore_glob = [] if AIRFLOW >= (3, 3) else ["test_*.py"]
