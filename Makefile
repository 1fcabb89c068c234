# make demo   restyle a clip with the embedded model       make demo VIDEO=my.mp4 PROMPT="a watercolor painting"
# make test   the whole test suite, on the CPU, offline    make test ARGS="-k cli -x"
# make lint   ruff and mypy
# make bench  time per frame against stock diffusers, peak memory of 60 and 600 frames      make bench DEVICE=cuda
# make train  make the embedded model again                make train DATA=folder/of/photos
# Needs Python 3.10+, make and a package index.

PYTHON ?= python3
VENV   ?= .venv
# The wheel of torch to install. On Linux the plain name may bring CUDA along, several gigabytes; the build for the CPU
# alone is listed at https://pytorch.org/get-started. Any torch from 2.4 on will do.
TORCH  ?= torch==2.13.0
VIDEO  ?=
PROMPT ?= a watercolor painting
OUT    ?=
DATA   ?=
ARGS   ?=
DEVICE ?= auto

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
export VIDEO PROMPT OUT

.PHONY: demo test lint bench train clean
.DEFAULT_GOAL := demo

$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Kinopaint needs Python 3.10 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	@touch $@

$(VENV)/.package: $(VENV)/.torch pyproject.toml
	$(PIP) --editable ".[demo]"
	@touch $@

$(VENV)/.test: $(VENV)/.package
	$(PIP) --editable ".[test]"
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) --editable ".[dev]"
	@touch $@

$(VENV)/.train: $(VENV)/.package
	$(PIP) --editable ".[train]"
	@touch $@

# Names come in as environment variables, so spaces and quotes in them do no harm.
demo: $(VENV)/.package
	@set -eu; mkdir -p out; \
	clip="$${VIDEO:-out/demo-clip.mp4}"; \
	[ -n "$$VIDEO" ] || [ -e "$$clip" ] || $(BIN)/python -m kinopaint.demo "$$clip"; \
	name=$$(basename "$$clip"); result="$${OUT:-out/$${name%.*}-painted.mp4}"; \
	$(OFFLINE) $(BIN)/kinopaint stylize --overwrite --output "$$result" $(ARGS) -- "$$clip" "$$PROMPT"; \
	echo "source: $$clip"; echo "result: $$result"

# One thread: the models of the tests are so small that sharing them out costs more than it gains.
test: $(VENV)/.test
	$(OFFLINE) CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# On a GPU: make bench DEVICE=cuda. It takes at most 8 minutes and leaves its figures in out/bench.json.
bench: $(VENV)/.package
	$(OFFLINE) $(BIN)/python benchmarks/bench.py --device $(DEVICE) --json out/bench.json $(ARGS)
	$(if $(filter cuda%,$(DEVICE)),@:,$(OFFLINE) $(BIN)/python benchmarks/memory.py)

train: $(VENV)/.train
	@test -n "$(DATA)" || { echo 'say which photographs: make train DATA=folder (training/README.md)' >&2; exit 2; }
	$(BIN)/python -m training.train --data "$(DATA)" $(ARGS)

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache
