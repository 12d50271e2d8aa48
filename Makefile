# The few commands of the house. Each installs what it misses first, and nothing when nothing is missing.
SHELL := /bin/bash
PYTEST := .venv/bin/python -m pytest
PURE := tests/nhrp tests/network tests/firewall tests/render

.PHONY: help demo test vm-test wide interop faults check style bench coverage clean setup

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 18

demo: ## a real DMVPN on this machine, and a story that shows it (root)
	@scripts/setup demo
	@.venv/bin/dmvpn lab run demo

check: style ## the fast part of the tests: style, types, rooms, unit and property tests
	$(PYTEST) -q -n 2 -m 'not kernel and not lab and not slow and not vm'

# One run: what starts routers waits more than it works, so a second stream has its part (tests/streams_plugin.py).
# What is wide is left to make wide: emulated it would take the run beyond 40 minutes.
test: style ## all tests but the wide ones (root, or what needs it is skipped by name)
	$(PYTEST) -q -m 'not wide'

vm-test: ## the tests that need a stock kernel, in one virtual machine (root)
	@scripts/setup vm
	$(PYTEST) -q -m 'vm and not wide'

interop: ## routers that we did not write (FRR's nhrpd) against ours, in the virtual machine (root)
	@scripts/setup vm
	$(PYTEST) -q tests/interop tests/lab/test_fail_closed_foreign.py

wide: ## what make test has no time for: make interop, and more labs on the kernel plane (root)
	@scripts/setup vm
	$(PYTEST) -q -m wide

# Each line of .faults is `what: good of planned`, and perhaps `; N not reached`; the last one printed adds them up.
faults: ## an apply killed at each of its system calls, on a full disk, two at once: the router is old or new (root)
	@scripts/setup test
	@rm -f .faults
	@status=0; DMVPN_FAULTS=$(CURDIR)/.faults $(PYTEST) -q tests/commit/test_dying.py \
		tests/linux/test_dying_netstate.py tests/vpn/test_vpn_faults.py || status=$$?; \
	awk -F': ' '{ print; split($$NF, n, " of |; "); good += n[1]; all += n[2]; missed += n[3] } \
		END { print good " of " all (missed ? "; " missed+0 " not reached" : "") }' .faults; \
	exit $$status

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
	rm -rf .venv .private .vm .frr10 .openrc .setup.lock .faults build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage \
		bench/results src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
