# On a machine with Python 3.11 or newer and make, these two do everything:
#
#   make run     installs into .venv, then starts `hopproxy dev`: a proxy with a demo behind it
#   make test    runs every test; if a program is missing, its tests are skipped and the message names it
#
# PYTHON=/path/to/python chooses the interpreter, VENV=folder where all is installed,
# ORIGIN=localhost:3000 the server that `make run` serves in front of.

VENV ?= .venv
ORIGIN ?=
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

FIT = import sys; sys.exit(sys.version_info < (3, 11))
NAMES = python3 python3.13 python3.12 python3.11 python3.14 python
PYTHON ?= $(shell for name in $(NAMES); do \
	$$name -c '$(FIT)' 2>/dev/null && { command -v $$name; break; }; done)

# Floors 1 to 3 of hopproxy/DESIGN.md: what decides and never waits.  Tested to the last branch.
PURE = $(shell sed -n 's/^| [123] [^|]*|\([^|]*\)|.*/\1/p' hopproxy/DESIGN.md \
	| grep -o '`[^`]*`' | tr -d '`' | sed 's,^,hopproxy/,' | paste -s -d ,)

# Kept bytecode saves half of what collecting the tests takes, and each start of `hopproxy` in them.
export PYTHONDONTWRITEBYTECODE =

# What a search or a soak takes when nothing else is said.
SEED ?= 1

# Tests that wait take turns with tests that compute (tests/conftest.py), in this order.
AT_A_TIME = -n 4 --dist loadfile --no-loadscope-reorder

# Where requests are served: tested with each driver (tests/drivers.py).
SERVED = tests/conformance tests/links tests/learn tests/faults tests/peers

.PHONY: help run test drivers check lint coverage bench fuzz soak reference clean

help:
	@sed -n '3,4p;6,7p' Makefile | sed 's/^# *//'
	@echo 'make check   checks style, types, all tests and coverage, as .ci/run does'
	@echo 'make drivers   runs the tests that serve requests with each driver of connections'
	@echo 'make bench   measures hopproxy and other proxies; ONLY=plain,one ROUNDS=5 SECONDS=3'
	@echo 'make fuzz    searches both wires for bytes that two parsers read differently; SECONDS=600 SEED=1'
	@echo 'make soak    runs a real process while both ends fail at random; MINUTES=10 SEED=1'
	@echo 'make reference   writes the settings reference in README.md'

run: $(VENV)/.runs
	@exec $(BIN)/hopproxy dev $(ORIGIN)

test: $(VENV)/.tests
	$(BIN)/python -m pytest $(AT_A_TIME)

# `make test` has connections stepped by events, without TLS; here tasks drive them, or take them
# over midway, and the conformance tests speak TLS to clients, or on both hops, and HTTP/2 too.
drivers: $(VENV)/.tests
	HOPPROXY_TEST_DRIVER=tasks HOPPROXY_TEST_TLS=both $(BIN)/python -m pytest -q $(AT_A_TIME) -m exchanges $(SERVED)
	HOPPROXY_TEST_DRIVER=mixed HOPPROXY_TEST_TLS=clients HOPPROXY_TEST_HTTP2=clients $(BIN)/python -m pytest -q $(AT_A_TIME) -m exchanges $(SERVED)

check: lint test drivers coverage

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(VENV)/.tests
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -p -m pytest -q tests/pure & pure=$$!; \
	$(BIN)/coverage run -p -m pytest -q tests/settings tests/learn --ignore=tests/learn/test_race.py; \
	code=$$?; wait $$pure && exit $$code
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include=$(PURE) --show-missing --skip-covered --fail-under=100

bench: $(VENV)/.tests
	ONLY='$(ONLY)' PEERS='$(PEERS)' ROUNDS='$(ROUNDS)' SECONDS='$(SECONDS)' MINUTES='$(MINUTES)' \
		$(BIN)/python -m benchmarks

fuzz: $(VENV)/.tests
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) --seed $(SEED)

soak: $(VENV)/.tests
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),10) --seed $(SEED)

reference: $(VENV)/.tests
	$(BIN)/python -m tests.test_docs

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { \
		echo 'Python 3.11 or newer is needed and none is found here: install one'; \
		echo '(Debian 12: apt-get install python3 python3-venv), or name it: make PYTHON=...'; \
		exit 1; }
	@'$(PYTHON)' -c '$(FIT)' || { echo '$(PYTHON) is no Python 3.11 or newer'; exit 1; }
	@'$(PYTHON)' -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo 'no venv: on Debian and Ubuntu, apt-get install python3-venv'; exit 1; }

# Stamps: a second call installs nothing, unless pyproject.toml has changed since.
$(VENV)/.runs: pyproject.toml | $(VENV)/bin/python
	@echo 'installing hopproxy into $(VENV)'
	@$(PIP) --editable .
	@touch $@

$(VENV)/.tests: pyproject.toml | $(VENV)/bin/python
	@echo 'installing hopproxy, and what its tests need, into $(VENV)'
	@$(PIP) --editable '.[test,check,bench]'
	@touch $@ $(VENV)/.runs

clean:
	rm -rf build dist *.egg-info .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
