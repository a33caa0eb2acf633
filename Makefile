# One entry to everything.  Each target first makes .venv (pinned by .ci/constraints.txt) if it is not there yet.
#   make test HYPOTHESIS_PROFILE=ci    four times the examples;  night: two hundred times
#   make test WORKERS=8                more cores for the compiled suite

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
WORKERS ?= 2
HYPOTHESIS_PROFILE ?= quick
export HYPOTHESIS_PROFILE

BIN := .venv/bin
READY := .venv/.ready
SAY := @printf '\n== %s\n'

# Our own folder for machine code is keyed by a digest of the sources; one set from outside would run stale kernels.
unexport NUMBA_CACHE_DIR NUMBA_BOUNDSCHECK NUMBA_DISABLE_JIT
# Nor is Python to compile the same sources again in each of the many processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

# Bounds checks change the machine code but not numba's key for it, hence a cache folder of their own.
BOUNDS := NUMBA_BOUNDSCHECK=1 XDG_CACHE_HOME="$(CURDIR)/.cache/bounds"

.PHONY: help demo test ready lint test-compiled test-bounds test-uncompiled test-bench bench dist warm warm-bounds clean

# What is asked for runs one after the other, but for what `ready` starts side by side.
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
endif
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)

help:  ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## a recorded market, a crowd, a cascade, ADL: one command, seconds once warm
	$(SAY) "perp demo (the first run compiles the kernels: about half a minute; later runs: a second)"
	$(BIN)/perp demo

test: ready test-compiled test-bounds test-uncompiled test-bench  ## lint, then the tests in every mode: under ten minutes on two cores
	$(SAY) "all modes passed"

# Each needs one core for half a minute; what it says is shown when it has ended.
ready: $(READY)  ## lint, and the kernels compiled for both modes, side by side
	@$(MAKE) --no-print-directory --jobs=3 $(SYNC) SIDE_BY_SIDE=1 lint warm warm-bounds

lint: $(READY)  ## ruff and mypy
	$(SAY) "lint: ruff check, ruff format, mypy --strict"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Compiling first keeps the workers from compiling the same kernels side by side.
test-compiled: warm  ## the whole suite, kernels compiled
	$(SAY) "tests, compiled: the whole suite"
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-bounds: warm-bounds  ## the mirror tests, every array access checked
	$(SAY) "tests, NUMBA_BOUNDSCHECK=1: the mirror tests"
	$(BOUNDS) $(BIN)/python -m pytest -m mirror -n $(WORKERS) --dist loadfile

# Uncompiled, int64 overflow is a RuntimeWarning and a branch is seen when it is taken: both invisible in machine code.
test-uncompiled: $(READY)  ## the mirror tests as plain Python: overflow is an error, branches are counted
	$(SAY) "tests, NUMBA_DISABLE_JIT=1: the mirror tests, branch coverage of the kernels"
	@mkdir -p .cache
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest -p tests.tracing -m mirror -n $(WORKERS) --dist loadfile \
		-W error::RuntimeWarning
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-bench: $(READY)  ## every benchmark once, untimed, so that none rots
	$(SAY) "benchmarks, once each and untimed"
	$(BIN)/python -m pytest bench --benchmark-disable

bench: warm  ## the timed benchmarks; numbers worth keeping go to bench/HISTORY.md
	$(SAY) "benchmarks"
	@mkdir -p .cache
	$(BIN)/python -m pytest bench --benchmark-json=.cache/bench.json

dist: $(READY)  ## wheel and sdist into dist/ (tests/test_wheel.py installs and runs them)
	$(SAY) "wheel and sdist"
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist

warm: $(READY)  ## compile every kernel now
	$(SAY) "perp warm (half a minute when the kernels have changed, a second when not)"
	$(BIN)/perp warm

warm-bounds: $(READY)  ## compile every kernel with bounds checks
	$(SAY) "perp warm, NUMBA_BOUNDSCHECK=1"
	$(BOUNDS) $(BIN)/perp warm

clean:  ## remove everything the other targets made in this folder
	rm -rf .venv .cache dist .hypothesis .benchmarks
	find engine bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The pins are installed as they stand, then ourselves without asking for more; `pip check` proves that they suffice.
$(READY): pyproject.toml .ci/constraints.txt
	$(SAY) "filling .venv (about half a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r .ci/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e '.[parquet,captures,databento,gzip,cluster,tui,completion]'
	$(BIN)/python -m pip check
	@touch $@
