# The two commands of the README, and those of a developer; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/mnist_quick
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=8 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help quickstart reproduce results bench docs test test-all test-cluster lint format clean

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

# All runs that the pages of results tell of, the paper's table first and last what needs
# CelebA. A run that was stopped goes on where it was, and a finished one is not started
# again unless its file changes. SEEDS are those of mnist, all else has seed 0.
BUDGET ?= small
SEEDS ?= 0 1 2
COLUMNS := none robust inc defense_gan enhanced inc_robust inc_fresh
MANIFOLDS := wgan_gp conv_vae vae
FASHION := none robust inc_gan inc_vae
GENERATORS := minimax non_saturating wgan_gp hinge vae conv_vae
# Experiments with budgets say so in the head of their get_config.
BUDGETED := $(notdir $(basename $(shell grep -l '^def get_config.budget' experiments/*.py)))
EXPERIMENTS ?= gan_1d mnist_enhanced mnist_robust overpowered defense_gan \
  $(COLUMNS:%=mnist_adaptive:%) $(MANIFOLDS:%=mnist_manifolds:%) $(GENERATORS:%=mnist_generators:%) mnist_patch:digits \
  $(FASHION:%=fashion:%) celeba_gender mnist_patch:faces

# Of NAME or NAME:ARGUMENT, and of a seed.
budgeted = $(foreach e,$1,$(if $(filter $e,$(BUDGETED)),$e:$(BUDGET),$e))
distinct = $(if $1,$(firstword $1) $(call distinct,$(filter-out $(firstword $1),$1)))
config = experiments/$(firstword $(subst :, ,$1)).py
run = runs/$(subst :,-,$1)-$2
define RUN
$(call run,$1,$2)/.reproduced: $(call config,$1) | $(VENV)/.quick
	$(BIN)/python -m robust_manifold.main --workdir=$(call run,$1,$2) \
	  --config=experiments/$(subst :,.py:,$1)$(if $(findstring :,$1),,.py) --config.seed=$2
	@touch $$@
endef
SINGLE := $(call distinct,$(call budgeted,$(filter-out mnist,$(EXPERIMENTS))))
OF_SEEDS := $(call distinct,$(SEEDS))
$(foreach seed,$(OF_SEEDS),$(eval $(call RUN,mnist,$(seed))))
$(foreach one,$(SINGLE),$(eval $(call RUN,$(one),0)))
RUNS := $(OF_SEEDS:%=runs/mnist-%) $(foreach one,$(SINGLE),$(call run,$(one),0))

# Told now, not after the hours that come before the run that it would stop.
ifneq ($(filter reproduce,$(MAKECMDGOALS)),)
  ifneq ($(words $(BUDGET))$(filter-out small full,$(BUDGET)),1)
    $(error BUDGET is '$(BUDGET)'; allowed: small or full)
  endif
  UNKNOWN := $(foreach e,$(EXPERIMENTS),$(if $(wildcard $(call config,$e)),,$e))
  ifneq ($(strip $(UNKNOWN)),)
    $(error EXPERIMENTS has '$(firstword $(UNKNOWN))'; allowed: files of experiments/, as NAME or NAME:ARGUMENT)
  endif
  ifeq ($(strip $(RUNS)),)
    $(error SEEDS and EXPERIMENTS are both empty; allowed: at least one run)
  endif
endif

reproduce: $(RUNS:%=%/.reproduced) ## Run all experiments (BUDGET=small or full), then write the pages of results
	$(BIN)/python -m robust_manifold.results --record $(RUNS)

results: $(VENV)/.quick ## Write the pages of results anew from the records in docs/results/records
	$(BIN)/python -m robust_manifold.results

# On Linux, PyTorch brings gigabytes of CUDA, unless PIP_EXTRA_INDEX_URL names its index
# of builds for CPUs.  The requirements of torchattacks and adv-lib, a `requests` of 2020
# and visdom, do not fit and are not needed.
$(VENV)/.bench: $(VENV)/.quick
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[quick,bench]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1 adv-lib==0.2.8
	@touch $@

bench: $(VENV)/.bench ## Measure speed beside other libraries: ten minutes with nothing else running
	JAX_PLATFORMS=cpu $(BIN)/python benchmarks/short.py $(BENCH)

$(VENV)/.docs: $(VENV)/.quick
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[quick,docs]'
	@touch $@

docs: $(VENV)/.docs ## Make the site in site/; a warning, such as a dead link, is an error
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs site

# Most of the time of the tests is compilation: XLA's, where of small programs faster
# ones are not worth it, and a part each is quicker and takes fewer memory maps than
# many; and Python's, which many processes share. `make test-all` runs what users run.
QUICK_COMPILATION := --xla_backend_optimization_level=0 \
  --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1
test test-all: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.develop ## Run the test suite
	JAX_PLATFORMS=cpu XLA_FLAGS="$(QUICK_COMPILATION) $(XLA_FLAGS)" $(PYTEST)

test-all: $(VENV)/.develop ## Run the slow tests, too, as users' programs are compiled, with coverage
	JAX_PLATFORMS=cpu $(PYTEST) -m 'slow or not slow' --cov --cov-report=term:skip-covered
	tests/cluster/slurm.sh

test-cluster: $(VENV)/.develop ## Run jobs of a real SLURM on this machine, as root; Debian's is installed if there is none
	tests/cluster/slurm.sh --install

lint: $(VENV)/.develop ## Check style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.develop ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and caches, but no runs
	rm -rf $(VENV) site .pytest_cache .ruff_cache .import_linter_cache dist build
