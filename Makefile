# Two commands for a newcomer: `make demo` and `make test`. Both make .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all bench results lint clean

demo: $(VENV)/.installed
	$(BIN)/kerasall run configs/demo.yaml

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "slow or not slow" --cov=kerasall

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/run_all.py

# make results CNMC=PATH ARIA=PATH LABELS=FILE WEIGHTS=DIR [ROWS="NAME ..."] [OPTIONS=--list]
results: $(VENV)/.installed
	$(BIN)/python -m results.make $(if $(CNMC),--cnmc "$(CNMC)") $(if $(ARIA),--aria "$(ARIA)") $(if $(LABELS),--labels "$(LABELS)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(OPTIONS) $(ROWS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright --pythonpath $(BIN)/python

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kerasall needs Python 3.11 or newer, found " + sys.version.split()[0] + "; choose one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras, which holds those before it; renewed when the metadata or the pinned versions change.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.installed $(VENV)/.installed-test $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .coverage
