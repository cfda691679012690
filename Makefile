# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint readers docs clean

demo: $(VENV)/.installed
	$(BIN)/aras demo demo

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# A release, read by the oldest to the newest libraries in use; environments are kept in a cache.
readers: $(VENV)/.installed
	$(BIN)/python -m pytest -m readers tests/readers

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation as a searchable site, build/site/index.html; a warning ends it.
docs: $(VENV)/.docs
	$(BIN)/python scripts/write_site.py build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

$(VENV)/.docs: $(VENV)/.installed
	$(INSTALL) -e '.[docs]'
	touch $@

# uv where there is one, else pip; both take the versions that constraints.txt pins.
UV      := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet) -c constraints.txt

# The stamp is newer than pyproject.toml and constraints.txt: nothing is installed twice.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "aras needs Python 3.10 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build
