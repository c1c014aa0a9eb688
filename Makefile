# Everything starts from a bare Python 3.11 or newer: the first target makes .venv and installs into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help test test-long check demo bench format clean
.DEFAULT_GOAL := help

help:
	@echo "make test       style, types, import rules and the tests (minutes)"
	@echo "make test-long  the long tests"
	@echo "make check      style, types and import rules only"
	@echo "make demo       a first fit, start to finish"
	@echo "make bench      ranef beside its peers, and alone at scale; writes into benchmarks/"
	@echo "make format     let ruff write the layout"
	@echo "make clean      remove .venv and the caches"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "ranef needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make PYTHON=/path/to/python3.12 test"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

test: check
	$(BIN)/python -m pytest -m 'not long'

check: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

test-long: $(READY)
	$(BIN)/python -m pytest -m long

demo: $(READY)
	$(BIN)/ranef demo

bench: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.passes
	$(BIN)/python -m benchmarks.clicks
	$(BIN)/python -m benchmarks.latent
	$(BIN)/python -m benchmarks.serving

format: $(READY)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
