# Every target sets up .venv by itself: python3.11 or newer, make and git are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HASHED := --quiet --require-hashes --requirement

.PHONY: help demo test quick check lock bench bench-training bench-refit bench-serving bench-gpu bench-scale chaos reference docs serve image-check image-check-serve image-check-full clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml requirements/build.txt requirements/dev.txt requirements/schemas.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(HASHED) requirements/build.txt
	$(BIN)/python -m pip install $(HASHED) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip download $(HASHED) requirements/schemas.txt --no-deps --dest $(VENV)/schemas  # read, not run
	touch $@

demo: $(STAMP)  ## train, serve, predict, refit, activate on embedded images; stays up (DEMO_EXIT=1: stops)
	$(BIN)/python -m breadcrumbs demo $(if $(DEMO_EXIT),--no-stay)

# A file's tests share a process, and with it their server or trained model; tests/conftest.py puts long files first.
# Compiled files are kept, whatever the caller's environment says: the tests start hundreds of Python processes.
TESTS = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
JOBS ?= 3

test: $(STAMP)  ## all tests, in three processes side by side (JOBS=8: in eight)
	$(TESTS)

# These tests wait for nothing: on two cores a third process would only collect them once more.
quick: JOBS = 2
quick: $(STAMP)  ## the tests that neither train nor start servers or programs
	$(TESTS) -m 'not slow'

check: $(STAMP)  ## lint, format, strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

lock: $(STAMP)  ## pin what pyproject.toml asks for in requirements/, with the hash of every file (UPGRADE=1: the newest)
	$(LOCK) pyproject.toml --all-extras --output-file requirements/dev.txt
	$(LOCK) pyproject.toml --extra refit --extra parquet --extra otel --constraints requirements/dev.txt \
	  --output-file requirements/full.txt
	$(LOCK) pyproject.toml requirements/serve.in --extra otel --overrides requirements/serve-override.in \
	  --constraints requirements/dev.txt --output-file requirements/serve.txt
	$(LOCK) requirements/build.in --constraints requirements/dev.txt --output-file requirements/build.txt
	$(LOCK) requirements/schemas.in --no-deps --output-file requirements/schemas.txt

bench: $(STAMP)  ## every method and head on the embedded images, 3 seeds; prints rows for benchmarks/results.md
	$(BIN)/python benchmarks/accuracy.py

bench-training: $(STAMP)  ## methods on FASHION_MNIST=folder (5 seeds, hours), cost of an epoch, assembly, two processes
	$(BIN)/python benchmarks/accuracy.py --recipe fashion-mnist-lt --images $(FASHION_MNIST) --largest 1000 --seeds 5 --jobs 2 --out runs/methods
	$(BIN)/python benchmarks/cost.py
	$(BIN)/python benchmarks/assembly.py
	$(BIN)/python benchmarks/processes.py

bench-refit: $(STAMP)  ## the refit solver against its peers, memory, and what a refit gains on FEATURES="a.npz b.npz" (benchmarks/features.py)
	$(BIN)/python benchmarks/refit_speed.py
	$(BIN)/python benchmarks/refit_memory.py
	$(BIN)/python benchmarks/refit_accuracy.py --features $(FEATURES)
	$(BIN)/python benchmarks/refit_trust.py --features $(FEATURES)

bench-serving: $(STAMP)  ## our server beside its peers and the ceiling, under swaps and refits (the peers get their own environment)
	$(BIN)/python benchmarks/serving/compare.py
	$(BIN)/python benchmarks/serving/change.py

bench-gpu: $(STAMP)  ## on a machine with a GPU: tensors in beside raw ONNX Runtime, swaps and refits under load, upload to live head
	$(BIN)/python benchmarks/serving/compare.py --device cuda --servers "ours, /v2 pixels" --concurrency 16 64 256
	$(BIN)/python benchmarks/serving/change.py --device cuda
	$(BIN)/python benchmarks/refit_live.py --device cuda

bench-scale: $(STAMP)  ## one worker against two; a new head on four servers; a Ray cluster that loses a replica and a node
	$(BIN)/python benchmarks/serving/compare.py --servers ours "ours, 2 workers"
	$(BIN)/python benchmarks/propagation.py
	$(BIN)/python benchmarks/failover.py

chaos: $(STAMP)  ## five minutes of load, swaps, refits, kill -9, full disk and damage; nothing may be wrong or lost
	$(BIN)/python benchmarks/chaos.py --seconds 240

reference: $(STAMP)  ## write into docs/api.md what the code says of each route
	$(BIN)/python docs/reference.py

docs: $(STAMP)  ## build these pages as a site, in site/; a link that leads nowhere is an error
	$(BIN)/mkdocs build --strict

serve: $(STAMP)  ## serve the embedded bundle
	$(BIN)/python -m breadcrumbs serve

image-check: image-check-serve image-check-full  ## build both images and run them hardened, by CHECK_IMAGE=script, where there is no Docker

IMAGE_CHECK = bash $(CHECK_IMAGE) --path /readyz --run-opt=--read-only --run-opt=--cap-drop=all \
  --run-opt=--security-opt=no-new-privileges

image-check-serve:  ## the image `serve`: predicts, refuses refits, has no torch, adds at most 900 MB to its base
	mkdir -p runs
	$(IMAGE_CHECK) --target serve --summary runs/image-serve.txt \
	  --probe 'python3 .ci/probe.py $$BASE_URL' \
	  --exec 'python -c "import importlib.util as u, sys; sys.exit(u.find_spec(\"torch\") is not None)"' .
	awk -F= '$$1 == "added_mb" { size = $$2 } END { exit !(size > 0 && size <= 900) }' runs/image-serve.txt

image-check-full:  ## the image `full`: predicts, refits and answers from the new head; several GB of wheels
	mkdir -p runs
	$(IMAGE_CHECK) --target full --summary runs/image-full.txt --probe 'python3 .ci/probe.py $$BASE_URL --refit' .

clean:  ## remove .venv, runs, stores and the site
	rm -rf $(VENV) runs store site
