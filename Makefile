# The few commands of the house. Each installs what it misses first, and nothing when nothing is missing.
SHELL := /bin/bash
PYTEST := .venv/bin/python -m pytest

.PHONY: demo test check bench clean setup

setup:
	@scripts/setup test

demo: ## a real DMVPN on this machine, and a story that shows it (root)
	@scripts/setup demo
	@.venv/bin/dmvpn lab run demo

check: ## the fast part: style, types, rooms, unit and property tests
	@scripts/setup test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PYTEST) -q -m 'not kernel and not lab and not slow'

test: check ## everything
	$(PYTEST) -q -m 'kernel or lab or slow'

bench: ## measured beside a peer, in one run
	@scripts/setup bench
	.venv/bin/python -m bench

clean:
	rm -rf .venv .private build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/results src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
