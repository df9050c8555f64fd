# One command each: make demo, make test. Everything happens in an environment of its own (VENV).
PYTHON ?= python3
VENV ?= .venv
SECONDS ?= 60

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BUILD_FILES := pyproject.toml hatch_build.py $(wildcard dispatcharr/*/*.[ch])
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_INTEROP := $(VENV)/.installed-interop
INSTALLED_ARRAY_API := $(VENV)/.installed-array-api
EXAMPLES ?= 100
ASV := cd asv_benchmarks && $(abspath $(BIN))/asv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all conformance fuzz array-api lint style types layers format stub neighbours docs bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(INSTALLED) ## run three NumPy programs with and without dispatcharr, and compare
	$(BIN)/python examples/compare.py hillshade tonemap black_scholes --explain

test: $(INSTALLED) ## the tests that every change must pass; ten minutes
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-all: $(INSTALLED) ## the slow tests too
	$(BIN)/python -m pytest -m "not gpu"

fuzz: $(INSTALLED) ## random programs next to NumPy, for SECONDS=60
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

array-api: $(INSTALLED_ARRAY_API) ## the array API standard's own suite, which it fetches
	$(BIN)/python tests/array_api/standard_suite.py --fetch --examples $(EXAMPLES)

conformance: $(INSTALLED) ## NumPy's own tests under dispatcharr, in every mode; an hour; or FILES="umath ufunc"
	$(BIN)/python -m tests.conformance --keep build/conformance --json build/conformance/found.json \
		$(if $(FILES),$(FILES:%=--file %),--badge docs/conformance.svg --page docs/conformance.md)

lint: style types layers ## style, types and layers

style: $(INSTALLED_DEV) ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED_DEV) ## mypy --strict
	$(BIN)/mypy

layers: $(INSTALLED_DEV) ## imports between the parts of the package
	$(BIN)/lint-imports

format: $(INSTALLED_DEV) ## put the code into the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

stub: $(INSTALLED) ## write dispatcharr/__init__.pyi, after a change to the public names
	$(BIN)/python tools/make_stub.py

neighbours: $(INSTALLED_INTEROP) ## test other libraries with our arrays, and write docs/neighbours.md
	$(BIN)/python -m pytest tests/interop --deselect tests/interop/test_page.py
	$(BIN)/python tools/make_neighbours.py

docs: $(INSTALLED_DEV) ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -E -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(INSTALLED_DEV) ## run each benchmark once and publish into asv_benchmarks/html
	$(ASV) machine --yes >/dev/null
	$(ASV) run --python=same --quick --show-stderr --set-commit-hash "$$(git rev-parse HEAD)"
	$(ASV) publish

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -rf asv_benchmarks/env asv_benchmarks/html asv_benchmarks/results
	rm -f dispatcharr/*/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "make: no $(PYTHON) on PATH; install Python 3.11 or newer, or say: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: dispatcharr needs Python 3.11 or newer and $(PYTHON) is $$($(PYTHON) -V 2>&1); say e.g.: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "make: $(PYTHON) lacks its venv module; install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(BUILD_FILES) | $(BIN)/python
	$(PIP) -e '.[test,examples]'
	@touch $@

$(INSTALLED_ARRAY_API): $(BUILD_FILES) | $(BIN)/python
	$(PIP) -e '.[array-api]'
	@touch $@ $(INSTALLED)

$(INSTALLED_DEV): $(BUILD_FILES) | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(INSTALLED)

$(INSTALLED_INTEROP): $(BUILD_FILES) | $(BIN)/python
	$(PIP) -e '.[interop,test]'
	@touch $@ $(INSTALLED)
