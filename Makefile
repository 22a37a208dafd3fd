# Everything runs inside .venv, which is made on first use and brought up to date when the
# dependencies change.
PYTHON ?= python3
BIN := .venv/bin
# torch is pinned: an open range takes a build with gigabytes of CUDA libraries
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test slow test-hub lint bench claims clean

demo: .venv/installed
	$(BIN)/scotoma demo --out runs/demo

# one thread a worker: threads that wait for each other on busy cores cost more than they bring
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal $(PYTEST)

slow: .venv/dev
	$(BIN)/pytest -m slow

# models of torchvision and timm, whose torch is another build, in an environment of its own: 6 GB
test-hub: .venv-hub/installed
	OMP_NUM_THREADS=1 .venv-hub/bin/pytest -m hub tests/models/sources

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# docs/benchmarks.md: one thread and a few images of everything, some minutes
bench: .venv/peers
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/suite.py

# single claims, each at its full size: much longer
claims: .venv/peers
	$(BIN)/python benchmarks/claims.py

clean:
	rm -rf .venv .venv-hub runs build dist .pytest_cache .ruff_cache

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "scotoma needs Python 3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/dev: .venv/installed
	$(PIP) --editable '.[dev]'
	touch $@

.venv-hub/installed: pyproject.toml
	$(PYTHON) -m venv .venv-hub
	.venv-hub/bin/pip install --quiet --disable-pip-version-check \
		torch==2.14.1 torchvision==0.29.1 timm pytest --editable .
	touch $@

# torchattacks declares torchvision, which it never imports, and a requests that nothing else bears
.venv/peers: .venv/installed
	$(PIP) --editable '.[peers]'
	$(PIP) --no-deps torchattacks
	touch $@
