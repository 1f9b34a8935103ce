# make demo: search the two example galleries with the shipped weights. make test, make lint: what the names say.
# make coverage: the tests, with the lines and branches that they reach; fails below the share that pyproject.toml names.
# make docs: docs/cli.md from the commands themselves.
# Everything goes into .venv; it is installed again only when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RENDERED := examples/rendered/frames
CCTV := examples/cctv/frames

.PHONY: demo test coverage lint docs clean

demo: $(VENV)/.installed
	rm -rf demo-results
	$(BIN)/qeeps search --query $(RENDERED)/s0000_c2_t4.jpg --box 312,266,112,265 --gallery $(RENDERED) --exclude-query --out demo-results/rendered
	$(BIN)/qeeps search --query $(CCTV)/vtest_0550.jpg --box 169,367,57,146 --gallery $(CCTV) --exclude-query --out demo-results/cctv
	@echo
	@echo "Look at the best matches beside the person searched for:"
	@echo "  demo-results/rendered/contact_sheet.jpg   rendered frames of a bookstore and a street"
	@echo "  demo-results/cctv/contact_sheet.jpg       a surveillance camera"
	@echo "The rendered people dress alike: look closely at who is who there (README.md)."
	@echo "Beside the sheets: report.html to look through the matches, annotated/ with the frames, results.json with the numbers."

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

coverage: $(VENV)/.installed-test
	$(BIN)/python -m coverage erase
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -n auto --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .

docs: $(VENV)/.installed
	$(BIN)/python docs/make_cli.py

clean:
	rm -rf $(VENV) demo-results build dist .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("qeeps needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
