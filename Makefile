# Each target sets up what it needs. PYTHON is what makes the virtual environment VENV; ARGS goes to pytest, which runs
# in WORKERS processes, each with an emulator; BENCH to benchmarks/run.py; SEED and SECONDS go to the torture test.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 3
BENCH ?=
SECONDS ?= 180
SEED ?=

# Programs of this project share compiled modules: a container that forbids to write them has each of hundreds of
# processes compile 250 files, 0.7 s of processor time.
export PYTHONDONTWRITEBYTECODE =

RUN = $(VENV)/bin/python
EMULATOR = $(RUN) -m firestore_flowstate.emulator
READY = $(VENV)/.ready
FIREBASE_TOOLS = .firebase-tools
GENKIT_JS = .genkit-js
BROWSER = .browser
FIREBASE = $(FIREBASE_TOOLS)/node_modules/.bin/firebase
EXEC_FOLDER = build/firebase-exec
EMULATOR_CLASSES = build/emulator-classes/.ready
# firebase-tools otherwise looks for a newer self in the background.
OFFLINE = CI=1 NO_UPDATE_NOTIFIER=1

# By default npm waits 5 minutes for a connection that stalls, three times over.
NPM_OPTIONS = --no-package-lock --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error \
	--fetch-timeout=60000 --fetch-retries=5

.DELETE_ON_ERROR:
.PHONY: help demo docs site set-up test check test-all test-lowest bench torture torture-flows release firebase-exec firebase-tools genkit-js browser find-emulator clean

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(READY) ## a flow that outlives its process, then what Genkit JS left; on the emulator, or in memory without one
	@$(RUN) examples/demo.py

docs: $(READY) ## what is generated of the docs: the reference of the command
	$(RUN) -m tests.cli.reference

site: $(READY) ## the documentation as pages, in build/site/html
	$(RUN) docs/pages.py

set-up: $(READY) firebase-tools genkit-js browser $(EMULATOR_CLASSES) ## all that a bare checkout lacks for `make test`; faster by make --jobs=4

test: $(READY) find-emulator firebase-tools genkit-js browser $(EMULATOR_CLASSES) ## all tests, on the emulator
	$(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## what CI runs: lint, format, types, all tests
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	@$(MAKE) --no-print-directory test

bench: $(READY) find-emulator ## all benchmarks; BENCH="save_load steps" for some, BENCH=--readme to keep figures and plots
	$(RUN) benchmarks/run.py $(BENCH)

test-all: ## all tests, on every Python from 3.10 that is installed
	@MAKE="$(MAKE)" tests/on_every_python

test-lowest: ## all tests, with the lowest versions that pyproject.toml allows, on Python 3.10 or 3.11
	@MAKE="$(MAKE)" tests/on_lowest_versions

torture: $(READY) find-emulator ## everything at once, while connections break and the server is killed, for SECONDS
	@FLOWSTATE_THOROUGH=1 $(RUN) -m pytest --quiet tests/parts/test_interleaving.py tests/parts/test_expiry_of_parts.py
	@$(RUN) -m tests.torture --seconds $(SECONDS) $(addprefix --seed ,$(SEED))

torture-flows: $(READY) find-emulator ## durable flows, while their processes are killed, stopped and cut off, for SECONDS
	@$(RUN) -m tests.flows.torture_flows --seconds $(SECONDS) $(addprefix --seed ,$(SEED))

release: $(READY) find-emulator ## sdist and wheel in dist/, checked and tried on every Python installed; stops before the upload
	$(RUN) release.py

firebase-exec: $(READY) firebase-tools ## the quickstart, on the emulator that firebase-tools starts
	@$(RUN) tests/firebase_tools/exec_folder.py $(EXEC_FOLDER)
	$(OFFLINE) FIRESTORE_EMULATOR_BINARY_PATH=$(CURDIR)/$(EXEC_FOLDER)/emulator.jar \
		$(FIREBASE) emulators:exec --config $(EXEC_FOLDER)/firebase.json --only firestore --project demo-flowstate \
		"$(RUN) examples/quickstart.py"

firebase-tools: $(FIREBASE_TOOLS)/.ready ## firebase-tools, which some tests need

genkit-js: $(GENKIT_JS)/.ready ## Genkit JS with its own store, which some tests need

browser: $(BROWSER)/.ready ## a headless Chromium, which some tests need

find-emulator: $(READY)
	@$(EMULATOR) where

clean: ## remove what the targets above have made
	rm -rf .venv .venv-3.* .venv-lowest $(FIREBASE_TOOLS) $(GENKIT_JS) $(BROWSER) build .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed: make PYTHON=python3.12" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade 'pip>=25.1'
	$(RUN) -m pip install --quiet --editable . --group dev
	@touch $@

# Tests start some 70 emulators, in half of the time if Java has an archive of its classes.
$(EMULATOR_CLASSES): $(READY) tests/support/emulator_classes.py | find-emulator
	@$(RUN) -m tests.support.emulator_classes
	@touch $@

$(FIREBASE_TOOLS)/.ready: tests/firebase_tools/package.json
$(GENKIT_JS)/.ready: tests/genkit_js/package.json
$(BROWSER)/.ready: tests/browser/package.json tests/browser/unpack.mjs
$(FIREBASE_TOOLS)/.ready $(GENKIT_JS)/.ready $(BROWSER)/.ready:
	@command -v npm >/dev/null || { echo "npm (Node 20 or newer) is needed for some tests: https://nodejs.org" >&2; exit 1; }
	@mkdir -p $(@D)
	@cp $< $(@D)/package.json
	npm install --prefix $(@D) $(NPM_OPTIONS)
	$(if $(filter %.mjs,$^),cd $(@D) && node $(CURDIR)/$(filter %.mjs,$^))
	@touch $@
