# Every command of the project, defined once; hooks and CI call these targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVICES := invoicing payments dunning notifications analytics
MEMBERS := shared/contracts shared/chassis $(SERVICES:%=services/%)
CODE := shared services tests examples benchmarks
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
