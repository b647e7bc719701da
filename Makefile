# Each target makes what it needs: .venv from pyproject.toml and constraints.txt, once, and again when they change.
PYTHON ?= python3
EXTRAS := train,detection,report,export,integrations,real-teacher,test,bench,docs,dev
BIN    := .venv/bin
READY  := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-seeds demo-real test lint bench ratios docs

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
	$(BIN)/python -m pytest -n 2 --dist loadfile

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
