# `make demo` and `make test` need Python 3.11+ and make, nothing else: they make .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4

.PHONY: help demo test unit lint types format audit test-lowest bench bench-quick bench-growth bench-resume bench-slow clean faults fuzz

help:
	@echo "make demo         install, then mirror 200 items from the built-in simulator into ./demo-mirror"
	@echo "make test         install the test extra, then run all tests"
	@echo "make unit         only the quick tests: no whole runs, no command line"
	@echo "make lint types   ruff; mypy --strict"
	@echo "make test-lowest  all tests with the oldest dependencies that are promised to work"
	@echo "make faults       every fault, both HTTP clients, 1, 16 and 256 workers; make fuzz: 100,000 pages at random"
	@echo "make bench        stacmirror and its peers in turn; bench-quick: under 3 minutes; bench-growth: 1,000 to 100,000 items"
	@echo "make bench-resume from the command to the first request, with a ledger of 590,326 items (10 minutes)"
	@echo "make bench-slow   an origin 80 ms away that refuses more than 128 at once: fixed settings, and none (10 minutes)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("stacmirror needs Python 3.11 or later; try: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/stacmirror demo demo-mirror

test: $(VENV)/.installed-test
	$(PYTEST)

unit: $(VENV)/.installed-test
	$(PYTEST) -m "not slow" tests/unit tests/contract tests/simulator tests/test_architecture.py

# CI has both in small: the default client at 16 workers, 1,200 pages.
faults: $(VENV)/.installed-test
	STACMIRROR_FAULTS=full $(PYTEST) tests/faults tests/contract

fuzz: $(VENV)/.installed-test
	STACMIRROR_FUZZ=100000 $(PYTEST) tests/faults/test_fuzz_pages.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

test-lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install -q --disable-pip-version-check uv
	.venv-lowest/bin/uv pip install -q --python .venv-lowest/bin/python --resolution lowest-direct -e '.[test]'
	.venv-lowest/bin/python -m pytest -n auto --maxprocesses 4

# These install nginx and the peers where they are missing (apt-get as root; PyPI into .venv-bench).
# ARGS is handed on: make bench ARGS='--rounds 3 --set workers=32'
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.bench $(ARGS)

bench-quick: $(VENV)/.installed
	$(BIN)/python -m benchmarks.bench --quick $(ARGS)

bench-growth: $(VENV)/.installed
	$(BIN)/python -m benchmarks.growth $(ARGS)

bench-resume: $(VENV)/.installed
	$(BIN)/python -m benchmarks.resume $(ARGS)

bench-slow: $(VENV)/.installed
	$(BIN)/python -m benchmarks.slow_world $(ARGS)

clean:
	rm -rf $(VENV) .venv-lowest .venv-bench demo-mirror build dist .pytest_cache .mypy_cache .ruff_cache
