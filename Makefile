# Everything a user types. `make run` and `make test` need Python 3.11 or later, git and make.
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $(name))))
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
# A CPU build of torch by default where there is no NVIDIA driver; `make TORCH=torch==2.13.0 ...` decides by hand.
TORCH ?= torch==2.13.0
BIN := .venv/bin
STAMP := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-slow test-slurm check format schema clean

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "MMIE needs Python 3.11 or later: none was found. Set PYTHON=/path/to/python3.11."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP)  ## run the default experiment and say where the report is
	$(BIN)/python -m mmie.launch --cores $(CORES)

test: check  ## run every test but the slow ones and the SLURM one
	$(BIN)/python -m pytest

test-all: test test-slow test-slurm  ## the same, the slow ones and the SLURM test

test-slow: $(STAMP)  ## kill the workflow anywhere; train every arm and objective by the real command line
	$(BIN)/python -m pytest -m slow

test-slurm: $(STAMP)  ## drive a reduced experiment through a one-node SLURM (Debian, root)
	tests/slurm/run

check: $(STAMP)  ## lint, format and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/mypy

format: $(STAMP)  ## bring the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

schema: $(STAMP)  ## write config/schema.yaml and docs/configuration.md from the typed config
	$(BIN)/python -m mmie.schema

clean:  ## remove results; the environment stays
	rm -rf results .snakemake
