# Needs git, make and Python 3.11 or later; everything else goes into .venv.
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
# Of things that run side by side, each prints when it is done.
IN_BLOCKS := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
SOURCES := product_consumer data_management.py thread_runner.py benchmarks tests
# A hundred processes start in the tests: none compiles what another one has compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-streams test test-workers test-faults test-outages test-rabbitmq test-units test-project test-contracts test-rabbitmq-versions soak bench check lint types imports docs train-demo-model clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## Install everything into .venv

demo: $(INSTALLED)  ## Run the whole job on drawn products: make demo ARGS="--catalog DIR"
	$(BIN)/python thread_runner.py --demo $(ARGS)

demo-streams: $(INSTALLED)  ## Run the stages on drawn pictures and records, on a RabbitMQ of their own
	$(BIN)/python -m product_consumer.demo.streams

ifdef ARGS
test: lint imports types docs
	$(BIN)/python -m pytest $(ARGS)
else
# The longest come first. Some wait more than they work, others the other way round.
test: $(INSTALLED)  ## All checks and all tests, four at a time: what CI runs
	@$(MAKE) --no-print-directory --jobs=4 $(IN_BLOCKS) test-rabbitmq test-faults test-units test-workers test-outages test-project test-contracts types lint imports docs
endif

# Two jobs, since the one waits while the other works.
OUTAGES := $(addprefix tests/faults/test_,outages.py refused_writes.py thread_faults.py stops.py signals.py clock.py)
# One job: its server takes ten seconds to start.
RABBITMQ := $(addprefix tests/,faults/rabbitmq faults/test_stages_under_kills.py acceptance/test_streams.py acceptance/test_rabbitmq.py contracts/test_message_queue.py) \
  $(addprefix tests/unit/,queues/rabbitmq streams cli/test_stages.py cli/test_streams.py demo/streams)

test-faults: $(INSTALLED)  ## What must survive crashes, redelivery and hostile input
	$(BIN)/python -m pytest tests/faults $(OUTAGES:%=--ignore=%) $(RABBITMQ:%=--ignore=%)

test-outages: $(INSTALLED)  ## What must survive outages and stops; waits more than it works
	$(BIN)/python -m pytest $(OUTAGES)

test-rabbitmq: $(INSTALLED)  ## RabbitMQ, data streams and stages, on a real server
	$(BIN)/python -m pytest $(RABBITMQ)

test-workers: $(INSTALLED)  ## The tests of whole workers
	$(BIN)/python -m pytest tests/acceptance $(RABBITMQ:%=--ignore=%)

test-units: $(INSTALLED)  ## The tests of single modules
	$(BIN)/python -m pytest tests/unit --ignore=tests/unit/project --ignore=tests/unit/runtime $(RABBITMQ:%=--ignore=%)

test-project: $(INSTALLED)  ## The tests of processes, and of the project's own rules
	$(BIN)/python -m pytest tests/unit/runtime tests/unit/project

test-contracts: $(INSTALLED)  ## What every queue, every store and the ledgers must do
	$(BIN)/python -m pytest tests/contracts $(RABBITMQ:%=--ignore=%)

test-rabbitmq-versions: $(INSTALLED)  ## RabbitMQ's tests on versions 4.0 and 4.3; needs root and mmdebstrap
	for suite in trixie sid; do \
	  RABBITMQ_SUITE=$$suite $(BIN)/python -m pytest tests/contracts/test_message_queue.py tests/faults/rabbitmq -k rabbitmq || exit; \
	done

soak: $(INSTALLED)  ## Every fault there is, for half an hour, then load
	$(BIN)/python -m pytest tests/faults tests/contracts tests/acceptance --soak -m soak $(ARGS)

bench: $(INSTALLED)  ## Measure what needs no GPU, in five minutes; each program in benchmarks/ has longer runs
	$(BIN)/python -m benchmarks.batching
	$(BIN)/python -m benchmarks.steps --rounds 5
	$(BIN)/python -m benchmarks.gil --threads 32 --windows 2
	$(BIN)/python -m benchmarks.replay --rounds 1
	$(BIN)/python -m benchmarks.pipeline

check: lint imports types docs  ## The quick part: no test that needs a server
	$(BIN)/python -m pytest -m "not backend" $(ARGS)

lint: $(INSTALLED)  ## Style, errors and layout of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)  ## Static types
	$(BIN)/mypy $(SOURCES)

imports: $(INSTALLED)  ## Who may import whom
	$(BIN)/lint-imports

docs: $(INSTALLED)  ## Build the documentation into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

train-demo-model: $(INSTALLED)  ## Train the demo's tiny model again
	$(BIN)/python -m product_consumer.demo.training.train_model $(ARGS)

clean:  ## Remove .venv and every cache; data/ stays
	rm -rf .venv site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find product_consumer tests -name __pycache__ -type d -prune -exec rm -rf {} +

# uv takes seconds where pip takes minutes; pip alone does the same. "venv" also adds pip where it is missing.
$(INSTALLED): requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one with: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv || \
	  { echo "No virtual environment could be made; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'; then \
	  $(BIN)/uv pip install --python $(BIN)/python -r requirements-dev.txt -c constraints.txt; \
	else \
	  $(BIN)/python -m pip install -r requirements-dev.txt -c constraints.txt; \
	fi
	@touch $@
