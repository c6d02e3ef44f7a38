# Everything that a person does with a checkout. Needs git, make and Python 3.11 or later; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Much of the suite waits for processes, so three at a time suit two cores; one system and one Prefect server each.
# A file's tests stay in one process and in order, since they share what a module starts (loadgroup takes no effect with pytest 9.2).
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder
BENCH_ARGS ?= --workload digits
# make example NAME=scaffold; the names are the folders of examples/ with a run.py.
NAME ?= fedprox
# make demo KEEP=1 leaves the system up until Ctrl-C.
KEEP ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo example test check chaos bench format clean
.DELETE_ON_ERROR:

help: ## show this list
	@grep -hE "^[a-z]+:.*## " $(MAKEFILE_LIST) | sed -E "s/:.*## /\t/" | expand -t 12

setup: $(STAMP) ## make .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	  echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1 || true); name one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV): the first time takes some minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(STAMP) ## run the whole system: train a model, convert it, serve it, read digits with it; KEEP=1 leaves it up
	@$(BIN)/python examples/digits/demo.py $(if $(KEEP),--keep)

example: $(STAMP) ## run the example NAME (fedprox, scaffold, lora, ssa): jobs on a fresh system, and a plot
	@$(BIN)/python examples/$(NAME)/run.py

test: $(STAMP) ## run the test suite
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP) ## linters, types, import contracts, API document, tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m api.openapi --check
	$(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: $(STAMP) ## kill every part at every named point, then at random for CHAOS_SECONDS (default 300)
	@$(BIN)/python -m pytest tests/e2e/test_chaos.py -m "chaos or not chaos" -s

bench: $(STAMP) ## measure rounds, aggregation, transfers, registries, requests, algorithms, ModelJobs, model servers, the gateway and rollouts, each beside its floor
	@$(BIN)/python benchmarks/rounds.py $(BENCH_ARGS)
	@for part in aggregate artifacts transfer registry folders api algorithms simulation model_jobs model_server serving rollouts; do $(BIN)/python benchmarks/$$part.py || exit 1; done

format: $(STAMP) ## format the code and fix what linters can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what demo, tests and linters left; the environment stays
	rm -rf demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
