# make demo   set everything up and convert the shipped models
# make test   set everything up and run all checks
# make site   set the documentation's packages up and build it into site/
# All work from a bare Python 3.11+ with pip; the second run starts at once.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e
QUIET = TF_CPP_MIN_LOG_LEVEL=3

.PHONY: demo test check site clean

demo: $(VENV)/.models
	$(QUIET) $(BIN)/python -m models.demo

test: $(VENV)/.test check
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.models: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[torch,tensorflow,models]'
	@touch $@

$(VENV)/.test: $(VENV)/.models
	$(INSTALL) '.[test]'
	@touch $@

$(VENV)/.docs: $(VENV)/.models
	$(INSTALL) '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
