# Everything runs in .venv, set up from requirements.lock; a second call finds it ready.

PYTHON ?= python3
N_TASKS ?= 1000
BIN := .venv/bin
STAMP := .venv/.ready
# What `make chaos` draws more of than `make test`: four times as many, where a test does not say how many itself.
DRAWN := tests/unit $(addprefix tests/integration/test_,batch.py breaker_machine.py differential.py lease_machine.py spared.py)

.PHONY: report test lab bench chaos check lock setup clean help

help:
	@echo "make report [N_TASKS=1000]  set up, run the whole chain on the embedded engine, write runs/<run id>/index.html"
	@echo "make test                   set up, run all tests"
	@echo "make lab                    JupyterLab on a start page that leads to each notebook, with the embedded engine up"
	@echo "make check                  linters and types"
	@echo "make bench                  benchmarks, each against its peer, into docs/benchmarks.md; more than an hour on two cores"
	@echo "make chaos                  a table of what comes of 20,000 tasks while everything around them fails; a quarter of an hour"
	@echo "make lock                   resolve pyproject.toml into requirements.lock again"

report: setup
	$(BIN)/taskq report --target local -p n_tasks $(N_TASKS)

# Browsers keep both cores busy; beside them, tests that time the engine would wait in vain.
test: setup
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder --ignore tests/browser
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/browser

lab: setup
	$(BIN)/taskq lab

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint cloudformation.yaml
	$(BIN)/nbstripout --verify notebooks/*.ipynb

bench: setup
	$(BIN)/python -m benchmarks --write

chaos: setup
	$(BIN)/python -m tests.chaos --tasks 20000 --seed 1
	$(BIN)/python -m pytest --hypothesis-profile thorough $(DRAWN)

lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras pyproject.toml \
	  --custom-compile-command "make lock" --output-file requirements.lock

setup: $(STAMP)

# uv installs the lock in seconds, trusting what this machine trusts; where it reaches no index (it does not read pip's
# configuration), pip does. Compiled as pip does it: where Python may not write bytecode, every start compiled it anew.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version) is too old; Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: this Python has no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	@echo "setting up .venv from requirements.lock"
	@$(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
	@UV_NATIVE_TLS=1 VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock 2>.venv/uv.log || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $(STAMP)

clean:
	rm -rf .venv .taskq .mypy_cache .pytest_cache .ruff_cache .hypothesis
