# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup quickstart test check bench acceptance clean

setup: $(READY)

# torch is installed by its exact version first, so that nothing else asks for another build of it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)" -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,openvino,postgres]" --group dev
	touch $(READY)

quickstart: $(READY)
	$(BIN)/modelry quickstart

test: $(READY)
	scripts/test

check: $(READY)
	scripts/check

bench: $(READY)
	scripts/bench

# Trains every recipe on the real data beside the repository and prints what was reached; goes on where it was left.
acceptance: $(READY)
	$(BIN)/python benchmarks/acceptance.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
