# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORE_STAMP := $(VENV)/.installed-core
# laion-clap wants numpy 1, so its tests have an environment of their own.
CLAP_VENV ?= .venv-clap
CLAP_STAMP := $(CLAP_VENV)/.installed

# Where uv is at hand, `make demo UV=uv` has it install: on Linux it finds torch's CPU build, a tenth of the one with CUDA.
ifdef UV
INSTALL := VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet --torch-backend cpu
SIZE := under 1 GB
else
INSTALL := $(BIN)/python -m pip install --quiet
SIZE := 1 GB, and on Linux 5 GB, for torch brings CUDA there (make $(or $(MAKECMDGOALS),demo) UV=uv avoids that)
endif

# Small steps on few cores: waiting threads that spin would only take time from each other.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: demo test test-random test-slow test-clap lint bench bench-quality docs

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The demo needs the core alone: torch, faiss and what reads pictures and sounds.
$(CORE_STAMP): pyproject.toml | $(BIN)/python
	@echo "installing cmcr and its core into $(VENV): $(SIZE); one to five minutes"
	$(INSTALL) --editable .
	touch $@

$(STAMP): pyproject.toml | $(BIN)/python
	@echo "installing cmcr with all extras and the tools of its tests into $(VENV): 2 GB beside torch; two to ten minutes"
	$(INSTALL) --editable '.[dev]'
	touch $@ $(CORE_STAMP)

$(CLAP_STAMP): pyproject.toml
	$(PYTHON) -m venv $(CLAP_VENV)
	$(CLAP_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(CLAP_VENV)/bin/python -m pip install --quiet --editable '.[dev,clap]' 'pyarrow<26'
	touch $@

demo: $(CORE_STAMP)
	$(BIN)/cmcr demo -o demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# Examples that nobody chose; a find belongs into its test as an @example.
test-random: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m hypothesis --hypothesis-profile=random

test-slow: $(STAMP)
	$(BIN)/pytest -m slow --timeout=1200

test-clap: $(CLAP_STAMP)
	OMP_NUM_THREADS=1 $(CLAP_VENV)/bin/pytest -n 2 -m 'slow or not slow' --timeout=1200 $(wildcard tests/test_*clap*.py) \
		tests/test_encoder_contract.py tests/test_embed.py tests/test_memory.py tests/test_media.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/data_path.py
	$(BIN)/python benchmarks/pairing.py
	$(BIN)/python benchmarks/startup.py

bench-quality: $(STAMP)
	$(BIN)/python benchmarks/$(if $(BED),beds.py $(BED) --readme,quality.py)

docs: $(STAMP)
	$(BIN)/python -m typer cmcr.cli utils docs --name cmcr --output docs/cli.md
