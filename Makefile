# Every habit of this repository. `make help` lists them.
STACK ?= devbots
DATA ?= 0
SHELL := /bin/bash
PYTHON := .venv/bin/python
UV := .venv/bin/uv
CODE := $(wildcard src infra tests roles molecule plugins scripts/lib)
YAML := $(wildcard roles molecule playbooks images inventories .config provision.yml)
# Hooks of roles are programs without .py in their names.
PROGRAMS := $(shell grep -rIlE --exclude='*.py' '^\#!.*python' roles)

# By content: a fresh clone is checked as fast as one that was checked before.
MYPY_CACHE := $(or $(GANTRY_CACHE_HOME),$(HOME)/.cache/gantry)/mypy

export STACK DATA
# Python's own habit, also where the environment has another: what starts a hundred times is
# compiled once (docs/decisions/0021).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup lock lint lint-types lint-imports lint-roles lint-ansible \
	format docs test test-unit test-infra test-integration test-molecule test-e2e \
	test-soak test-vm bench bench-deltas up down images clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: packages, Docker, qemu, .venv, settings (idempotent)
	@scripts/setup.sh

up: setup ## deploy a fleet (STACK=devbots), start a virtual device, push the example
	@scripts/in-docker-group $(PYTHON) -m gantry.deployment.quickstart up $(STACK)

down: ## remove what `make up` made (DATA=1: the data volumes too, after asking)
	@scripts/in-docker-group $(PYTHON) -m gantry.deployment.quickstart down $(STACK)

lint: ## ruff, mypy strict, import rules, ansible-lint, yamllint
	@.venv/bin/ruff check $(CODE) $(PROGRAMS)
	@.venv/bin/ruff format --check $(CODE) $(PROGRAMS)
	@$(MAKE) --no-print-directory lint-types lint-imports lint-roles

# Ansible has no types; what a role runs on a host is a program of its own.
lint-types:
	@.venv/bin/mypy --cache-dir $(MYPY_CACHE)/src src $(wildcard infra)
	@MYPYPATH="$$(echo roles/*/files | tr ' ' :)" .venv/bin/mypy --cache-dir $(MYPY_CACHE)/programs --scripts-are-modules --disable-error-code import-untyped $(PROGRAMS) \
		$(wildcard roles/*/files/*.py roles/*/files/*/*.py roles/*/module_utils/*.py \
		roles/*/library/*.py roles/*/filter_plugins/*.py plugins/*/*.py scripts/lib/*.py)

lint-roles:
	@scripts/role-docs --check
	@.venv/bin/yamllint --strict $(YAML)
	@$(MAKE) --no-print-directory lint-ansible

lint-ansible:
	@PATH="$(CURDIR)/.venv/bin:$$PATH" ansible-lint -q

lint-imports:
	@.venv/bin/lint-imports

format: ## let ruff put the code in order
	@.venv/bin/ruff check --fix $(CODE) $(PROGRAMS)
	@.venv/bin/ruff format $(CODE) $(PROGRAMS)

docs: ## write the variable tables of the roles' READMEs
	@scripts/role-docs

test: setup ## every test but soak and the whole machine
	@scripts/in-docker-group scripts/test

test-unit: ## unit tests only
	@scripts/test unit

test-infra: ## the Pulumi program only
	@scripts/in-docker-group scripts/test infra

test-integration: ## single servers only
	@scripts/in-docker-group scripts/test integration

test-molecule: setup ## the device roles on emulated hosts (ROLE=journal: that scenario only)
	@scripts/in-docker-group scripts/test molecule $(ROLE)

test-e2e: ## the whole way only
	@scripts/in-docker-group scripts/test e2e

test-soak: setup ## what takes longer than CI has
	@scripts/in-docker-group scripts/test soak

test-vm: setup ## a whole emulated arm64 machine becomes a device (about half an hour)
	@scripts/in-docker-group scripts/test vm

bench: setup ## measure: push to running, no-op up, the supervisor's memory
	@scripts/in-docker-group $(PYTHON) -m tests.benchmarks

bench-deltas: setup ## measure: deltas beside other tools, on pairs of arm64 images
	@scripts/bench-deltas

images: setup ## build every image
	@scripts/in-docker-group $(PYTHON) -m gantry.deployment.images

lock: ## uv.lock and the requirements of machines and images, from pyproject.toml
	@scripts/lock

clean: ## remove caches and Gantry's images that nothing uses; what runs and data stay
	@scripts/clean
