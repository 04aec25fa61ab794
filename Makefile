# make run     a heatwave on a simulated substation, end to end (three minutes; ARGS=--fast plays a small one)
# make test    linters, types and every test (WORKERS=3: so many files side by side, otherwise one more than cores)
# make bench   figures, beside those of bare libraries and other engines (ONLY=mass_shed: one case; WHOLE=1: the long forms)
# make lint    linters and types alone
# make soak    the long runs of the tests, most of a day (MINUTES=30: the short ones, again and again for so long)
# make setup   .venv alone, with what it takes to run
# make clean   remove what was built here
#
# Everything happens in .venv, which is made from PYTHON (3.11 or newer) and made anew when pyproject.toml changes.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools
PEERS := $(VENV)/.peers
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	if "$$name" -c '$(RECENT)' 2>/dev/null; then echo "$$name"; break; fi; done)

.PHONY: help run test bench lint soak setup clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

$(STAMP): pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "gridlatch needs Python 3.11 or newer: none was found. Install one, or say make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@"$(PYTHON)" -c '$(RECENT)' || { \
		echo "gridlatch needs Python 3.11 or newer: $(PYTHON) is $$("$(PYTHON)" --version 2>&1)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make virtual environments: install its venv package (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$("$(PYTHON)" --version)"
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[sim]'
	@touch $@

$(TOOLS): $(STAMP)
	@echo "Adding what tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,sim]'
	@touch $@

setup: $(STAMP)

run: $(STAMP)
	@exec $(BIN)/python -m simulators.heatwave $(ARGS)

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(TOOLS)
	@began=$$SECONDS; \
	step() { local from=$$SECONDS; echo "== $$*"; "$$@" || { echo "== FAILED: $$*" >&2; exit 1; }; \
		summary+="$$(printf '%5d s  %s' $$((SECONDS - from)) "$$*")"$$'\n'; }; \
	step $(BIN)/ruff check . ; \
	step $(BIN)/ruff format --check . ; \
	step $(BIN)/mypy ; \
	step $(BIN)/python -m pytest -q -n $(or $(WORKERS),$$(($$(nproc) + 1))) --dist loadfile --no-loadscope-reorder --durations=8 ; \
	printf '\n%s%5d s  in all\n' "$$summary" $$((SECONDS - began))

$(PEERS): $(STAMP)
	@echo "Adding the engines that ours is measured beside"
	@$(BIN)/python -m benchmarks.peers.install
	@touch $@

bench: $(PEERS)
	@exec $(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(WHOLE),--whole)

soak: $(TOOLS)
	@cd tests && exec ../$(BIN)/python -m soak $(if $(MINUTES),--minutes $(MINUTES))

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis run
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
