# Two commands set up a fresh machine: `make repro` and `make test`. `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help repro methods demo test lint format lock lists compile image cluster graph benchmark ui

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Each module is compiled when it is first imported: most of the packages' 23,000 never are.
$(VENV)/installed: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	touch $@

repro: $(VENV)/installed  ## run the chain of a few methods: photographs, teacher, students, scores, report
	@python -m pipeline check
	dvc repro report
	@for folder in data/report/*/; do cat $${folder}summary.txt; echo "Report: $(CURDIR)/$${folder}report.html"; done

methods: $(VENV)/installed  ## run the chain of every method, and their common report
	@python -m pipeline check
	dvc repro
	@for folder in data/report_with_every_method/*/; do \
	  cat $${folder}summary.txt; echo "Report: $(CURDIR)/$${folder}report.html"; done

demo: $(VENV)/installed  ## open a local page that shows students and teacher at work on a picture
	@python -m components demo

# A worker takes whole files, because the tests of a file share what they set up; each is small enough for one thread.
test: $(VENV)/installed  ## run the tests
	OMP_NUM_THREADS=1 python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

ui: $(VENV)/installed  ## send what waits in the journals, and open the page of the tracked runs
	@python -m components.telemetry --ui

lint: $(VENV)/installed  ## check style, types and the direction of imports
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: $(VENV)/installed  ## format the code
	ruff format .
	ruff check --fix .

lock: $(VENV)/installed  ## resolve requirements.lock again from pyproject.toml
	# CUDA's libraries are left out: torch pins each of them itself, and machines without a GPU need none.
	found=$$(uv pip compile --quiet --python-version 3.11 --all-extras --no-annotate --no-header pyproject.toml) && \
	  echo "$$found" | grep -vE '^(nvidia-|cuda-|triton)' > requirements.lock

lists: $(VENV)/installed  ## rewrite the lists of dvc.yaml, after an edit of run, reports or collections in params.yaml
	@python -m components list_dependencies

compile: $(VENV)/installed  ## compile dvc.yaml into pipeline/kubeflow.yaml, to look at or to send by hand
	python -m pipeline compile

image: $(VENV)/installed  ## build the image of all stages for the CPU, tagged restoration-distillation:local
	sh deploy/containers/build_image.sh restoration-distillation:local --cpu

cluster: $(VENV)/installed  ## run a small graph in containers, with an S3 and a git server: all that a cluster does
	python -m pytest tests/containers/test_whole_run.py

graph: $(VENV)/installed  ## draw the graph of dvc.yaml
	dvc dag

benchmark: $(VENV)/installed  ## measure how fast training crops are read
	python -m benchmarks.read_crops
