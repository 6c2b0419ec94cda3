# `make demo` and `make test` set everything up by themselves; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
IPYKERNELS ?= 6.31.0 7.3.0 7.4.0

# The JupyterLab extension is for those who have a Node.js that its builder works with.
NODE := $(shell node --version 2>/dev/null | grep -E '^v(20\.(19|2.)|22\.(1[2-9]|2.)|2[3-9]\.)')
MODULES := labextension/node_modules/.yarn-state.yml
MANIFESTS := labextension/package.json labextension/yarn.lock
PROXY := $(VENV)/proxy/node_modules/.bin/configurable-http-proxy
JLPM := cd labextension && PATH="$(abspath $(BIN)):$$PATH" jlpm

.PHONY: help demo test test-all test-labextension test-stop test-hub canary coverage lint \
	lint-labextension format messages site pictures dist lowest clean node

help:
	@echo "make demo       run the example workflow on the bundled model and print its text"
	@echo "make test       install what the tests need and run them, but for the slow ones"
	@echo "make test-all   all tests, and all of the browser's"
	@echo "make test-stop  those of Stop and interrupt on each ipykernel of IPYKERNELS"
	@echo "make test-hub   those on a JupyterHub with its proxy"
	@echo "make canary     what is taken for granted of other people's software"
	@echo "make coverage   which lines the Python tests run"
	@echo "make site       build the documentation into build/site/html, and check its links"
	@echo "make pictures   take the pictures of README and documentation anew, in a browser"
	@echo "make lint       check style, types, and that imports run one way"
	@echo "make format     put the code into shape"
	@echo "make messages   bring the translations up to what the source says; it lists what is left"
	@echo "make dist       build wheel and sdist of what is committed into dist/, and check them"
	@echo "make lowest     test with the lowest versions that pyproject.toml allows"
	@echo "make clean      remove the virtual environment and caches"

# Set-up speaks on standard error, so that standard output holds the story alone: in a terminal
# pip says what it fetches, with its bars. The demo does not wait for the JupyterLab extension.
PIP := $(BIN)/python -m pip install $(shell [ -t 2 ] || echo --quiet) --constraint constraints.txt
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=…" >&2; exit 1; }
	@echo "Setting up $(VENV), once: PyTorch, transformers and JupyterLab, 1 to 2 GB;" >&2
	@echo "on Linux PyTorch comes with CUDA, which is several GB more. This takes minutes…" >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@MODELCOMPOSE_LABEXTENSION=skip $(PIP) --editable . >&2
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed $(if $(NODE),$(MANIFESTS) \
		$(shell find labextension/schema labextension/src labextension/style -type f 2>/dev/null))
	@echo "Installing what tests and linters need into $(VENV)…" >&2
	@$(PIP) --editable '.[dev]' >&2
	@touch $@

# Whoever builds the extension has installed them.
$(MODULES): $(MANIFESTS) | $(VENV)/installed-dev
	@[ $@ -nt labextension/package.json ] && [ $@ -nt labextension/yarn.lock ] || \
		{ $(JLPM) install --immutable; } >&2
	@touch $@

node:
	@[ "$(NODE)" ]

demo: $(VENV)/installed
	@$(BIN)/model-compose run --file notebooks/model-compose.yml --stream \
		--input prompt="Once upon a time in a distant galaxy" --input seed:=7

# Two at a time, but for pages: those keep browser, server and kernel busy by themselves.
PYTEST := $(BIN)/python -m pytest
PARALLEL := --numprocesses 2 --dist worksteal
# On a busy machine a test may fail that waits for what others delay. So those that fail are run once
# more by themselves, and have to pass then; the log has both.
tests = $(PYTEST) $(2) $(1) || { [ $$? = 1 ] && \
	$(PYTEST) --last-failed --last-failed-no-failures none --maxfail 5 $(1); }

test: $(VENV)/installed-dev $(if $(NODE),test-labextension)
	$(PYTEST) $(PARALLEL) --ignore tests/browser -m "not slow and not canary and not ray and not hub"
	$(PYTEST) tests/browser -m "smoke and not canary"
	@echo "Left out: what is marked slow or needs Ray or a JupyterHub, and what is not a smoke test in the browser (make test-all)."

test-all: $(VENV)/installed-dev $(if $(NODE),test-labextension $(PROXY))
	$(call tests,--ignore tests/browser -m "not canary and not ray and not hub",$(PARALLEL))
	$(call tests,tests/cluster tests/deployment -m "ray or hub")
	$(call tests,tests/browser -m "not canary")

canary: $(VENV)/installed-dev
	$(PYTEST) -m canary

coverage: $(VENV)/installed-dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) --ignore tests/browser -m "not canary and not ray and not hub"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-labextension: $(MODULES)
	$(JLPM) test

# Needs Chromium: without it, half of what is to be seen would be left out.
test-stop: $(VENV)/installed-dev
	MODELCOMPOSE_BROWSER=required $(BIN)/python -m pytest -m stop \
		$(addprefix --ipykernel=,$(IPYKERNELS))

# Without Node there is no proxy, and its tests say that they were left out.
$(PROXY): | $(VENV)/installed-dev
	@npm install --silent --no-fund --no-audit --prefix $(VENV)/proxy configurable-http-proxy@5 >&2

test-hub: $(VENV)/installed-dev $(PROXY)
	$(PYTEST) tests/deployment -m hub

site: $(VENV)/installed-dev
	@$(BIN)/python website/build.py

pictures: $(VENV)/installed-dev
	MODELCOMPOSE_BROWSER=required $(PYTEST) tests/browser/take_pictures.py

lint: $(VENV)/installed-dev $(if $(NODE),lint-labextension)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

lint-labextension: $(MODULES)
	$(JLPM) lint
	$(JLPM) check

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

messages: $(VENV)/installed-dev
	$(BIN)/python translations/messages.py update

# A clone has what is committed and nothing that lies about. The wheel is built from the sdist. The
# clone is in no folder that git ignores: of such a one hatchling puts everything into the sdist.
dist: $(VENV)/installed-dev
	rm -rf dist
	folder=$$(mktemp -d) && trap "rm -rf $$folder" EXIT && git clone --quiet . $$folder && \
		MODELCOMPOSE_KERNELS=required MODELCOMPOSE_LABEXTENSION=required \
		$(BIN)/python -m build --outdir dist $$folder
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# Their own dependencies are the newest; PyTorch is the one that constraints.txt names. Left out is
# what needs datasets, which asks for a newer huggingface_hub.
LOWEST := build/lowest
UV := $(LOWEST)/bin/uv pip
lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints.txt --no-deps torch uv
	$(UV) install --quiet --python $(LOWEST) --resolution lowest-direct \
		-r pyproject.toml --extra lora --extra parquet --extra sentencepiece
	$(UV) freeze --python $(LOWEST) | grep -v '^torch==' >$(LOWEST)/constraints.txt
	$(UV) install --quiet --python $(LOWEST) --constraint $(LOWEST)/constraints.txt \
		babel gguf hypothesis jsonschema nbformat notebook openai pandas polars pytest pytest-timeout \
		pytest-xdist schemathesis trustme
	MODELCOMPOSE_LABEXTENSION=skip $(UV) install --quiet --python $(LOWEST) --no-deps --editable .
	$(LOWEST)/bin/python -m pytest $(PARALLEL) -m "not slow and not canary and not ray and not hub" \
		--ignore tests/mapping/test_rows.py \
		$(addprefix tests/,document workflow mapping widgets comparing notebook server test_cli.py)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage* \
		labextension/node_modules labextension/lib modelcompose_jupyter/labextension \
		build dist
