# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

GOLANGCI_VERSION := v2.15.0
GOLANGCI := bin/tools/golangci-lint-$(GOLANGCI_VERSION)
PG := deploy/ci/with-postgres.sh
STEP := deploy/ci/step.sh
NODE_MODULES := node_modules/.package-lock.json

## demo: start the server with demo agents and a few executions, and say what to look at
.PHONY: demo
demo:
	@go run ./cmd/agentfield demo

## test: everything a change must pass, on SQLite and PostgreSQL; installs what is missing
.PHONY: test
test: setup
	@rm -rf .cache/steps
	@$(STEP) generated deploy/ci/generated-is-current.sh
	@$(STEP) modules $(MAKE) modules
	@$(STEP) build $(MAKE) build
	@$(STEP) test-go $(MAKE) test/go
	@$(STEP) lint $(MAKE) lint
	@$(STEP) test-e2e $(MAKE) test/e2e
	@$(STEP) conformance $(MAKE) conformance
	@echo "all checks passed"

## check: the quick half of test: generated files, modules, lint, and Go tests without the race detector
.PHONY: check
check: $(NODE_MODULES)
	@deploy/ci/generated-is-current.sh
	@$(MAKE) modules lint
	@$(PG) go test ./...

## setup: install what the tests need: PostgreSQL, Chromium, npm packages
.PHONY: setup
setup:
	@deploy/ci/setup.sh
	@$(MAKE) $(NODE_MODULES)

## dev: start a server that logs as text, with its data in agentfield-data
.PHONY: dev
dev:
	@go run ./cmd/agentfield server --log-format text --log-level debug

## build: the one binary, bin/agentfield
.PHONY: build
build:
	CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags='-s -w' -o bin/agentfield ./cmd/agentfield

## generate: templates, browser files and the table of settings
.PHONY: generate
generate: $(NODE_MODULES)
	go tool templ generate -log-level warn
	npm run --silent build
	go generate ./app/config

## fmt: format Go, templates and TypeScript
.PHONY: fmt
fmt: $(NODE_MODULES) $(GOLANGCI)
	$(GOLANGCI) fmt
	go tool templ fmt -log-level warn views
	npm run --silent fmt

## lint: vet, golangci-lint, and the checks of the browser code
.PHONY: lint
lint: $(NODE_MODULES) $(GOLANGCI)
	go vet ./...
	$(GOLANGCI) run
	go tool templ fmt -fail -log-level warn views
	npm run --silent check

## modules: go.mod says exactly what is used
.PHONY: modules
modules:
	go mod tidy -diff
	go mod verify

## test/go: Go tests with the race detector, on both databases
# One package after the other: most of them keep the cores and the PostgreSQL busy by themselves.
.PHONY: test/go
test/go:
	@$(PG) go test -race -shuffle=on -p 1 -timeout 20m $(or $(RUN),./...)

## test/e2e: browser tests
.PHONY: test/e2e
test/e2e: $(NODE_MODULES) build
	npm test

## conformance: the table of all requirements; against a server of your own with CONFORMANCE_URL=http://…
.PHONY: conformance
conformance: build
	@$(if $(CONFORMANCE_URL),,$(PG)) go run ./cmd/prove conformance

## crash: kill the server again and again under load and count what was lost; takes minutes
.PHONY: crash
crash: build
	@PG_FSYNC=on $(PG) go run ./cmd/prove crash

## webhooks: kill the server ten times while it delivers 1,000 webhooks to a receiver that fails three times in ten
.PHONY: webhooks
webhooks: build
	@PG_FSYNC=on $(PG) go run ./cmd/prove webhooks

## burst: 5,000 submissions at once to a slow agent with a short queue: what is refused, and how fast
.PHONY: burst
burst: build
	@$(PG) go run ./cmd/prove burst

## fairness: let one caller queue 50,000 executions and look how long another waits; a burst at a cap
.PHONY: fairness
fairness: build
	@$(PG) go run ./cmd/prove fairness

## instances: let one of three instances of an agent fall ill, and restart all of them, under load; takes minutes
.PHONY: instances
instances: build
	@$(PG) go run ./cmd/prove instances

## bench: measure this machine, beside the yardstick; takes minutes
.PHONY: bench
bench: build
	@PG_FSYNC=on $(PG) go run ./cmd/prove bench

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' Makefile | awk -F': ' '{ printf "%-14s %s\n", $$1, $$2 }'

$(NODE_MODULES): package.json package-lock.json
	@# Not npm ci: it refuses a lock file without the packages of platforms that the registry at hand does not have.
	npm install --no-save --no-audit --no-fund
	@touch $@

$(GOLANGCI):
	GOBIN=$(CURDIR)/bin/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv bin/tools/golangci-lint $@
