# `make help` lists the targets. A new checkout needs Python 3.10-3.12 and make, nothing else.

PYTHON ?= python3
# More arguments for pip, such as an index that has torch's CPU build.
PIP_ARGS ?=
# Processes of the suite: one more than 2 cores, since some tests wait for what they started.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SAMPLE := output/sample

# Two frameworks in one process on two cores run up to 2.5 times slower when idle threads spin.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help align zoo faults calibrate test slow bench bench-evaluation docs lint format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

align: $(READY) ## make sample data and hold the Paddle FactSeg against torch's: steps 00-06
	$(BIN)/python scripts/make_sample_data.py --output $(SAMPLE)
	$(BIN)/python -m alignment \
	  --image $(SAMPLE)/val/images/images/P0001.png \
	  --mask $(SAMPLE)/val/masks/images/P0001_instance_color_RGB.png --crop 128 --train-steps 3

zoo: $(READY) ## hold every network of list_models() against its torch twin, a line each
	$(BIN)/python -m factseg_proof.networks

faults: $(READY) ## plant known porting faults and see them found; 20 fresh seeds for false alarms
	$(BIN)/python -m factseg_proof.faults
	$(BIN)/python -m factseg_proof.calibration --seeds 100-119 --runs 1 --out output/false_alarms

calibrate: $(READY) ## measure how far apart right networks are: what set the tolerances
	$(BIN)/python -m factseg_proof.calibration --out factseg_proof/calibration

# A worker that is killed ends the suite: pytest-xdist would wait for its tests for ever.
test: $(READY) ## run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart 0 -m "not slow and not gpu"

slow: $(READY) ## run the tests that take minutes
	$(BIN)/python -m pytest -m "slow and not gpu"

bench: $(READY) ## measure the losses, the metrics, reading and loading against their baselines
	$(BIN)/python scripts/bench_losses.py
	$(BIN)/python scripts/bench_metrics.py
	$(BIN)/python scripts/bench_data.py
	$(BIN)/python scripts/bench_loading.py

bench-evaluation: $(READY) ## time and peak memory of the sliding window; FactSeg-50 over 4000 x 13383
	$(BIN)/python scripts/bench_evaluation.py
	$(BIN)/python scripts/bench_evaluation.py --largest

docs: $(READY) ## build the documentation into output/docs; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(READY) ## check style, formatting and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and what the commands wrote
	rm -rf $(VENV) output

$(READY): requirements.txt requirements-gpu.txt requirements-docs.txt pyproject.toml
	@$(PYTHON) scripts/check_environment.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@$(BIN)/python -W ignore scripts/check_environment.py --installed
	@touch $@
