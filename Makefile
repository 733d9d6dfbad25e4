# make demo: sets everything up and explains sample_images/ into out/.
# make test: sets everything up and runs the tests. make quick: without the slow ones, about a minute.
# make lowest: those of make quick with the lowest versions of everything that pyproject.toml allows.
# make check: lint, types, architecture, documentation, packages. make docs: what the documentation quotes, manual pages.
# make coverage: which lines and branches the tests reach. make fuzz: an hour for each sort of file, into out/fuzz/.
# make packages: sdist and wheel into dist/. make fresh: the wheel in fresh environments. make clean: start again.
PYTHON ?= python3
VENV ?= .venv
# The lowest versions have wheels for Python 3.11 and 3.12.
LOWEST_PYTHON ?= $(PYTHON)
LOWEST_VENV ?= .venv-lowest
BIN := $(VENV)/bin
# One worker per core; whoever is done takes over work of the others. PYTEST_WORKERS=0 runs the tests in one process.
PYTEST_WORKERS ?= auto
PYTEST := -m pytest -n $(PYTEST_WORKERS) --dist worksteal

.PHONY: demo test quick lowest coverage fuzz check docs packages fresh clean

demo: $(VENV)/ready
	$(BIN)/lrp explain sample_images/ out/
	@echo "Look at the overlays, out/*.png: red speaks for the class, blue against it. The maps are out/*.npy."

test: $(VENV)/ready
	$(BIN)/python $(PYTEST)

quick: $(VENV)/ready
	$(BIN)/python $(PYTEST) -m "not slow"

lowest: $(LOWEST_VENV)/ready
	$(LOWEST_VENV)/bin/python $(PYTEST) -m "not slow"

coverage: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --group coverage
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run $(PYTEST)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

fuzz: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --group fuzz
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.campaign --folder out/fuzz

check: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(BIN):$$PATH" $(BIN)/cog --check -I docs README.md docs/*.md
	$(BIN)/python docs/man.py --check
	$(BIN)/python .ci/packages.py

docs: $(VENV)/ready
	PATH="$(BIN):$$PATH" $(BIN)/cog -r -I docs README.md docs/*.md
	$(BIN)/python docs/man.py

packages: $(VENV)/ready
	$(BIN)/python .ci/packages.py dist

fresh: packages
	$(BIN)/python .ci/fresh.py dist/lrpcli-$$($(BIN)/python -c "import lrpcli; print(lrpcli.__version__)")-py3-none-any.whl

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --group dev --group s3 --editable '.[all]'
	touch $@

$(LOWEST_VENV)/ready: pyproject.toml .ci/lowest.py
	$(LOWEST_PYTHON) -m venv --clear $(LOWEST_VENV)
	$(LOWEST_VENV)/bin/python .ci/lowest.py > $(LOWEST_VENV)/lowest.txt
	$(LOWEST_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST_VENV)/bin/python -m pip install --quiet --constraint $(LOWEST_VENV)/lowest.txt --group dev --editable '.[all]'
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST_VENV) out build dist .pytest_cache .coverage .mypy_cache .ruff_cache .hypothesis .import_linter_cache
