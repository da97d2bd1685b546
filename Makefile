# Everything a person does with the project. `make demo` and `make test` work on a bare machine with
# Python 3.11 or newer, make, and a network for packages.

PYTHON   ?= python3
HOST     ?= 127.0.0.1
PORT     ?= 8321
DATA_DIR ?= $(CURDIR)/data
# How many processes the tests run in.
JOBS     ?= 2
# Where pip looks for torch besides its usual places; https://download.pytorch.org/whl/cpu spares a machine
# without a GPU some gigabytes.
TORCH_INDEX ?=

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check -q
TORCH_FROM := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help demo serve install install-dev test chaos lint format bench browser clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## ?/\1\t/' | expand -t 14

demo: install    ## start everything with a small world of known errors, and open it by the URL that is printed
	@exec $(BIN)/rewardscope demo --host $(HOST) --port $(PORT) --data-dir "$(DATA_DIR)"

serve: install   ## start everything, empty
	@exec $(BIN)/rewardscope up --host $(HOST) --port $(PORT) --data-dir "$(DATA_DIR)"

install: $(VENV)/.installed          ## make .venv with the pinned set
install-dev: $(VENV)/.installed-dev  ## ... and what tests and lint need

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "RewardScope needs Python 3.11 or newer; name one, as in: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing the pinned packages into $(VENV) (once; a few minutes on a bare machine)"
	@$(PIP) install -c constraints.txt $(TORCH_FROM) -e '.[engine]'
	@$(BIN)/python -c 'from engine.masks import warm_up; warm_up()'  # compiles the loops, once
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) install -c constraints.txt $(TORCH_FROM) -e '.[engine,dev]'
	@touch $@

browser: install-dev
	@PATH="$(PATH):$(BIN)" scripts/ensure-browser

test: install-dev browser  ## every test, on a real PostgreSQL and in a real browser
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(if $(CI),--durations=25)

chaos: install-dev  ## kills, interruptions and lost data bases in full, for minutes
	@$(BIN)/python -m pytest -m chaos -x

lint: install-dev  ## ruff, mypy, the rooms' import contracts, and the compose file where docker is
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@scripts/check-compose

format: install-dev
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

bench: install-dev  ## the benchmarks: tables with the peer, ours, the limit and the ratio
	@for bench in benchmarks/*.py; do echo; echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

clean:           ## remove .venv and caches; the data folder stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
