# Two commands: `make lab` opens the explorer, `make test` runs everything CI runs.
# Both set up what is missing first and are quick the second time.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
STAMP := $(VENV)/.installed
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
RUNTIME := build/onnxruntime

.PHONY: lab test lint unit engine package fuzz docs notebooks browser pages pictures chromium postgresql evidence bench clean

lab: $(STAMP)
	$(BIN)/explorer lab $(LAB_OPTIONS)

test: lint unit engine docs notebooks browser

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check explorer tests benchmarks scripts
	$(BIN)/ruff format --check explorer tests benchmarks scripts
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify $(NOTEBOOKS)

unit: $(STAMP) postgresql
	$(BIN)/pytest tests --ignore tests/browser

# What we export, trained for a step by ONNX Runtime. Its training build takes a gigabyte and has
# no wheel for every Python and system, so it stays apart; without it the tests skip.
engine: $(STAMP)
	test -d $(RUNTIME) || $(BIN)/python -m pip install --quiet --no-deps --only-binary :all: \
		--target $(RUNTIME) --constraint constraints.txt \
		onnxruntime-training cerberus flatbuffers h5py || rm -rf $(RUNTIME)
	PYTHONPATH=$(RUNTIME) $(BIN)/pytest -rs tests/train/test_onnx_runtime.py

# The documentation site, into build/site; a broken link or anchor fails.
docs: $(STAMP)
	$(BIN)/python scripts/write_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir build/site

# The wheel and the source, and whether a clean environment without the repository can use it.
package: $(STAMP)
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python scripts/check_package.py build/dist

# Every reader of files under far more hostile input than `unit` has, from a seed; a quarter of an
# hour. What is found lies in build/fuzz, the summary in benchmarks/results.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --inputs 7000 --out benchmarks/results/fuzz.json

notebooks: $(STAMP)
	$(BIN)/pytest --nbmake --nbmake-timeout=300 -p no:cacheprovider notebooks

LAB_TOUR := (every_control or pinned or own_is_given or points_are or fine_tuned or by_keys)
VOILA_TOUR := (copy_of_the_device or export or letters)

# A tour; one test for each control, tab and button of both pages is in `make pages`.
browser: $(STAMP) chromium
	$(BIN)/pytest tests/browser --durations 10 -k "test_lab or test_restart or test_voila or lab and $(LAB_TOUR) or voila and $(VOILA_TOUR)"

# The pictures in docs/images.
pictures: $(STAMP) chromium
	$(BIN)/python scripts/write_pictures.py

# All of it.
pages: $(STAMP) chromium
	$(BIN)/pytest tests/browser --durations 25

# A browser where there is none and we may install one; else the browser tests skip, saying why.
chromium:
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; \
	fi

# The same for the database that a test of shared studies starts by itself.
postgresql:
	@if [ ! -d /usr/lib/postgresql ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null; \
	fi

evidence: $(STAMP)
	$(BIN)/python scripts/evidence.py

# Other tools are optional: the table names those that cannot be installed here.
bench: $(STAMP) chromium
	-$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/search.py
	-$(BIN)/python benchmarks/measuring.py
	$(BIN)/python benchmarks/browser_latency.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
