"""What has to be set before anything imports Airflow."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def prepare_process() -> None:
    """Keep Airflow's log out of the output, and let Airflow look connections up where its own commands do."""
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"
    logging.disable(logging.CRITICAL)
    if not sys.warnoptions:
        sys.warnoptions.append("ignore")  # Airflow 2.11 turns its own warnings on where there are no options
        warnings.simplefilter("ignore")
    # Airflow 3 asks its database for connections only in processes that say they are the server, as
    # ``airflow connections`` does. Without it nothing but the environment and secrets backends would be asked.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
