# Everything runs in a virtual environment inside the project. Needs only make and Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
AIRFLOW ?= 3.3.*
PYTEST_ARGS ?=
MUTANTS ?=
CHAOS_ARGS ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo ui test chaos bench mutants lint format clean

help:  ## show this help
	@echo "make <target>, with PYTHON=$(PYTHON) AIRFLOW=$(AIRFLOW) VENV=$(VENV)"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1@\2/p' $(MAKEFILE_LIST) | while IFS=@ read -r name text; do printf '  %-8s %s\n' $$name "$$text"; done

setup: $(INSTALLED)  ## make the virtual environment

$(INSTALLED): pyproject.toml scripts/install.sh
	@scripts/install.sh "$(PYTHON)" "$(VENV)" "$(AIRFLOW)"

demo: $(INSTALLED)  ## bill 16 airlines for a year of real flights, twice, against the sandbox
	@$(BIN)/python scripts/demo.py

ui: $(INSTALLED)  ## Airflow with its web interface, the examples and the sandbox; Ctrl-C ends all
	@$(BIN)/python scripts/ui.py

test: $(INSTALLED)  ## all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: $(INSTALLED)  ## 2,000 random deliveries of 10,000 events under random faults, about an hour; CHAOS_ARGS="--runs 100" for fewer
	$(BIN)/python tests/chaos/run.py --runs 2000 --events 10000 --seed 1 $(CHAOS_ARGS)

bench: $(INSTALLED)  ## how fast, beside other clients and the limit, half an hour; BENCH_ARGS=--quick tries it; needs cc and wrk
	@$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --group bench || $(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

mutants: $(INSTALLED)  ## break the core in small ways: which do the tests not notice? Hours; MUTANTS="--sample 1200" is less
	$(BIN)/python scripts/mutants.py $(MUTANTS)

lint: $(INSTALLED)  ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## mend style where it can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was made here
	rm -rf .venv .venv-2.11 .demo .bench .mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
