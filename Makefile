# Every habit of this project. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
WHEEL_VENV := .check
# Most tests wait for other processes: more of them than processors go on at once.
WORKERS ?= 4
PYTHONS := 3.11 3.12 3.13
# Images often switch it off, and then each process that a test starts compiles every module again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo demo-console test test-outside test-long test-pythons lint format docs check system-deps clean \
        bench bench-revocation bench-http bench-footprint bench-fleet bench-forged bench-hostile \
        bench-scale bench-report instructions pictures

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST)

# The stamp is written last: an interrupted installation is done again, a failed one leaves nothing.
$(STAMP): pyproject.toml
	@rm -rf $(VENV)
	@echo "Installing what this project needs into $(VENV). That takes a few minutes, once." >&2
	@{ $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	   && $(PYTHON) -m venv $(VENV) \
	   && $(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' \
	   && $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,testing,redis,prometheus,opentelemetry,console,fast]' --group dev --group docs \
	   && touch $(STAMP); } \
	 || { rm -rf $(VENV); \
	      echo "The environment could not be made. It needs Python 3.11 or newer with venv, and a network:" >&2; \
	      echo "    apt-get install -y python3 python3-venv make" >&2; exit 1; }

demo: $(STAMP) ## run the main job on a local tenant: rotate, revoke, outage
	@$(BIN)/jwks-guard demo

demo-console: $(STAMP) ## open the operator's console on a local tenant, with two guarded processes and traffic
	@$(BIN)/jwks-guard console --demo

test: $(STAMP) ## run the tests that need this machine alone; COVERAGE=1 measures branch coverage
	@rm -f .coverage .coverage.*
	@$(BIN)/$(if $(COVERAGE),coverage run,python) -m pytest -m 'not outside' \
	   -n $(WORKERS) --dist worksteal --durations=10
	@$(if $(COVERAGE),$(BIN)/coverage combine --quiet && $(BIN)/coverage report)

# Status 5 of pytest: no test has the marker.
test-outside: $(STAMP) ## run the tests that need more, such as another server or a browser
	@$(BIN)/python -m pytest -m outside --durations=10 \
	 || { status=$$?; [ $$status = 5 ] || exit $$status; echo "No test is marked outside."; }

test-long: $(STAMP) ## run thousands of random histories and repeats of distrust, where `make test` runs tens
	@MACHINE_EXAMPLES=2500 REPEATS=10000 $(BIN)/python -m pytest tests/distrust/test_machine.py \
	   tests/distrust/test_journal.py tests/fleet/test_contract.py

# A shim of pyenv may name a version that is not active: what counts is what runs.
test-pythons: ## run `make test` on every Python of 3.11 to 3.13 that is on PATH or in pyenv, each in its own environment
	@found=""; failed=""; for version in $(PYTHONS); do \
	  python=""; for each in python$$version $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python; do \
	    $$each -c 'import sys, venv; sys.exit("%d.%d" % sys.version_info[:2] != "'$$version'")' 2>/dev/null \
	      && { python=$$each; break; }; done; \
	  [ -n "$$python" ] || { echo "Python $$version: not found, not tested"; continue; }; \
	  echo "Python $$version: $$python"; found="$$found $$version"; \
	  $(MAKE) --no-print-directory test PYTHON="$$python" VENV=.venv-$$version || failed="$$failed $$version"; \
	done; echo "Tested on:$${found:- none}. Failed on:$${failed:- none}."; [ -n "$$found" ] && [ -z "$$failed" ]

lint: $(STAMP) ## ruff, mypy --strict and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

# Everything in the site is local: it is read from a folder, without a network and without a server.
docs: $(STAMP) ## build the documentation into site/; a warning is an error
	@$(BIN)/zensical build --clean --strict
	@echo "Open site/index.html"

format: $(STAMP) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# ROUNDS=1 tries each of these in a short form, whose figures say little.
bench: $(STAMP) ## measure verification against the bare signature check and against the peers
	@$(BIN)/python -m benchmarks.speed

bench-revocation: $(STAMP) ## measure how long a revoked key goes on being accepted, by us and by the peers
	@$(BIN)/python -m benchmarks.revocation

bench-http: $(STAMP) ## measure guarded against unguarded apps with wrk, also in a flood of forged tokens
	@$(BIN)/python -m benchmarks.over_http

bench-footprint: $(STAMP) ## measure the memory of cached results and the time to import
	@$(BIN)/python -m benchmarks.footprint

bench-fleet: $(STAMP) ## measure how long a revoked key is accepted anywhere in a fleet of processes over Redis
	@$(BIN)/python -m benchmarks.fleet

bench-forged: $(STAMP) ## measure what a million forged kids leave in memory
	@$(BIN)/python -m benchmarks.forged

bench-hostile: $(STAMP) ## measure what it costs to refuse each shape of hostile input, and to take hostile key sets
	@$(BIN)/python -m benchmarks.hostile

bench-scale: $(STAMP) ## measure how cost and memory grow with keys, issuers, decisions, WebSockets, instances: docs/scale.md
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks.scale.report

bench-report: $(STAMP) ## run six of these, less than 20 minutes, and write tables and charts into docs/measured.md
	@$(BIN)/python -m benchmarks.report --measure

pictures: $(STAMP) ## take the README's pictures of the console and of the commands, from a demo that runs
	@$(BIN)/python -m benchmarks.pictures

instructions: $(STAMP) ## count instructions per verification; fails where they grew by more than 10 %
	@$(BIN)/python -m benchmarks.instructions --check

check: lint docs test test-outside ## lint, the documentation, all tests, the packages, and the demo from the wheel in an empty environment
	@rm -rf dist $(WHEEL_VENV)
	@$(BIN)/python -m build --outdir dist . >/dev/null
	@$(BIN)/twine check --strict dist/*
	@$(PYTHON) -m venv $(WHEEL_VENV)
	@$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[cli]"
	@cd $(WHEEL_VENV) && bin/jwks-guard demo
	@rm -rf $(WHEEL_VENV)

system-deps: ## install what tests and benchmarks need besides Python (Debian, Ubuntu)
	@missing=""; for each in redis-server chromium valgrind wrk nginx node:nodejs npm promtool:prometheus curl openssl wget; do \
	  command -v $${each%:*} >/dev/null || missing="$$missing $${each#*:}"; done; \
	[ -z "$$missing" ] || { run=""; [ "$$(id -u)" = 0 ] || run=sudo; \
	  $$run apt-get update -qq && $$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; }

clean: ## remove what the other targets made
	@rm -rf $(VENV) .venv-* $(WHEEL_VENV) .bench dist build site .cache .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
