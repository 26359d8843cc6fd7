# Two commands from a fresh clone: `make lab` shows the effect, `make test` runs what CI runs.
# Each sets up its own virtual environment from Python >= 3.11 alone.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/default.txt
SHARED ?=

.PHONY: lab test fuzz parity format clean

lab: $(VENV)/.ready
	$(BIN)/micota run lab

test: $(VENV)/.ready-for-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest $(if $(SHARED),--shared=$(SHARED))

fuzz: $(VENV)/.ready-for-tests
	$(BIN)/python tests/scoring/fuzz.py 100000

# What mergekit makes of the same cases, in an environment of its own; tests/test_parity.py reads it.
parity: $(VENV)/.ready-for-tests
	$(PYTHON) -m venv $(VENV)-mergekit
	$(VENV)-mergekit/bin/python -m pip install --quiet --disable-pip-version-check -c constraints/mergekit.txt mergekit
	OMP_NUM_THREADS=1 $(VENV)-mergekit/bin/python tests/parity/record.py tests/data/mergekit
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/test_parity.py

format: $(VENV)/.ready-for-tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.ready: pyproject.toml constraints/default.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "micota needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 1.6 GB, a minute or two."
	$(PIP) setuptools
	$(PIP) --no-build-isolation -e .
	@touch $@

$(VENV)/.ready-for-tests: $(VENV)/.ready
	$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build src/*.egg-info
