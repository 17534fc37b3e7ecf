# `make demo` and `make test` need Python 3.11+ and make, nothing else: they make .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4

.PHONY: help demo test unit peers lint types format audit test-lowest bench bench-quick bench-growth bench-resume bench-slow bench-durability kills power-cuts nth-calls full-disks fault-matrix network-faults fuzz faults ci-faults clean

help:
	@echo "make demo         install, then mirror 200 items from the built-in simulator into ./demo-mirror"
	@echo "make test         install the test extra, then run all tests"
	@echo "make unit         only the quick tests: no whole runs, no command line"
	@echo "make fault-matrix every fault of bodies, pages, redirects, links and hosts, both clients, 1, 16 and 256 workers"
	@echo "make network-faults packets lost, late and dropped between two namespaces (root); fuzz: 100,000 pages, 100,000 answers"
	@echo "make faults       these, and kills, power cuts, full disks, failing calls: 550 kills, 200 cuts ... (an hour); ci-faults: minutes"
	@echo "make peers        mirrors of rustac's API, pgstac (20,000 items), nginx and SeaweedFS; needs PostgreSQL and PostGIS"
	@echo "make lint types   ruff; mypy --strict"
	@echo "make audit        licenses and known vulnerabilities of what is installed"
	@echo "make test-lowest  all tests with the oldest dependencies that are promised to work"
	@echo "make bench        stacmirror and its peers in turn; bench-quick: under 3 minutes; bench-growth: 1,000 to 100,000 items"
	@echo "make bench-resume from the command to the first request, with a ledger of 590,326 items (10 minutes)"
	@echo "make bench-durability  the product beside the same build that syncs nothing"
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

$(VENV)/.installed-peers: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[peers]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

# Other people's STAC servers: rustac, stac-fastapi-pgstac on PostgreSQL, nginx, SeaweedFS.
peers: $(VENV)/.installed-peers
	$(BIN)/python -m pytest -n 2 -m peers tests/peers

# Every row of tests/faults/README.md that needs no disk of its own. `make test` tries the default client at 16 workers.
fault-matrix: $(VENV)/.installed-test
	STACMIRROR_FAULTS=full $(PYTEST) tests/faults

# Two machines in network namespaces, in real time: root, iproute2, iptables, /dev/net/tun; two minutes.
# STACMIRROR_FAULTS=full: both clients, 1, 16 and 256 workers, cut for a minute (half an hour).
network-faults: $(VENV)/.installed-test
	$(PYTEST) -m network tests/faults/test_network.py

fuzz: $(VENV)/.installed-test
	STACMIRROR_FUZZ=100000 $(PYTEST) tests/faults/test_fuzz_pages.py tests/faults/test_fuzz_answers.py

# The whole of tests/faults, of which `make test` runs short forms. Power cuts and full disks need root.
# ARGS is handed on: make kills ARGS='--each 3 --random 40'
kills: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults.kills $(ARGS)

power-cuts: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults.power_cuts $(ARGS)

nth-calls: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults.nth_calls $(ARGS)

full-disks: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults.full_disks $(ARGS)

faults: fault-matrix network-faults fuzz kills power-cuts nth-calls full-disks

ci-faults:
	$(MAKE) network-faults
	$(MAKE) kills ARGS='--each 3 --random 40 --items 500 --longest 1'
	$(MAKE) power-cuts ARGS='--cuts 20 --items 200 --longest 0.8'
	$(MAKE) nth-calls ARGS='--items 1'
	$(MAKE) full-disks ARGS='--levels 10'

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# Licenses and known vulnerabilities of what is installed. The second asks PyPI's advisories; what they do not know fails.
audit: $(VENV)/.installed
	$(BIN)/python .ci/licenses.py
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install -q --disable-pip-version-check pip-audit
	$(BIN)/python -m pip list --disable-pip-version-check --format=freeze --exclude-editable >.venv-audit/installed.txt
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r .venv-audit/installed.txt

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

bench-durability: $(VENV)/.installed
	$(BIN)/python -m benchmarks.durability $(ARGS)

clean:
	rm -rf $(VENV) .venv-lowest .venv-bench .venv-audit demo-mirror build dist .pytest_cache .mypy_cache .ruff_cache
