# The two commands of the README, and those of a developer; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/mnist_quick
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=8 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-all lint format clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# A stamp a set of extras: installed again only when pyproject.toml changes.
$(VENV)/.quick: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python >= 3.11 is needed: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing into $(VENV) (some minutes, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[quick]'
	@touch $@

$(VENV)/.develop: $(VENV)/.quick
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[quick,test,dev]'
	@touch $@

quickstart: $(VENV)/.quick ## Train, attack, defend and report on 5,000 real digits
	$(BIN)/python -m robust_manifold.main --config=experiments/mnist_quick.py --workdir=$(WORKDIR)

# Most of the time of the tests is XLA's compilation: of small programs, faster ones
# are not worth it. `make test-all` runs what users run.
QUICK_COMPILATION := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false

test: $(VENV)/.develop ## Run the test suite
	JAX_PLATFORMS=cpu XLA_FLAGS="$(QUICK_COMPILATION) $(XLA_FLAGS)" $(PYTEST)

test-all: $(VENV)/.develop ## Run the slow tests, too, as users' programs are compiled, with coverage
	JAX_PLATFORMS=cpu $(PYTEST) -m 'slow or not slow' --cov --cov-report=term:skip-covered

lint: $(VENV)/.develop ## Check style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.develop ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and caches, but no runs
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache dist build
