# One command each; every one makes .venv by itself where it is missing or out of date.
PY := .venv/bin/python
STAMP := .venv/.installed

.PHONY: help test lint
help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

lint: $(STAMP)  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/mypy

test: $(STAMP) lint  ## every test, from a fresh clone too
	$(PY) -m pytest
