# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Small steps on few cores: waiting threads that spin would only take time from each other.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: demo test test-slow lint bench bench-quality docs

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/cmcr demo -o demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test-slow: $(STAMP)
	$(BIN)/pytest -m slow --timeout=1200

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py

bench-quality: $(STAMP)
	$(BIN)/python benchmarks/quality.py

docs: $(STAMP)
	$(BIN)/python -m typer cmcr.cli utils docs --name cmcr --output docs/cli.md
