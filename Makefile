# Targets are what README and CI call; each works on a fresh checkout. Only python 3.11+ and make are needed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# The first that runs and is new enough; 3.11 and 3.12 before others, since the wheel with Redis is for those only.
PYTHON ?= $(shell for name in python3.12 python3.11 python3 python python3.13 python3.14; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
WHEELS := workers/keelway_workers/wheels
# Each has a stack of its own; they mostly wait, so that three have enough of two cores.
TESTS_AT_ONCE ?= 3
UV_VERSION := 0.13.9
# Replicas and children start from bytecode; compiling it again at every start costs seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo up doctor test check format bench openapi base-image clean

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## make .venv with the keelway command in it

$(VENV)/.ready: uv.lock pyproject.toml $(wildcard */pyproject.toml) $(shell find runtime/keelway_runtime -name '*.py')
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Keelway needs python 3.11 or later (3.11 and 3.12 bring a Redis); name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv sync --quiet --frozen --all-packages --all-extras --compile-bytecode
	mkdir -p $(WHEELS) && rm -f $(WHEELS)/*.whl
	$(BIN)/uv build --quiet --wheel runtime --out-dir $(WHEELS)
	touch $@

demo: setup ## start everything, register, deploy and score a real model, stop
	$(BIN)/python -m keelway_standalone demo

up: setup ## start everything and stay until Ctrl-C
	@exec $(BIN)/keelway up

doctor: setup ## versions, durability settings, invariants
	$(BIN)/keelway doctor

test: setup ## the whole test suite
	$(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --dist loadfile $(PYTEST_ARGS)

check: setup ## all static checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/uv lock --check

format: setup ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## measure, beside peers where there are some; BENCH_ARGS=--quick for a first look
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

openapi: setup ## write openapi/openapi.json anew
	$(BIN)/python -m keelway_api.openapi > openapi/.openapi.json || { rm -f openapi/.openapi.json; exit 1; }
	mv openapi/.openapi.json openapi/openapi.json

base-image: ## make a Debian image with Python, without a registry, for this host's engine (needs mmdebstrap)
	deploy/base-image.sh

clean: ## remove what setup made
	rm -rf $(VENV) $(WHEELS)/*.whl
