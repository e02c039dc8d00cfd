# Every habit of this project. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
WHEEL_VENV := .check

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench check system-deps clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST)

# The stamp is written last: an interrupted installation is done again, a failed one leaves nothing.
$(STAMP): pyproject.toml
	@rm -rf $(VENV)
	@{ $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	   && $(PYTHON) -m venv $(VENV) \
	   && $(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' \
	   && $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,testing]' --group dev \
	   && touch $(STAMP); } \
	 || { rm -rf $(VENV); \
	      echo "The environment could not be made. It needs Python 3.11 or newer with venv, and a network:" >&2; \
	      echo "    apt-get install -y python3 python3-venv make" >&2; exit 1; }

demo: $(STAMP) ## run the main job on a local tenant: rotate, revoke, outage
	@$(BIN)/jwks-guard demo

test: $(STAMP) ## run the whole test suite with branch coverage
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

lint: $(STAMP) ## ruff, mypy --strict and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(STAMP) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## measure verification against the bare signature check
	@$(BIN)/python -m benchmarks.verify

check: lint test ## lint, test, and the demo from the built wheel in an empty environment
	@rm -rf dist $(WHEEL_VENV)
	@$(BIN)/python -m build --wheel --outdir dist . >/dev/null
	@$(PYTHON) -m venv $(WHEEL_VENV)
	@$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[cli]"
	@cd $(WHEEL_VENV) && bin/jwks-guard demo
	@rm -rf $(WHEEL_VENV)

system-deps: ## install the servers and the browser that tests use (Debian, Ubuntu)
	@command -v redis-server >/dev/null && command -v chromium >/dev/null || { \
	  run=""; [ "$$(id -u)" = 0 ] || run=sudo; \
	  $$run apt-get update -qq && $$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server chromium >/dev/null; }

clean: ## remove what the other targets made
	@rm -rf $(VENV) $(WHEEL_VENV) dist build .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
