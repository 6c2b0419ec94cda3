# `make demo` and `make test` set everything up by themselves; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
IPYKERNELS ?= 6.31.0 7.3.0 7.4.0

.PHONY: help demo test test-stop lint format clean

help:
	@echo "make demo       run the example workflow on the bundled model and print its text"
	@echo "make test       install what the tests need and run them"
	@echo "make test-stop  run those of Stop and interrupt on each ipykernel of IPYKERNELS"
	@echo "make lint       check style and types"
	@echo "make format     put the code into shape"
	@echo "make clean      remove the virtual environment and caches"

# Set-up speaks on standard error, so that standard output holds the story alone.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=…" >&2; exit 1; }
	@echo "Setting up $(VENV) (once)…" >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . >&2
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' >&2
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/model-compose run --file notebooks/model-compose.yml --stream \
		--input prompt="Once upon a time in a distant galaxy" --input seed:=7

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

# Needs Chromium: without it, half of what is to be seen would be left out.
test-stop: $(VENV)/installed-dev
	MODELCOMPOSE_BROWSER=required $(BIN)/python -m pytest -m stop \
		$(addprefix --ipykernel=,$(IPYKERNELS))

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
