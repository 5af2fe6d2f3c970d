# Slipway. `make help` says what there is.
SHELL := /bin/bash
DIR ?= build/demo
BIN := build/slipway
DEVICES := amd64 arm64
VERSION := $(shell sed -n 's/^var Version = "\(.*\)"$$/\1/p' internal/cli/root.go)
# Where Go's own installer puts it, for a PATH that nobody has extended yet.
export PATH := $(PATH):/usr/local/go/bin
STATICCHECK := go tool -modfile=tools/go.mod staticcheck

.PHONY: help demo test check bench build device staticcheck shellcheck
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

test: ## every test, a quarter of an hour on two cores (SLIPWAY_TEST=full adds the long forms)
	@scripts/check-go
	@scripts/install-packages test
	@scripts/test

check: staticcheck shellcheck ## vet, staticcheck and the fast tests, within a minute or two
	@scripts/test fast

bench: ## run all benchmarks and write docs/benchmarks.md
	@scripts/check-go
	@scripts/install-packages test
	@scripts/bench

build: device ## build/slipway, and for devices build/slipway-device-{amd64,arm64}, static programs
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false -o $(BIN) ./cmd/slipway

# slipway-device for the architectures of the example; armv7, which it does not
# have: make device DEVICES="amd64 arm64 armv7". The same bytes for the same source.
device:
	@scripts/check-go
	@mkdir -p build
	@[ -x $(BIN) ] || echo "Building $(BIN); the first time takes a minute or two"
	@for arch in $(DEVICES); do \
		env CGO_ENABLED=0 GOOS=linux GOARCH=$${arch%v7} GOARM=7 go build -trimpath -buildvcs=false -tags nethttpomithttp2 \
			-ldflags "-s -w -X slipway/internal/device.Version=$(VERSION)" -o build/slipway-device-$$arch ./cmd/slipway-device || exit 1; \
	done

staticcheck: ## staticcheck, pinned in tools/go.mod, and gofmt
	@scripts/check-go
	@echo "== staticcheck"
	@$(STATICCHECK) ./...
	@bad=$$(gofmt -l cmd internal scripts examples layers 2>/dev/null); [ -z "$$bad" ] || { echo "gofmt -w $$bad"; exit 1; }

shellcheck: ## shellcheck on our scripts, where it is installed
	@if command -v shellcheck >/dev/null; then echo "== shellcheck"; grep -lE '^#!.*sh' scripts/* scripts/bench.d/* .ci/run $$(find layers/meta-slipway -type f) 2>/dev/null | xargs shellcheck; fi
