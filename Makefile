# Every habit of this repository. `make help` lists them.
STACK ?= devbots
DATA ?= 0
SHELL := /bin/bash
PYTHON := .venv/bin/python
UV := .venv/bin/uv
CODE := $(wildcard src infra tests)

export STACK DATA

.DEFAULT_GOAL := help
.PHONY: help setup lock lint lint-types lint-imports format test test-unit test-infra \
	test-integration test-e2e test-soak bench up down images clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: packages, Docker, qemu, .venv, settings (idempotent)
	@scripts/setup.sh

up: setup ## deploy a fleet (STACK=devbots), start a virtual device, push the example
	@scripts/in-docker-group $(PYTHON) -m gantry.deployment.quickstart up $(STACK)

down: ## remove what `make up` made (DATA=1: the data volumes too, after asking)
	@scripts/in-docker-group $(PYTHON) -m gantry.deployment.quickstart down $(STACK)

lint: ## ruff, mypy strict, import rules
	@.venv/bin/ruff check $(CODE)
	@.venv/bin/ruff format --check $(CODE)
	@$(MAKE) --no-print-directory lint-types lint-imports

lint-types:
	@.venv/bin/mypy src $(wildcard infra)

lint-imports:
	@.venv/bin/lint-imports

format: ## let ruff put the code in order
	@.venv/bin/ruff check --fix $(CODE)
	@.venv/bin/ruff format $(CODE)

test: setup ## every test but the soak
	@scripts/in-docker-group scripts/test

test-unit: ## unit tests only
	@scripts/test unit

test-infra: ## the Pulumi program only
	@scripts/in-docker-group scripts/test infra

test-integration: ## single servers only
	@scripts/in-docker-group scripts/test integration

test-e2e: ## the whole way only
	@scripts/in-docker-group scripts/test e2e

test-soak: setup ## what takes longer than CI has
	@scripts/in-docker-group scripts/test soak

bench: setup ## measure: push to running, no-op up, the supervisor's memory
	@scripts/in-docker-group $(PYTHON) -m tests.benchmarks

images: setup ## build every image
	@scripts/in-docker-group $(PYTHON) -m gantry.deployment.images

lock: ## uv.lock and the requirements of machines and images, from pyproject.toml
	@scripts/lock

clean: ## remove caches and Gantry's images that nothing uses; what runs and data stay
	@scripts/clean
