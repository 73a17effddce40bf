"""Run an example Dag with Airflow's own runner, in this process; the exit status says whether the run succeeded."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any


def load(path: Path) -> Any:
    """Import a Dag file and make its Dag, which is named like the file and the function that defines it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return getattr(module, path.stem)()


def main(path: str, conf: str = "{}") -> int:
    run = load(Path(path)).test(run_conf=json.loads(conf))
    print(f"{run.dag_id}: {run.state}")
    return 0 if run.state == "success" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
