# Everything happens in .venv; the two commands that matter are `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

.PHONY: demo test test-slow test-all lint format lock clean

demo: .venv/ready
	$(BIN)/mmjax ablate experiments/digits_dcca.py --seeds 5 --run-dir runs/demo
	$(BIN)/mmjax report runs/demo

test: .venv/ready-to-test lint
	$(PYTEST) -m "not slow"

test-slow: .venv/ready-to-test
	$(PYTEST) -m slow

test-all: test test-slow

lint: .venv/ready-to-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready-to-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'mmjax needs Python 3.11 or later: name one with PYTHON=..., such as make PYTHON=python3.12 demo')"
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/ready-to-test: .venv/ready
	$(INSTALL) --editable '.[test]'
	touch $@

# The versions that demo, tests and published figures were made with; names packages only.
lock: .venv/ready-to-test
	$(INSTALL) --editable '.[test,sweep,tensorboard]'
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

clean:
	rm -rf .venv build *.egg-info
