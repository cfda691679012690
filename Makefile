# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint readers clean

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

# The stamp is newer than pyproject.toml: nothing is installed twice.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "aras needs Python 3.10 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo
