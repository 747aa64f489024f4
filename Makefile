# Everything a newcomer types. Each target makes the environment it needs; PIP_ARGS is for your own package index,
# for example PIP_ARGS="--index-url https://mirror.example/simple".
PYTHON   ?= python3
PIP_ARGS ?=
INSTALL   = -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
RECIPES   = examples/kolmogorov.yaml examples/two_scale.yaml

.PHONY: demo test test-slow lint bench docs clean

demo: .venv/ready
	.venv/bin/slipstream build $(RECIPES) --anyway

test: .venv-dev/ready
	OMP_NUM_THREADS=1 .venv-dev/bin/python -m pytest -n 2 --dist worksteal

test-slow: .venv-dev/ready
	OMP_NUM_THREADS=1 .venv-dev/bin/python -m pytest -m slow

lint: .venv-dev/ready
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy

bench: .venv-bench/ready
	.venv-bench/bin/python benchmarks/store.py
	.venv-bench/bin/python benchmarks/spectral.py
	.venv-bench/bin/python benchmarks/catalogue.py
	.venv-bench/bin/python benchmarks/fronts.py
	.venv-bench/bin/python benchmarks/parsed.py
	.venv-bench/bin/python benchmarks/fno.py
	.venv-bench/bin/python benchmarks/accelerate.py
	.venv-bench/bin/python benchmarks/stranger.py
	.venv-bench/bin/python benchmarks/live.py
	.venv-bench/bin/slipstream study operators --long --threads 1

docs: .venv-docs/ready
	OMP_NUM_THREADS=1 .venv-docs/bin/sphinx-build -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

# torch first and pinned: a bare range would bring the largest build there is for this platform.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python $(INSTALL) torch
	.venv/bin/python $(INSTALL) -e .
	touch $@

.venv-dev/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/python $(INSTALL) torch
	.venv-dev/bin/python $(INSTALL) -e '.[test,lint]'
	touch $@

.venv-bench/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(INSTALL) torch
	.venv-bench/bin/python $(INSTALL) -e '.[bench]'
	touch $@

.venv-docs/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(INSTALL) torch
	.venv-docs/bin/python $(INSTALL) -e '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-dev .venv-bench .venv-docs docs/_build docs/gallery docs/methods docs/reference/generated
