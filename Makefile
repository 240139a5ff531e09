# Every target makes the virtual environment by itself and only when it is not there yet or not up to date.
# Arguments for the program: make demo ARGS="--until promoted --json --seed 7"
# make itself answers any failure with exit code 2; for the program's own codes call .venv/bin/model-service.

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
BIN := $(VENV)/bin
# A copied or moved folder must not run the code of the place that it came from.
PLACE := $(shell pwd | cksum | cut -d ' ' -f 1)
RUNTIME := $(VENV)/.runtime-$(PLACE)
DEV := $(VENV)/.dev-$(PLACE)

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo run test faults bench study lint format docs env-example requirements clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1 \2/' | awk '{printf "  make %-14s", $$2; $$1=$$2=""; print substr($$0,3)}'

demo: $(RUNTIME) ## watch the whole loop on a simulated market (ARGS="--until promoted --json --seed 7")
	@exec $(BIN)/model-service demo $(ARGS)

run: $(RUNTIME) ## the service, set up by environment variables (env.example)
	@exec $(BIN)/model-service run $(ARGS)

test: $(DEV) ## all tests but the long fault scenarios, with a report of the slowest
	@exec $(BIN)/python -m pytest tests -m "not faults or quick" -n 2 --dist loadfile --no-loadscope-reorder --durations=15 --durations-min=1 $(ARGS)

faults: $(DEV) ## what must survive kill -9, a broken network, a full disk; one JSON line per scenario
	@exec $(BIN)/python -m pytest tests/faults --durations=0 --durations-min=1 $(ARGS)

bench: $(DEV) ## ratios against the bare libraries, one JSON line per figure
	@exec $(BIN)/python -m benchmarks $(ARGS)

study: $(DEV) ## large simulations: is the gate right? (ARGS="--only no-structure --markets 50"; goes on where it was)
	@exec $(BIN)/python -m studies $(ARGS)

lint: $(DEV) ## style, types, the import rule, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m model_service.config.documentation --check

format: $(DEV) ## put the code into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(RUNTIME) ## make env.example and docs/configuration.md again from the settings
	@$(BIN)/python -m model_service.config.documentation

env-example: docs

requirements: $(DEV) ## pin again what pyproject.toml asks for (ARGS=--upgrade: newest versions)
	@uv=$$(command -v uv || echo $(BIN)/uv); \
	[ -x "$$uv" ] || $(BIN)/python -m pip install --quiet uv; \
	exec scripts/requirements.sh "$$uv" $(ARGS)

clean: ## remove the virtual environment and what tools left (not .model-service, the demo's data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): requirements.txt requirements-build.txt pyproject.toml scripts/install.py
	@$(PYTHON) scripts/install.py runtime $(VENV)
	@rm -f $(VENV)/.runtime-* && touch $@

$(DEV): requirements-dev.txt requirements-build.txt pyproject.toml scripts/install.py
	@$(PYTHON) scripts/install.py dev $(VENV)
	@rm -f $(VENV)/.dev-* $(VENV)/.runtime-* && touch $@ $(RUNTIME)
