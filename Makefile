# Everything runs inside .venv, made on first use and again when the dependencies change.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow lint bench clean

demo: .venv/installed
	$(BIN)/scotoma demo --out runs/demo

# one thread a worker: threads that wait for each other on busy cores cost more than they bring
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4

slow: .venv/installed
	$(BIN)/pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/peers
	$(BIN)/python benchmarks/linear_optimum.py
	$(BIN)/python benchmarks/cw_linf.py
	$(BIN)/python benchmarks/autoattack.py --model digits
	$(BIN)/python benchmarks/passes.py

clean:
	rm -rf .venv runs build dist .pytest_cache .ruff_cache

# torch is installed first and pinned: an open range takes a build with gigabytes of CUDA libraries
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("scotoma needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/peers: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[peers]'
	touch $@
