# Thin wrappers: whatever make does, the command `optuna-deepweeds` does.
# The environment is made on first use and remade only when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/optuna-deepweeds

# study
SAMPLER ?= rf_ei
PRUNER ?= dora
SEED ?= 0
WORKERS ?= 1
# experiment
FILE ?= small
# Also taken, where set: NAME DATASET SPACE TRIALS TIMEOUT PRIORS ENQUEUE DEVICE ARGS,
# and STORAGE, a database URL in place of the SQLite file in storage/.
STORAGE ?=
ifneq ($(STORAGE),)
export OPTUNA_STORAGE := $(STORAGE)
endif

STUDY_OPTIONS = --sampler $(SAMPLER) --pruner $(PRUNER) --seed $(SEED) --workers $(WORKERS) \
	$(if $(DATASET),--dataset '$(DATASET)') \
	$(if $(SPACE),--space $(SPACE)) $(if $(TRIALS),--trials $(TRIALS)) \
	$(if $(TIMEOUT),--timeout $(TIMEOUT)) $(if $(PRIORS),--priors '$(PRIORS)') \
	$(if $(ENQUEUE),--enqueue-best $(ENQUEUE)) $(if $(DEVICE),--device $(DEVICE)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help install data study resume dashboard experiment report test test-all check format \
	bench bench-samplers bench-fcnet bench-pruners bench-training bench-storage clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
	@echo 'Example: make study SAMPLER=rf_ei PRUNER=dora TRIALS=60 STORAGE=sqlite:///storage/my.db'

install: $(VENV)/.installed ## Make the environment (5 GB, mostly torch)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Error: Python 3.11 or newer is needed; name one by PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[plots,postgres]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-e '.[plots,postgres,bench,onnx,slurm,dev]'
	@touch $@

data: install ## Download and prepare DeepWeeds (468 MiB)
	$(RUN) data prepare

study: install ## Start or go on with a study: SAMPLER= PRUNER= SEED= TRIALS= TIMEOUT= NAME= STORAGE=
	$(RUN) study run $(if $(NAME),'$(NAME)') $(STUDY_OPTIONS)

resume: install ## Go on with the study NAME=
	@test -n '$(NAME)' || { echo 'Error: make resume needs NAME=STUDY; see: $(RUN) study list' >&2; exit 2; }
	$(RUN) study resume '$(NAME)' $(ARGS)

dashboard: install ## Browse the studies at http://127.0.0.1:8080/
	$(RUN) dashboard $(ARGS)

report: install ## Write the HTML report of the study NAME=
	@test -n '$(NAME)' || { echo 'Error: make report needs NAME=STUDY; see: $(RUN) study list' >&2; exit 2; }
	$(RUN) study report '$(NAME)' $(ARGS)

experiment: install ## Run a grid of studies and report: FILE=small, published or GRID.toml
	$(RUN) experiment run '$(FILE)' $(ARGS)
	$(RUN) experiment report '$(FILE)'

test: $(VENV)/.installed-dev ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-all: $(VENV)/.installed-dev ## Run the slow tests too
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not gpu' $(ARGS)

check: $(VENV)/.installed-dev ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-samplers bench-pruners bench-training bench-storage ## Every benchmark

bench-samplers: $(VENV)/.installed-dev ## Samplers on tabular problems
	$(RUN) bench samplers $(ARGS)

bench-fcnet: $(VENV)/.installed-dev ## Random, forest and DNGO on the FCNet tables
	$(RUN) bench fcnet $(ARGS)

bench-pruners: $(VENV)/.installed-dev ## Pruners on recorded learning curves
	$(RUN) bench pruners $(ARGS)

bench-training: $(VENV)/.installed-dev ## Training speed against the usual pipeline
	$(RUN) bench training $(ARGS)

bench-storage: $(VENV)/.installed-dev ## Overhead, and commands on a big study
	$(RUN) bench storage $(ARGS)

clean: ## Remove the environment and caches; studies and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
	find optuna_deepweeds tests -name __pycache__ -type d -prune -exec rm -rf {} +
