# Two commands from a fresh clone: `make demo` runs the shipped models on the demo slides, `make test` runs all tests.
PYTHON ?= python3
VENV_DEMO := .venv-demo
VENV := .venv-test
VENV_CHECK := .venv-check
# One thread a test process for the mathematics: pytest-xdist gives every core a process of its own.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# In the order that tests/conftest.py gives, the longest first; pytest-xdist would put files of many tests first.
DISTRIBUTE := -n auto --dist loadfile --no-loadscope-reorder
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check fault lint bench docs clean

demo: $(VENV_DEMO)/ready
	mkdir -p demo/slides
	cp -Rp tests/data/slides/. examples/slides/. demo/slides
	$(VENV_DEMO)/bin/wbctool run demo/slides --out demo/counts.csv
	@echo "Open in a browser: $(CURDIR)/demo/counts/example-adult/report.html"

test: $(VENV)/ready
	$(PYTEST) $(VENV)/bin/python -m pytest $(DISTRIBUTE)

# What an engineer runs while working: no torch to install, none of the slow tests.
check: $(VENV_CHECK)/ready
	$(PYTEST) $(VENV_CHECK)/bin/python -m pytest $(DISTRIBUTE) -m "not (train or cluster or browser or fault or slow)"

# The tests of tests/robustness in full: kills, bad input, full disks, 20,000 fields. `make test` runs their short forms.
fault: $(VENV)/ready
	$(VENV)/bin/python -m pytest tests/robustness --long

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Takes ten minutes, or one round of each size of fields if that takes longer.
bench: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks.run

docs: $(VENV_DEMO)/ready
	$(VENV_DEMO)/bin/python $(PIP) -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV_DEMO)/bin/mkdocs build --strict  # without the theme's notice of its successor

$(VENV_DEMO)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV_DEMO)
	$(VENV_DEMO)/bin/python $(PIP) -c constraints.txt -e .
	touch $@

$(VENV_CHECK)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV_CHECK)
	$(VENV_CHECK)/bin/python $(PIP) -c constraints.txt -e '.[cluster,evaluate,fhir,optimize,wsi,dev]'
	touch $@

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python $(PIP) -c constraints.txt -e '.[cluster,evaluate,fhir,train,wsi,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV_CHECK) $(VENV_DEMO) demo site
