#!/usr/bin/env bash
# Make or renew a virtual environment with this project, its tools and one line of Airflow.
# usage: scripts/install.sh PYTHON VENV AIRFLOW_VERSION     for example: scripts/install.sh python3 .venv '3.3.*'
set -euo pipefail

python=$1 venv=$2 airflow=$3
cd "$(dirname "$0")/.."

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Python 3.11 or newer is needed, and '$python' is $("$python" --version 2>&1 || true)." >&2
  echo "Name another one: make PYTHON=python3.12 ..." >&2
  exit 1
fi

if [ -n "$(ls -A "$venv" 2> /dev/null)" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
  echo "'$venv' is there already and is no virtual environment; name another folder: make VENV=..." >&2
  exit 1
fi
mkdir -p "$venv"
log=$venv/install.log
trap 'echo "The installation failed; its log is in $log, and ends with:" >&2; tail -n 20 "$log" >&2' ERR
: > "$log"

if ! "$venv/bin/python" -c '' 2> /dev/null; then
  echo "Making the virtual environment $venv ..."
  touch "$venv/pyvenv.cfg" # marks the folder as ours, should this be interrupted
  "$python" -m venv --clear "$venv" 2>&1 | tee "$venv.log" > /dev/null || {
    cat "$venv.log" >&2
    rm -f "$venv.log"
    trap - ERR
    exit 1
  }
  rm -f "$venv.log"
fi

echo "Installing Airflow $airflow, this project and its tools into $venv ..."
wanted=(-e '.[sandbox]' "apache-airflow==$airflow" --group test --group lint --group demo)
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv >> "$log" 2>&1 || echo "uv cannot be installed" >> "$log"
if ! "$venv/bin/python" -m uv pip install --python "$venv/bin/python" "${wanted[@]}" >> "$log" 2>&1; then
  echo "uv failed ($log says why); trying pip, which takes longer ..."
  "$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1' >> "$log" 2>&1
  "$venv/bin/python" -m pip install --quiet "${wanted[@]}" >> "$log" 2>&1
fi
touch "$venv/.installed"
