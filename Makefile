# Slipway. `make help` says what there is.
SHELL := /bin/bash
DIR ?= build/demo
BIN := build/slipway
# Where Go's own installer puts it, for a PATH that nobody has extended yet.
export PATH := $(PATH):/usr/local/go/bin
STATICCHECK := go tool -modfile=tools/go.mod staticcheck

.PHONY: help demo test check bench build staticcheck shellcheck
.DEFAULT_GOAL := help

help: ## show this list
	@echo "make TARGET"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Start with: make demo"

demo: ## the life of a small distribution through three releases (DIR=build/demo)
	@scripts/check-go
	@scripts/install-packages demo
	@$(MAKE) --no-print-directory build
	@$(BIN) demo --dir "$(DIR)"

test: ## every test, within ten minutes (SLIPWAY_TEST=full adds the long forms)
	@scripts/check-go
	@scripts/install-packages test
	@scripts/test

check: staticcheck shellcheck ## vet, staticcheck and the fast tests, within a minute or two
	@scripts/test fast

bench: ## run all benchmarks and write docs/benchmarks.md
	@scripts/check-go
	@scripts/install-packages test
	@scripts/bench

build: ## build/slipway, a static program
	@scripts/check-go
	@mkdir -p build
	@[ -x $(BIN) ] || echo "Building $(BIN); the first time takes a minute or two"
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false -o $(BIN) ./cmd/slipway

staticcheck: ## staticcheck, pinned in tools/go.mod, and gofmt
	@scripts/check-go
	@echo "== staticcheck"
	@$(STATICCHECK) ./...
	@bad=$$(gofmt -l cmd internal scripts examples 2>/dev/null); [ -z "$$bad" ] || { echo "gofmt -w $$bad"; exit 1; }

shellcheck: ## shellcheck on our scripts, where it is installed
	@if command -v shellcheck >/dev/null; then echo "== shellcheck"; grep -lE '^#!.*sh' scripts/* scripts/bench.d/* .ci/run 2>/dev/null | xargs shellcheck; fi
