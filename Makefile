# make demo: sets everything up and explains sample_images/ into out/. make test: sets everything up and runs the tests.
# make check: lint, types, architecture, documentation. make docs: what the documentation quotes. make clean: start again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check docs clean

demo: $(VENV)/ready
	$(BIN)/lrp explain sample_images/ out/
	@echo "Look at the overlays, out/*.png: red speaks for the class, blue against it. The maps are out/*.npy."

test: $(VENV)/ready
	$(BIN)/python -m pytest

check: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(BIN):$$PATH" $(BIN)/cog --check -I docs README.md docs/*.md

docs: $(VENV)/ready
	PATH="$(BIN):$$PATH" $(BIN)/cog -r -I docs README.md docs/*.md

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[hdf5,dev]'
	touch $@

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
