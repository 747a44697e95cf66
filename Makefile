# JobRelay: every task of a checkout. Needs Python >= 3.11, make and git; targets that start with
# `image` or `kind` also need a container engine. Written for GNU make 3.81, which macOS ships.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# The version is defined only in that module.
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' jobs/jobrelay_runner/__init__.py)
IMAGE ?= jobrelay:$(VERSION)
BUILDER ?= $(firstword $(foreach tool,docker podman buildah,$(shell command -v $(tool) >/dev/null 2>&1 && echo $(tool))))
BUILD_ARGS ?=
KIND_CLUSTER ?= jobrelay
KIND_CONFIG ?= kind-config.yaml
KIND_IMAGE ?=
ARGS ?=

# Pods name the image without a registry; every engine and node then assumes Docker Hub.
image_name := $(if $(findstring /,$(IMAGE)),$(IMAGE),docker.io/library/$(IMAGE))
BUILD ?= $(BUILDER) build $(if $(filter buildah,$(BUILDER)),--layers)
python := $(VENV)/bin/python
# Without compiling: Python compiles at the first import, and most installed modules are never imported.
pip_install := $(python) -m pip --disable-pip-version-check install --no-compile
requirements := $(wildcard requirements/*.txt)
installed := $(VENV)/.installed

.PHONY: help
help: ## show this list
	@echo 'make TARGET [VARIABLE=value]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

# --- the checkout ---

.PHONY: install run test faults check format schema
install: $(installed) ## create .venv with the locked dependencies (CPU build of PyTorch)

# In two steps. First only PyTorch, by its build: from pip's configured index, which may be a mirror or a
# folder of wheels, else from PyTorch's own index, which is used for nothing else. Then the rest: since
# PyTorch is already installed, no dependency can pull in the CUDA build.
# The last step makes `import torchvision` work for every program, even if its wheel is of another build.
$(installed): constraints.txt pyproject.toml $(requirements) jobs/jobrelay_train/torchvision_operators.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'make: $(PYTHON) is older than 3.11; name another one: make PYTHON=python3.12 …' >&2; exit 1; }
	@test -x $(python) || $(PYTHON) -m venv $(VENV)
	@echo 'installing PyTorch (CPU build) into $(VENV)'
	@$(pip_install) --no-deps --retries 0 -r requirements/torch-cpu.txt 2>/dev/null || \
	  $(pip_install) --no-deps -r requirements/torch-cpu.txt --extra-index-url $(TORCH_INDEX)
	@echo 'installing the other dependencies, about 70 small packages'
	@$(pip_install) -qq -c constraints.txt hatchling
	@$(pip_install) -qq -c constraints.txt --no-build-isolation -e '.[train,plots]' -r requirements/dev.txt
	@$(python) -P jobs/jobrelay_train/torchvision_operators.py
	@touch $@

run: $(installed) ## train, evaluate and infer on this machine, no cluster (ARGS='--set train.epochs=2')
	@$(python) launcher run-all --local $(ARGS)

test: $(installed) ## run every test that this machine allows (ARGS='-k name')
	@$(python) -m pytest $(ARGS)

faults: $(installed) ## test the catalogue of faults and show the result of each row (ARGS='--rows 15-25 --repeat 20 -n 4')
	@$(python) -m pytest -q -p tests.plugins.faults $(ARGS)

schema: $(installed) ## write the JSON schema of jobrelay.yaml again, after a change of its keys
	@$(python) launcher init --schema > launcher/jobrelay/pipelines/schema.json.new
	@mv launcher/jobrelay/pipelines/schema.json.new launcher/jobrelay/pipelines/schema.json

check: $(installed) ## check formatting, lint, types, imports
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .
	@$(python) -m mypy
	@$(VENV)/bin/lint-imports

format: $(installed) ## format the code and fix lint
	@$(python) -m ruff format .
	@$(python) -m ruff check --fix .

# --- the image ---

.PHONY: image image-gpu builder
image: builder ## build jobrelay:VERSION with docker, podman or buildah (BUILDER=…, BUILD_ARGS='--build-arg BASE=…')
	$(BUILD) $(BUILD_ARGS) -t $(image_name) -f images/slim.Dockerfile .

image-gpu: builder ## build jobrelay:VERSION-gpu, with PyTorch's CUDA build
	$(BUILD) $(BUILD_ARGS) --build-arg TORCH=cuda -t $(image_name)-gpu -f images/slim.Dockerfile .

builder:
	@test -n '$(BUILDER)' || { echo 'make: this needs docker, podman or buildah' >&2; exit 1; }

# --- kind: a cluster in a container ---

.PHONY: kind-up kind-run kind-down
kind-up: builder $(installed) ## create the kind cluster and load the image (KIND_IMAGE=… names another node image)
	@command -v kind >/dev/null || { echo 'make: kind is not here: https://kind.sigs.k8s.io' >&2; exit 1; }
	@mkdir -p kind-data
	@if kind get clusters 2>/dev/null | grep -qx $(KIND_CLUSTER); then kind export kubeconfig --name $(KIND_CLUSTER); else \
	  kind create cluster --name $(KIND_CLUSTER) --config $(KIND_CONFIG) --wait 120s $(if $(KIND_IMAGE),--image $(KIND_IMAGE)); fi
	@$(MAKE) --no-print-directory image
	@$(python) launcher images load $(image_name) --kind $(KIND_CLUSTER) --engine $(BUILDER)

kind-run: $(installed) ## train, evaluate and infer on the kind cluster
	@$(python) launcher run-all -k k8s/overlays/kind --context kind-$(KIND_CLUSTER) $(ARGS)

kind-down: ## delete the kind cluster; ./kind-data stays
	kind delete cluster --name $(KIND_CLUSTER)

# --- upkeep ---

.PHONY: lock clean
# In a separate environment, from the requirements alone: the newest versions that they allow.
lock: ## recreate constraints.txt with the newest versions
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/pip install -q --no-deps --retries 0 -r requirements/torch-cpu.txt 2>/dev/null || \
	  build/lock/bin/pip install -q --no-deps -r requirements/torch-cpu.txt --extra-index-url $(TORCH_INDEX)
	@build/lock/bin/pip install -q '.[train,plots]' -r requirements/dev.txt -r requirements/browser.txt
	@{ echo '# Every version, direct and indirect. Made by `make lock`.'; \
	   build/lock/bin/pip freeze --all --exclude pip --exclude jobrelay | sed 's/+cpu$$//'; } > constraints.txt
	@rm -rf build/lock
	@git --no-pager diff --stat constraints.txt

clean: ## remove what checks and builds have left; .venv, runs and data stay
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
