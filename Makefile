# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STEP := sh .ci/step
JOBS ?= 3
TESTS := sh .ci/tests $(BIN)/python $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint bench soak test-servers mirror mirror-all encoder generated images e2e clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.ready ## Make the environment in .venv from the pinned, hashed requirements

$(VENV)/.ready: requirements/dev.txt .ci/python
	@sh .ci/python "$(PYTHON)" "$(VENV)" requirements/dev.txt
	@touch $@

mirror: ## Build the stdout mirror for this machine (mirror/build/sidetail-mirror)
	@$(MAKE) -s -C mirror

mirror-all: $(VENV)/.ready ## Build the stdout mirror for amd64 and arm64
	@$(MAKE) -s -C mirror all PYTHON=$(abspath $(BIN)/python)

encoder: $(VENV)/.ready ## Build the C encoder for this machine (sidecar/build/encode.so)
	@$(BIN)/python -m sidecar.build_encoder

demo: $(VENV)/.ready ## Play one pod on this machine: POD=my-pod.yaml APP='command' for your own
	@$(MAKE) -s mirror encoder 2>&1 || echo "no C compiler: going on without what it builds"
	@$(BIN)/python -m demo $(if $(POD),--pod "$(POD)") $(if $(APP),--app "$(APP)")

lint: $(VENV)/.ready ## Format, style, types, import contracts, dead code, dependencies
	@$(STEP) "format" $(BIN)/ruff format --check .
	@$(STEP) "ruff" $(BIN)/ruff check .
	@$(STEP) "mypy" $(BIN)/mypy
	@$(STEP) "import contracts" $(BIN)/lint-imports
	@$(STEP) "vulture" $(BIN)/vulture
	@$(STEP) "deptry" $(BIN)/deptry .

generated: $(VENV)/.ready ## Write the generated documents and manifests anew
	@$(BIN)/python -m tests.generated --write

test: lint ## Run everything; the long forms are behind `make soak`
	@$(STEP) "mirror and encoder" $(MAKE) -s mirror encoder
	@$(STEP) "tests" $(TESTS) "not soak and not servers"
	@echo "one test: $(BIN)/python -m pytest -n0 tests/FILE.py -k NAME"

soak: $(VENV)/.ready mirror encoder ## The long forms: 1,000 kills, an hour of weather, fuzzing
	$(BIN)/python -m pytest -q -n0 -m soak --timeout 7200

test-servers: $(VENV)/.ready mirror encoder ## Backends against real servers (a JVM, rsyslog, …)
	@$(STEP) "real servers" sh .ci/tests $(BIN)/python 0 servers --timeout 900

bench: $(VENV)/.ready mirror encoder ## Measure; FLUENT_BIT=path and OTELCOL=path compare in the same run
	@$(BIN)/python -m bench

images: $(VENV)/.ready ## Build both images (needs Docker): BASE=name@sha256:digest
	@sh images/build.sh

e2e: $(VENV)/.ready ## Run the end-to-end script against the cluster of $KUBECONFIG
	$(BIN)/python -m pytest -q -n0 tests/e2e --e2e

clean: ## Remove what was built
	rm -rf $(VENV) mirror/build sidecar/build build demo-output .mypy_cache .ruff_cache .pytest_cache \
	  .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -prune -exec rm -rf {} +
