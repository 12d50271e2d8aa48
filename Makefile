# The few commands of the house. Each installs what it misses first, and nothing when nothing is missing.
SHELL := /bin/bash
PYTEST := .venv/bin/python -m pytest
PURE := tests/nhrp tests/network tests/render

.PHONY: help demo test vm-test interop check style bench coverage clean setup

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 18

demo: ## a real DMVPN on this machine, and a story that shows it (root)
	@scripts/setup demo
	@.venv/bin/dmvpn lab run demo

check: style ## the fast part of the tests: style, types, rooms, unit and property tests
	$(PYTEST) -q -n 2 -m 'not kernel and not lab and not slow and not vm'

# One run, one after the other: what measures and what starts routers wants the machine for itself.
# Interop is left to make interop: emulated it would take the run beyond 40 minutes.
test: style ## all tests but interop (root, or what needs it is skipped by name)
	$(PYTEST) -q --ignore=tests/interop

vm-test: ## the tests that need a stock kernel, in one virtual machine (root)
	@scripts/setup vm
	$(PYTEST) -q -m vm

interop: ## routers that we did not write (FRR's nhrpd) against ours, in the virtual machine (root)
	@scripts/setup vm
	$(PYTEST) -q tests/interop

style: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: ## what it carries, measured beside a peer in one run (root)
	@scripts/setup bench
	.venv/bin/python -m bench

coverage: setup ## the branches of the pure rooms that no test takes
	.venv/bin/python -m coverage run -m pytest -q -m 'not kernel and not lab and not slow' $(PURE)
	.venv/bin/python -m coverage report --skip-covered

setup:
	@scripts/setup test

clean: ## take away all that was made here, .venv/ too
	rm -rf .venv .private .vm .setup.lock build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage \
		bench/results src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
