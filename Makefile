# Two commands do all the set-up: `make demo` and `make test`. Each makes .venv when it is missing.

VENV   := .venv
PYTHON := $(VENV)/bin/python
BIN    := $(VENV)/bin
JOBS   ?= 2

.PHONY: demo test test-slow test-nightly fuzz lint types bench docs serve-docs build clean help

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | expand -t 14

demo: $(VENV)/ready-demo    ## make synthetic faces, train, evaluate, write a report
	$(BIN)/openmfr demo --out demo

test: $(VENV)/ready-dev lint types    ## what every commit must pass, under 10 minutes on 2 cores
	$(BIN)/pytest -n $(JOBS) -m "not slow"

test-slow: $(VENV)/ready-dev    ## kills, browsers, documented commands, under 40 minutes
	$(BIN)/pytest -n $(JOBS) --dist loadgroup -m slow --durations 10

test-nightly: $(VENV)/ready-dev    ## the slow tests with many more kills
	OPENMFR_GALLERY_KILLS=100 OPENMFR_KILLS=100 $(BIN)/pytest -n $(JOBS) --dist loadgroup -m slow

fuzz: $(VENV)/ready-dev    ## spoilt files of every kind, ten minutes for each reader
	OPENMFR_FUZZ_SECONDS=600 $(BIN)/pytest -n $(JOBS) tests/fuzz

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/vulture

types: $(VENV)/ready-dev
	$(BIN)/mypy

bench: $(VENV)/ready-dev    ## every benchmark, quickly; each prints a ratio against its baseline
	for script in $(filter-out benchmarks/reporting.py,$(wildcard benchmarks/*.py)); do $(PYTHON) $$script --quick || exit 1; done

docs: $(VENV)/ready-dev    ## the documentation site, into site/
	$(BIN)/mkdocs build --strict

serve-docs: $(VENV)/ready-dev    ## the documentation site, while writing it
	$(BIN)/mkdocs serve

build: $(VENV)/ready-dev    ## the wheel and the source archive, into dist/
	$(PYTHON) -m build

clean:           ## remove what the other targets made
	rm -rf $(VENV) site dist build demo

# torch first and alone: pinned by the constraints, so that no other package pulls another build.
$(VENV)/ready-demo: pyproject.toml constraints.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[demo]"
	touch $@

$(VENV)/ready-dev: pyproject.toml constraints.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
