# The verbs of this project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NAME ?= dev

# Matrices are small here: more threads only wait for each other.
export OMP_NUM_THREADS := 1

# Options of `make fuzz`: examples of each test in a round, seconds after which no round begins, and which tests.
FUZZ_SECONDS ?= 0
FUZZ_EXAMPLES ?= $(if $(filter-out 0,$(FUZZ_SECONDS)),500,10000)
FUZZ_TESTS ?=

# Options of the release verbs: where images and chart go, and whether commands are only shown.
REGISTRY ?=
DRY_RUN ?=
TAG ?=

# Option of `make e2e`.
PUBLISHED ?=
export DOPD_PUBLISHED := $(PUBLISHED)

RELEASE = $(BIN)/python -m e2e.release $(1) --registry "$(REGISTRY)" $(if $(DRY_RUN),--dry-run)
# Options of `make endurance`, `make faults`, `make soak` and `make upgrade`: see `python -m e2e.endurance --help`, and so on.
ENDURANCE ?= run
FAULTS ?=
SOAK ?=
UPGRADE ?=

# Options of `make demo`.
SCENARIO ?= first-light
KEEP ?=
PLAN ?=
TRACE ?=
JSON ?=
HTML ?=
RECORD ?=

.PHONY: help
help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: install
install: $(READY) ## set up the virtual environment in .venv

.PHONY: lint
lint: $(READY) ## style, layers, Dockerfiles and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint $$(git ls-files "operator/*Dockerfile" "worker_images/*Dockerfile" "e2e/images/*Dockerfile")
	$(BIN)/mypy

.PHONY: format
format: $(READY) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: type
type: $(READY) ## types alone
	$(BIN)/mypy

.PHONY: test
test: $(READY) ## unit tests, and the operator against a real API server on loopback
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadgroup

.PHONY: unit
unit: $(READY) ## unit tests alone
	$(BIN)/pytest -m "not controlplane"

.PHONY: fuzz
fuzz: $(READY) ## random inputs for everything that has such a test (FUZZ_EXAMPLES=10000 of each, FUZZ_SECONDS= for as long)
	@end=$$((SECONDS + $(FUZZ_SECONDS))); while true; do \
	  FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest -q -m "hypothesis and not controlplane" --timeout=0 $(FUZZ_TESTS) || exit 1; \
	  [ $$SECONDS -lt $$end ] || exit 0; \
	done

.PHONY: mutants
mutants: $(READY) ## change each constant of the autoscaler, and say which test fails
	$(BIN)/python -P operator/tests/autoscaler/mutants.py

.PHONY: e2e
e2e: $(READY) ## the whole on a real kind cluster, which is taken down afterwards (PUBLISHED=REGISTRY: with images of this version from there)
	$(BIN)/python -m pytest e2e/tests

.PHONY: test-chart
test-chart: $(READY) ## the chart, config/ and what GitOps tools see, by real Helm against a real API server
	$(BIN)/pytest operator/tests/controlplane/test_chart*.py operator/tests/controlplane/test_config.py \
	  operator/tests/controlplane/test_gitops.py operator/tests/gitops operator/tests/api/test_generated.py

.PHONY: kills
kills: $(READY) ## the operator killed after every single write of every machine
	EVERY_WRITE=1 $(BIN)/pytest operator/tests/kills

.PHONY: endurance
endurance: $(READY) ## an hour of moves under load on kind, all tokens counted (ENDURANCE=rollouts: three hard ones)
	$(BIN)/python -m e2e.endurance $(ENDURANCE)

.PHONY: upgrade
upgrade: $(READY) ## the operator replaced and rolled back in the middle of moves under load (UPGRADE="--from REVISION")
	$(BIN)/python -m e2e.upgrade $(UPGRADE)

.PHONY: soak
soak: $(READY) ## eight simulated hours with seeded random faults on kind, about 45 minutes (SOAK="--html soak.html")
	$(BIN)/python -m e2e.soak $(SOAK)

.PHONY: faults
faults: $(READY) ## cause each fault on kind under load and write docs/faults.md (FAULTS="NAME ..." some)
	$(BIN)/python -m e2e.faults $(FAULTS)

.PHONY: gitops
gitops: $(READY) ## a real Argo CD syncs a model; its first build takes a quarter of an hour
	$(BIN)/python -c "from e2e.cluster import programs; programs.argocd()"
	$(BIN)/pytest operator/tests/controlplane/argocd_syncs.py

.PHONY: e2e-gitops
e2e-gitops: $(READY) ## a real Argo CD beside a kind cluster with the operator, which is taken down afterwards
	$(BIN)/python -c "from e2e.cluster import programs; programs.argocd()"
	$(BIN)/python -m pytest e2e/gitops/tests

.PHONY: keda
keda: $(READY) ## a real KEDA scales a role; its first build takes half an hour
	$(BIN)/python -c "from e2e.cluster import programs; programs.keda()"
	$(BIN)/pytest operator/tests/controlplane/keda_scales.py

.PHONY: kueue
kueue: $(READY) ## a real Kueue lets workers in and preempts them; its first build takes a quarter of an hour
	$(BIN)/python -c "from e2e.cluster import programs; programs.kueue()"
	$(BIN)/pytest operator/tests/controlplane/kueue_admits.py

.PHONY: test-sglang
test-sglang: $(READY) ## real SGLang on this machine, no GPU needed, beside the simulator; writes docs/conformance.md
	$(BIN)/python -m e2e.sglang test

.PHONY: e2e-sglang
e2e-sglang: $(READY) ## the operator's own pods with real SGLang on a kind cluster, which is taken down afterwards
	$(BIN)/python -m pytest e2e/sglang/tests/cluster

.PHONY: e2e-flips
e2e-flips: $(READY) ## workers that change their role under load on a kind cluster, taken down afterwards (FLIPS=20)
	FLIPS="$(or $(FLIPS),20)" $(BIN)/python -m pytest -s e2e/flips/tests

.PHONY: demo
demo: $(READY) ## a serving cluster that follows a real trace (PLAN=1: what it takes; SCENARIO=diurnal, KEEP=1, TRACE=, JSON=, HTML=, RECORD=FILE)
	$(BIN)/python -m e2e.demo --scenario "$(SCENARIO)" $(if $(PLAN),--plan) $(if $(KEEP),--keep) $(if $(TRACE),--trace "$(TRACE)") \
	  $(if $(JSON),--json "$(JSON)") $(if $(HTML),--html "$(HTML)") \
	  $(if $(RECORD),--record "$(RECORD)")

.PHONY: dynamo-replay
dynamo-replay: ## set up NVIDIA Dynamo's planner and simulator in .venv-dynamo, for docs/replay.md
	$(PYTHON) -m venv .venv-dynamo
	.venv-dynamo/bin/pip install --quiet -r operator/dopd/replay/dynamo-requirements-rest.txt
	.venv-dynamo/bin/pip install --quiet --no-deps -r operator/dopd/replay/dynamo-requirements.txt

.PHONY: cluster
cluster: $(READY) ## bring a kind cluster up and load all images (NAME=dev)
	$(BIN)/python -m e2e.cluster up --name "$(NAME)"
	$(BIN)/python -m e2e.cluster images --name "$(NAME)"

.PHONY: cluster-down
cluster-down: $(READY) ## take it down; nothing is left but the cache
	$(BIN)/python -m e2e.cluster down --name "$(NAME)"

.PHONY: images
images: $(READY) ## build the images
	$(BIN)/python -m e2e.cluster images

.PHONY: crds
crds: $(READY) ## write the CustomResourceDefinitions from the models, and the recording rules from the queries
	$(BIN)/python -m dopd.api.crds crds charts/dopd/files/crds config/crd
	$(BIN)/python -m dopd.telemetry.recording charts/dopd/rules/recording.yaml

.PHONY: chart
chart: $(READY) crds ## write schema, checks and README of the chart from its values.yaml, and config/operator from the chart
	$(BIN)/python -m charts.generate
	$(BIN)/python -m charts.manifests

.PHONY: release-check
release-check: $(READY) ## whether version, tag (TAG=v0.1.0), changelog and config/ agree
	TAG="$(TAG)" $(BIN)/python -m e2e.release check

.PHONY: release-wheel
release-wheel: $(READY) ## build the wheel in dist/
	$(call RELEASE,wheel)

.PHONY: release-chart
release-chart: $(READY) ## package the chart in dist/
	$(call RELEASE,chart)

.PHONY: release-images
release-images: $(READY) ## build the images for all platforms and push them (REGISTRY=, DRY_RUN=1)
	$(call RELEASE,images)

.PHONY: release-sbom
release-sbom: $(READY) ## list what is in the pushed images, by syft (REGISTRY=, DRY_RUN=1)
	$(call RELEASE,sbom)

.PHONY: release-sign
release-sign: $(READY) ## sign the pushed images and their lists, by cosign (REGISTRY=, DRY_RUN=1)
	$(call RELEASE,sign)

.PHONY: release-publish
release-publish: $(READY) ## publish chart, wheel and release notes (REGISTRY=, DRY_RUN=1)
	$(call RELEASE,publish)

.PHONY: generate
generate: $(READY) chart ## write all that is made from the code: CRDs, rules, chart, dashboards, reference pages
	$(BIN)/python -m charts.dashboard charts/dopd/dashboards
	$(BIN)/python docs/generate.py

.PHONY: docs
docs: $(READY) generate ## build the documentation in docs/_build
	$(BIN)/sphinx-build -q -W -b html docs docs/_build

.PHONY: lock
lock: $(READY) ## pin all dependencies anew (needs uv)
	$(BIN)/python -m e2e.cluster lock
