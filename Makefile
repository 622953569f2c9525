# Each target works on a fresh machine: it makes .venv first, where that is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# two files of tests at a time: half of nnU-Net's time is spent on starting processes
IN_PARALLEL := -n 2 --dist loadfile

.PHONY: demo test test-contract test-versions test-browser coverage lint format hooks docs bench bench-case bench-gpu clean

demo: $(INSTALLED)  ## from a brain tumour phantom to a comparison and a submission (about 10 minutes on 2 cores)
	$(BIN)/nnUNetv2_gsp demo

test: $(INSTALLED)  ## everything that must hold, on the CPU, and the examples in docstrings
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-contract: $(INSTALLED)  ## what takes trainings: more of nnU-Net, tutorial, notebook (up to 40 minutes on 2 cores)
	$(BIN)/python -m pytest $(IN_PARALLEL) tests/contract tests/docs tests/examples -m contract

test-versions: $(INSTALLED)  ## the tests on Python 3.10 to 3.13 and nnU-Net 2.8.0 and 2.8.1, as far as they are here
	$(BIN)/nox

test-browser: $(INSTALLED)  ## the comparison's page in headless Chromium, skipped where there is none
	$(BIN)/python -m pytest tests/comparison/test_page_in_browser.py

coverage: $(INSTALLED)  ## the same with coverage, which fails below the floor in pyproject.toml
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(IN_PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(INSTALLED)  ## format, rules, types and spelling
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/codespell

format: $(INSTALLED)  ## reformat the code, and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

hooks: $(INSTALLED)  ## check each commit before it is made
	$(BIN)/pre-commit install

docs: $(INSTALLED)  ## the site, into site/: figures from the results, strictly, and without a network when it is read
	$(BIN)/python docs/figures.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Open site/index.html"

bench: $(INSTALLED)  ## speed, side by side, into benchmarks/results; not over failing tests
	-$(BIN)/python -m pip install -q -e '.[bench]'
	$(BIN)/python -m pytest -q tests/ops tests/architectures tests/cpu
	$(BIN)/python -m benchmarks

bench-case: $(INSTALLED)  ## the same for whole cases, file to file: stock takes long on a CPU
	$(BIN)/python -m benchmarks case ct ct-stock cases-memory

bench-gpu: $(INSTALLED)  ## speed and correctness on a GPU, beside stock nnU-Net, in 300 seconds
	$(BIN)/python -m benchmarks.gpu

# An editable install, so that .venv always runs this checkout.
$(INSTALLED): setup.cfg setup.py pyproject.toml nnunetv2_gsp/__init__.py $(wildcard nnunetv2_gsp/cpu/layers/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist site *.egg-info
