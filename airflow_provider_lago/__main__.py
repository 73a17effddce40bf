"""``python -m airflow_provider_lago preview|send``: an operator's settings, run from a shell."""

from __future__ import annotations

import sys

from airflow_provider_lago.shell.main import main
from airflow_provider_lago.shell.process import prepare_process

if __name__ == "__main__":
    prepare_process()
    sys.exit(main())
