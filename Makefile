# Jirani: few targets; `make` lists them.
GO       ?= go
FUZZTIME ?= 1m
VERSION  ?= $(shell git describe --tags --always 2>/dev/null || echo devel)
LDFLAGS  := -s -w -X github.com/jirani/jirani/internal/buildinfo.version=$(VERSION)
UNIT     := $(shell $(GO) list ./... 2>/dev/null | grep -v '/integration\|/bench')

.PHONY: help build test lint fuzz integration bench

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

build: ## static binaries of everything into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

test: ## every test that needs no privilege and no other program, with the race detector; works offline
	$(GO) test -race -timeout 15m $(UNIT)

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fuzz: ## every fuzzer for FUZZTIME each (default 1m); goes on after a finding, fails at the end
	@grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's,^(\./)?(.*)/[^/]+:[0-9]+:func (Fuzz.*),\2 \3,' | sort -u | \
	{ found=; while read -r dir name; do echo "== $$dir $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10s "./$$dir" || found="$$found $$dir:$$name"; done; \
	[ -z "$$found" ] || { echo "fuzz: findings:$$found"; exit 1; }; }

integration: ## whole flows against real programs in network namespaces; root and Debian's packages (see .ci/run)
	$(GO) test -timeout 40m -p 1 ./integration/...
	$(GO) test -timeout 20m ./integration/firstlight -servers=up

bench: ## every benchmark once, as a check that they run; docs/performance.md has the commands that measure
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...
