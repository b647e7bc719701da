# Each target makes what it needs: .venv from pyproject.toml and constraints.txt, once, and again when they change.
PYTHON ?= python3
EXTRAS := train,detection,report,export,integrations,parquet,real-teacher,test,bench,docs,dev
BIN    := .venv/bin
READY  := .venv/.ready
OLDEST := .venv-oldest

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-seeds demo-real test oldest lint bench ratios docs

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv: $(READY)   ## the environment alone

demo: $(READY)   ## the main job on real images that ship with a dependency, one seed
	$(BIN)/python examples/imagenet_prg.py

demo-seeds: $(READY)  ## the same over three seeds
	$(BIN)/python examples/imagenet_prg.py --seeds 3

demo-real: $(READY)  ## a teacher pretrained on ImageNet, 5,000 real images, no labels; ARGS="--data DIR", or GRAPHKD_DATA
	$(BIN)/python examples/real_teacher.py $(ARGS)

test: $(READY)   ## all tests but the slow ones and those that need a GPU
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

oldest: $(OLDEST)/.ready  ## what depends on torch and Triton, on the oldest versions that pyproject.toml allows (Linux)
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal -m "not gpu and not faults" \
		tests/kernels tests/graphs tests/test_import.py tests/test_ops.py tests/test_step.py

lint: $(READY)   ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## every benchmark, kept in benchmarks/results and docs/performance.md; ARGS="-m quick" for short sizes
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-columns=median,iqr,rounds --save $(ARGS)
	$(BIN)/python -m benchmarks.report

ratios: $(READY) ## the promised ratios, side by side in one run, kept likewise
	-$(BIN)/python -m benchmarks.ratios --save $(ARGS)
	$(BIN)/python -m benchmarks.report

docs: $(READY)   ## the documentation, into site/
	$(BIN)/mkdocs build --strict

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("graphkd needs Python >= 3.11: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

# The CUDA libraries that torch loads when it is imported are those of .venv: no kernel runs here.
$(OLDEST)/.ready: constraints-oldest.txt $(READY)
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check --no-deps -r constraints-oldest.txt
	ln -s $(CURDIR)/.venv/lib/python3*/site-packages/nvidia/*/lib/*.so* $(OLDEST)/lib/python3*/site-packages/torch/lib/
	touch $@
