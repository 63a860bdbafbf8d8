# Every recipe bootstraps what it needs: nothing is assumed but make and a Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DISTRIBUTIONS := schemas services/core services/sandbox services/runtime services/controller services/combiner services/api services/auditor clientsdk deploy/local
CODE := schemas services clientsdk deploy tests examples benchmarks tools
READY := $(VENV)/.ready
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
IMAGES_HOLD := build services api gateway toolbox
IMAGES := controller combiner api gateway toolbox

.PHONY: help demo up down test unit sim check fix schemas docs requirements chaos soak bench images containers clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(READY): requirements/bootstrap.txt requirements/dev.txt $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fedbus needs Python 3.11 or newer, and $(PYTHON) is %d.%d; say make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@test -d $(VENV) || echo "First run: installing into $(VENV) (about 100 MB to download, 800 MB on disk, one to two minutes)."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(addprefix -e ./,$(DISTRIBUTIONS))
	@touch $@

demo: $(READY)  ## train one model over five clients, kill a combiner on the way, verify and replay the log
	@$(BIN)/python examples/demo/run.py

up: $(READY)  ## start the local stack and leave it running
	@$(BIN)/fedbus up

down: $(READY)  ## stop it
	@$(BIN)/fedbus down

test: unit  ## every test but the long chaos runs
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/simulation tests/contract tests/e2e tests/chaos tests/soak

sim: $(READY)  ## simulate many seeds; SCENARIO=... SEED=... RUNS=... TRACE=1 (docs/simulation.md)
	@$(BIN)/python -m tests.simulation $(if $(SCENARIO),--scenario $(SCENARIO)) --seed $(or $(SEED),0) --runs $(or $(RUNS),1200) $(if $(TRACE),--trace)

chaos: $(READY)  ## every test that kills processes, also the long ones
	@$(BIN)/python -m pytest -q -m "chaos or long"

soak: $(READY)  ## run sessions for an hour and fail when something grows; MINUTES=5, or ROUNDS=1000 under retention
	@$(BIN)/python -m tests.soak $(if $(ROUNDS),--rounds $(ROUNDS),--minutes $(or $(MINUTES),60))

bench: $(READY)  ## whole rounds, kills and folding, beside the peers, and what traces cost (a quarter of an hour)
	@$(BIN)/python benchmarks/all.py

unit: $(READY)  ## the tests that need no server
	@$(BIN)/python -m pytest -q -n 2 tests/unit tests/property tests/tidy

check: $(READY)  ## format, lint, types, import rules, schemas and docs up to date
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/vulture
	@for d in $(DISTRIBUTIONS); do (cd $$d && $(CURDIR)/$(BIN)/deptry . --ignore DEP002 --no-ansi) >.deptry.out 2>&1 || { cat .deptry.out; exit 1; }; done; rm -f .deptry.out

schemas: $(READY)  ## write the generated contract again
	@$(BIN)/python tools/generate_openapi.py
	@$(BIN)/python tools/generate_schemas.py
	@$(BIN)/python tools/generate_sync_api.py

docs: $(READY)  ## write the generated pages again
	@$(BIN)/python tools/generate_settings_docs.py
	@$(BIN)/python tools/generate_reason_codes.py
	@$(BIN)/python tools/generate_telemetry_docs.py
	@$(BIN)/python -m tools.generate_wire_contract

fix: $(READY)  ## format and mend what ruff can mend
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

requirements:  ## compile the pinned requirements again
	@for f in bootstrap dev; do $(COMPILE) --upgrade requirements/$$f.in -o requirements/$$f.txt; done
	@for f in $(IMAGES_HOLD); do $(COMPILE) -c requirements/dev.txt requirements/$$f.in -o requirements/$$f.txt; done

images: ## build the container images, tagged fedbus/NAME:local
	@for image in $(IMAGES); do echo "fedbus/$$image"; DOCKER_BUILDKIT=1 docker build --quiet -f deploy/images/$$image.Dockerfile -t fedbus/$$image:local .; done

containers: $(READY)  ## the deployment in real containers under faults; starts an engine of its own where none runs
	@tests/containers/run.sh

clean:  ## remove the virtual environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache
