# Two commands: `make demo` and `make test`. Both first do `make setup`, which is quick when nothing changed.

PYTHON ?= python3
BIN := .venv/bin
# Modules are compiled when they are first used, and kept so, not all when they are installed: that takes a third off the
# set-up.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt
unexport PYTHONDONTWRITEBYTECODE
PYTEST_ARGS ?=

.PHONY: help setup vllm-cpu system-packages demo test check format bench clean

help:
	@echo "make demo     the whole story on this machine; ONCE=1 ends after the table,"
	@echo "              SLM_SERVER=transformers does without vLLM's CPU build,"
	@echo "              BASE=directory takes a base model instead of making one"
	@echo "make test     every test"
	@echo "make check    lint, types, import contracts"
	@echo "make bench    the product's own measurements (tests/bench)"
	@echo "make format   rewrite the sources in the house style"
	@echo "make clean    remove what setup made"

setup: .venv/.ready vllm-cpu

vllm-cpu:
	@PYTHON=$(PYTHON) deploy/vllm-cpu/setup

system-packages:
	@tests/system-packages

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "understudy needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "installing the pinned dependencies into .venv (a few minutes, once)"
	@{ $(PIP) torch && $(PIP) --editable '.[test]'; } >.venv.log 2>&1 \
		|| { tail -n 20 .venv.log; echo "pip failed; all that it said is in .venv.log"; exit 1; }
	@rm -f .venv.log
	@touch $@

demo:
	@$(MAKE) --no-print-directory --jobs=2 $(if $(filter transformers,$(SLM_SERVER)),.venv/.ready,setup)
	@$(BIN)/understudy demo $(if $(ONCE),--once) $(if $(SLM_SERVER),--slm-server $(SLM_SERVER)) $(if $(BASE),--base $(BASE))

# What starts real processes (REAL_PROCESSES in tests/conftest.py), on two cores with neighbours, is tried once more when
# it fails, and the summary says so. All else has one try.
test:
	@$(MAKE) --no-print-directory --jobs=4 setup system-packages check
	$(BIN)/python -m pytest --numprocesses 2 --reruns 1 -raR $(PYTEST_ARGS)

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m tests.bench

clean:
	rm -rf .venv .venv.log .venv-vllm .venv-vllm.log .cache build *.egg-info
