# One command each; every one makes .venv by itself where it is missing or out of date.
PY := .venv/bin/python
STAMP := .venv/.installed
PORT ?= 3000

.DEFAULT_GOAL := help
.PHONY: help demo up start stop running test test-quick duckdb15 reader frames lint graph docs bench dist clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@echo 'making .venv with what constraints.txt pins: a minute or two'
	@test -x $(PY) || python3 -m venv .venv
	@$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## the whole pipeline on a sample archive, then the UI (ARGS=--no-ui: without)
	@$(PY) -P -m availability_pipeline.cli demo --port $(PORT) $(ARGS)

# Where dagster.yaml is, and where the run history is kept (git-ignored).
up start stop running: export DAGSTER_HOME := $(CURDIR)
up: $(STAMP)  ## UI and daemon on the real archive, at http://127.0.0.1:3000 (PORT=...)
	@$(PY) -P -m availability_pipeline.cli up --port $(PORT)

start: $(STAMP)  ## the same in the background; says so if it runs already
	@$(PY) -P -m availability_pipeline.cli start --port $(PORT)

stop: $(STAMP)  ## end what `make start` or `make up` started
	@$(PY) -P -m availability_pipeline.cli stop

running: $(STAMP)  ## say whether it runs, and where; fails (exit 2) if not
	@$(PY) -P -m availability_pipeline.cli running

lint: $(STAMP)  ## ruff, mypy and the import contract
	.venv/bin/ruff check .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

test: $(STAMP) lint  ## lint and every test, from a fresh clone too
	$(PY) -m pytest $(ARGS)

test-quick: $(STAMP)  ## the tests of the inner loop, in less than two minutes
	$(PY) -m pytest -m 'not slow' $(ARGS)

# Its extension httpfs is a package for this version alone.
.venv-duckdb15/.with-httpfs:
	python3 -m venv .venv-duckdb15
	.venv-duckdb15/bin/python -m pip install -q --disable-pip-version-check \
		'duckdb>=1.5,<1.6' 'duckdb-extension-httpfs>=1.5,<1.6'
	@touch $@

duckdb15: .venv-duckdb15/.with-httpfs  ## an older DuckDB beside ours, for the tests that it opens what we write

.venv-reader/.installed: requirements/reader.txt constraints.txt
	python3 -m venv .venv-reader
	@# The oldest pandas that a reader may have; .venv has the newest.
	@grep -v '^pandas=' constraints.txt > .venv-reader/constraints.txt
	.venv-reader/bin/python -m pip install -q --disable-pip-version-check \
		-c .venv-reader/constraints.txt -r requirements/reader.txt 'pandas<2.3'
	@touch $@

reader: .venv-reader/.installed  ## what only reads the record, for the test that no more is needed

.venv-frames/.installed: requirements/reader.txt constraints.txt
	python3 -m venv .venv-frames
	.venv-frames/bin/python -m pip install -q --disable-pip-version-check \
		-c constraints.txt -r requirements/reader.txt polars pyarrow
	@touch $@

frames: .venv-frames/.installed  ## polars and pyarrow beside a reader, for the tests of other frames

graph: $(STAMP)  ## draw rooms, imports and walks again in docs/architecture.md
	$(PY) docs/graph.py

docs: $(STAMP)  ## the documents as a site in site/; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

bench: $(STAMP)  ## each benchmark's table, full size (ARGS=--quick: in seconds)
	@for module in $$(grep -l '__main__' benchmarks/*.py | sed 's|/|.|; s|\.py$$||' | \
		grep -v -e archive_server -e whole_archive -e mutants); do $(PY) -m $$module $(ARGS) || exit 1; done

dist: $(STAMP)  ## sdist and wheel in dist/, verified as a package index does
	rm -rf dist
	@$(PY) -m build
	@$(PY) -m twine check --strict dist/*

clean:  ## remove what the targets made, but never the record or the run history
	rm -rf .venv .venv-* build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-home
