# Everything runs in .venv, from the locked versions in requirements.lock.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOWNSTREAM := build/downstream
SANDBOX := build/sandbox

# What is compiled is kept, wherever this runs: a test run starts hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

# Files at a time, for two cores: tests wait for more than half of their time.
WORKERS ?= 4
# What needs no fleet hardly waits: one of them has the servers, and one more than cores fills its pauses.
FAST_WORKERS ?= 3

# The system's own packages, for Debian's python3, which comes without venv.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: $(STAMP) ## build .venv with all extras and the development tools

$(STAMP): requirements.lock pyproject.toml | check-python
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: check-python
check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "drakcelery needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if ! command -v apt-get >/dev/null || { [ -n "$(AS_ROOT)" ] && ! command -v sudo >/dev/null; }; then \
	    echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; \
	  fi; \
	  echo "$(PYTHON) cannot make virtual environments; installing the system package python3-venv"; \
	  $(AS_ROOT) apt-get update --quiet --quiet && \
	  $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends python3-venv >/dev/null && \
	  $(PYTHON) -c 'import ensurepip, venv' || { \
	    echo "that did not help: install the venv module of $(PYTHON), then run make again" >&2; exit 1; }; }

.PHONY: demo
demo: $(STAMP) ## analyse a sample on this machine, from nothing to the artifacts (SAMPLE=path: that file)
	@SAMPLE="$${SAMPLE:-}"; $(BIN)/drakcelery demo $${SAMPLE:+--sample "$$SAMPLE"}

.PHONY: stdcall
stdcall: $(STAMP) ## make the emulator's table of 32-bit functions anew (needs mingw-w64)
	$(BIN)/python -m drakcelery.engines.speakeasy_guest.calling.import_libraries

.PHONY: up
up: $(STAMP) ## keep the embedded stack running until Ctrl-C
	@exec $(BIN)/drakcelery up

.PHONY: test
test: $(STAMP) $(DOWNSTREAM)/requirements.txt $(SANDBOX)/sandbox.txt ## run the whole test suite, servers included
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

# The heart: what an analysis goes through. What these tests run of it is measured, in all processes that they start.
HEART := drakcelery/stages/*,drakcelery/ledger/*,drakcelery/karton/*,drakcelery/recovery/*,drakcelery/worker/*,drakcelery/host/*
HEART_LEAST := 95
HEART_TESTS := tests/heart tests/unit $(patsubst %,tests/integration/test_%.py,deaths doubts duty every_loop \
  deleting gate_records early_upload finding inbox isolation key_types ledger odd_records odd_values forecast presence heartbeat reconcile \
  replacing orphans pool_process reuse second_look tls watch)

.PHONY: coverage
coverage: $(STAMP) ## measure what the tests reach of the package, line and branch; too little of the heart fails
	rm -rf build/coverage
	$(BIN)/coverage run -m pytest --quiet --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(HEART_TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --include='$(HEART)' --fail-under=$(HEART_LEAST)

# Rules of the house that stand beside slow tests, since they need what those need, and a schedule of the simulation: all
# of it may refuse what is new in the package.
RULES := tests/integration/test_every_loop.py::test_no_loop_is_forgotten \
  tests/integration/test_doctor_keys.py::test_every_key_is_looked_at \
  tests/integration/test_keys.py::test_stated_times_are_the_real_ones \
  tests/integration/test_remedies.py::test_no_general_remedy_has_a_command \
  tests/acceptance/test_karton_integration.py::test_each_step_has_its_row \
  tests/faults/test_report.py::test_the_page_shows_every_case \
  'tests/simulation/test_simulation.py::test_what_once_failed_passes[crashed-and-queued-again]'

# Those that need no fleet. A test that takes seconds is marked as slow, or belongs into another folder. Of what Hypothesis
# makes up each has a fifth of its examples; `make test` has all of them.
.PHONY: test-fast
test-fast: $(STAMP) ## run in a minute or two what needs no fleet: at each save
	$(BIN)/pytest --numprocesses=$(FAST_WORKERS) --dist=loadfile --no-loadscope-reorder --hypothesis-profile=fast -m "not slow" $(wildcard tests/heart tests/unit) $(RULES)

.PHONY: test-failed
test-failed: $(STAMP) ## run again, one after the other, the tests that failed last
	$(BIN)/pytest --last-failed --last-failed-no-failures=none

.PHONY: test-flaky
test-flaky: $(STAMP) ## run again what failed last, if tests/flaky.toml lists all of it
	$(BIN)/python -m tests.flaky

.PHONY: downstream
downstream: $(DOWNSTREAM)/requirements.txt ## install the public Karton services that tests/downstream runs

# Of their own, as their dependencies are none of ours. The copy says which versions are there.
$(DOWNSTREAM)/requirements.txt: tests/downstream/requirements.txt | check-python
	rm -rf $(DOWNSTREAM)
	$(PYTHON) -m venv $(DOWNSTREAM)
	$(DOWNSTREAM)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	cp $< $@

.PHONY: sandbox
sandbox: $(SANDBOX)/sandbox.txt ## fetch DRAKVUF Sandbox's own post-processing, which ours is compared with

# Without its dependencies, which need a Xen host; it is only imported file by file.
$(SANDBOX)/sandbox.txt: tests/downstream/sandbox.txt | $(STAMP)
	rm -rf $(SANDBOX)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(SANDBOX) --requirement $<
	cp $< $@

.PHONY: screenshots
screenshots: $(STAMP) ## photograph the pages in Flower, and record top, for docs/images
	SCREENSHOTS=docs/images $(BIN)/pytest tests/acceptance/test_flower.py

.PHONY: readme
readme: $(STAMP) ## make README's report and picture anew, of a real analysis
	$(BIN)/python -m tests.readme

.PHONY: chaos
chaos: $(STAMP) ## kill, freeze and cut off everything while samples are analysed (DURATION=seconds SEED=number)
	@DURATION="$${DURATION:-300}"; SEED="$${SEED:-}"; \
	$(BIN)/python -m tests.faults.storm --duration "$$DURATION" $${SEED:+--seed "$$SEED"}

.PHONY: outages
outages: $(STAMP) ## force each order of return after each outage, into build/outages.json and docs (25 minutes)
	OUTAGES=1 $(BIN)/pytest --timeout=0 --numprocesses=0 tests/faults/test_outages.py
	$(BIN)/python -m tests.faults.report

.PHONY: xen
xen: $(STAMP) ## boot Debian's Xen in QEMU without KVM, and drive its own xl by the engine
	$(BIN)/python -m tests.xen.real

.PHONY: simulate
simulate: $(STAMP) ## simulate a fleet and its faults from a seed (SEED=, SCHEDULES=, STEPS=, FILE=, TRACE=1)
	@$(BIN)/python -m tests.simulation --seed "$${SEED:-1}" --schedules "$${SCHEDULES:-1}" --steps "$${STEPS:-600}" \
	  --keep build/simulation --report build/simulation.json $${FILE:+--file "$$FILE"} $(if $(TRACE),--trace)

.PHONY: bench
bench: $(STAMP) $(SANDBOX)/sandbox.txt ## measure everything, against peers and limits, into build/bench.json and docs (QUICK=1: a quarter of an hour)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

.PHONY: lint
lint: $(STAMP) ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMP) ## check types
	$(BIN)/mypy

.PHONY: docs
docs: $(STAMP) ## build the documentation into docs/_build/html; a warning fails it
	$(BIN)/sphinx-build -W --keep-going --quiet --builder html docs docs/_build/html

.PHONY: wheel
wheel: $(STAMP) ## build the wheel, the source distribution and the constraints for production into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python -m distribution constraints dist/constraints.txt

.PHONY: deb
deb: $(STAMP) ## build the Debian package into dist/, for the Python of .venv; needs no root
	$(BIN)/python -m distribution deb --output dist

.PHONY: lock
lock: check-python ## refresh requirements.lock: newest versions that pyproject.toml allows
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/lock/bin/uv pip compile pyproject.toml --quiet --upgrade --all-extras --group dev --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-config \
	  --custom-compile-command 'make lock' --output-file requirements.lock
	build/lock/bin/uv pip compile tests/downstream/requirements.in --quiet --upgrade --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-config \
	  --custom-compile-command 'make lock' --output-file tests/downstream/requirements.txt

.PHONY: clean
clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find drakcelery workers tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
