# replyq: `make demo` shows it, `make test` checks everything, `make help` lists the rest.
# CI runs `make test` and nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One step after the other: each uses all cores by itself, and the output stays readable.
.NOTPARALLEL:
SHELL := /bin/bash

GO      ?= go
PYTHON  ?= python3
NPM     ?= npm

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE   ?= replyq

# For each fuzz test of `make fuzz`; for `make bench-unit`, which benchmarks and how often.
FUZZTIME  ?= 10s
# For `make simulation`, e.g. '-sim.seeds 100000 -sim.stride 1' for a night.
SIMFLAGS ?=
# How many times as long as in CI the tests of `make soak` run.
SOAK ?= 10
MODELFLAGS ?=
# For `make integration`, e.g. -race.
INTEGRATIONFLAGS ?=
BENCH     ?= .
BENCHFLAGS ?= -count=1

TOOLS := bin/tools
BUF   := $(TOOLS)/buf
LINT  := $(TOOLS)/golangci-lint
PLUGINS := $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc $(TOOLS)/protoc-gen-go-vtproto

PROTOS    := api/queue.proto broker/factpb/facts.proto
GENERATED := api/queuepb broker/factpb
BASELINE  := tools/baseline.binpb

VENV := integration_test/.venv
NODE := integration_test/node

# Go files of this repository, without what package managers installed below it.
GOFILES = find . \( -name node_modules -o -path './$(VENV)' -o -path ./bin \) -prune -o -name '*.go' -print
# Every package of the main module but the tests that drive the built binaries.
UNIT_PKGS = $(shell $(GO) list ./... | grep -v '/integration_test$$')

##@ Use it

.PHONY: help
help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## show what replyq does, on real input, in a few seconds after compilation
	@$(GO) run ./demo

.PHONY: build
build: ## static binaries of queue-server and queuectl in ./bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/queue-server ./cmd/queuectl

.PHONY: image
image: ## container image of queue-server (needs a Docker engine)
	docker build --build-arg VERSION='$(VERSION)' -t '$(IMAGE):$(VERSION)' .

##@ Check it

.PHONY: test
test: check-generated lint unit journals model simulation integration replicated ## all checks and all tests: what CI runs
	@echo 'make test: all checks passed'

.PHONY: check-generated
check-generated: $(BUF) $(PLUGINS) ## generated Go is what the proto files say
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(BUF) generate -o "$$tmp" && \
	for dir in $(GENERATED); do \
	  mkdir -p "$$tmp/want/$$dir" && cp $$dir/*.pb.go "$$tmp/want/$$dir/" && \
	  diff -rq "$$tmp/want/$$dir" "$$tmp/$$dir" || { echo "$$dir is stale: run make generate" >&2; exit 1; }; \
	done
	@echo 'check-generated: ok'

.PHONY: lint
lint: lint-format lint-vet lint-go lint-proto ## format, vet, golangci-lint, buf lint, buf breaking

.PHONY: lint-format
lint-format: ## every Go file is as gofmt leaves it
	@files=$$($(GOFILES) | xargs gofmt -l) && \
	if [ -n "$$files" ]; then echo "gofmt: run make format for:" $$files >&2; exit 1; fi
	@echo 'gofmt: ok'

.PHONY: lint-vet
lint-vet: ## go vet, of benchmarks/ too
	$(GO) vet ./...
	cd benchmarks && $(GO) vet ./...

.PHONY: lint-go
lint-go: $(LINT) ## golangci-lint, as .golangci.yml says
	$(LINT) run ./...
	cd benchmarks && '$(CURDIR)/$(LINT)' run --config ../.golangci.yml ./...

.PHONY: lint-proto
lint-proto: $(BUF) ## buf lint, and buf breaking against the last released contract
	@test -f $(BASELINE) || { echo '$(BASELINE) is missing: it is committed; for a first one run make baseline' >&2; exit 1; }
	$(BUF) lint
	$(BUF) breaking --against $(BASELINE)

.PHONY: unit
unit: ## unit tests of all packages, with the race detector; those of benchmarks/ without
	$(GO) test -race -shuffle=on -timeout 15m $(UNIT_PKGS)
	cd benchmarks && $(GO) test -shuffle=on ./...

.PHONY: journals
journals: ## the broker's tests, and some against its model, with a journal on disk
	$(GO) test -count=1 -timeout 15m ./broker -args -journal disk
	$(GO) test -count=1 -timeout 15m ./broker/modeltest -rapid.checks=300 -args -journal disk

.PHONY: simulation
simulation: ## the whole system in fake time, over connections that fail: 300 seeds, a session cut after 1,352 bytes
	$(GO) test -count=1 -timeout 24h ./internal/simulation $(SIMFLAGS)

.PHONY: model
model: ## the broker against a plain model of it, at full size: 1,500 histories each; MODELFLAGS='-rapid.seed=0'
	$(GO) test -count=1 -timeout 15m ./broker/modeltest $(MODELFLAGS)

.PHONY: mutants
mutants: ## known mistakes, one at a time: says which test catches each; about three minutes
	$(GO) test -tags mutants -count=1 -timeout 60m -run Caught -v ./internal/mutants | grep -v '^=== '; exit $${PIPESTATUS[0]}

.PHONY: soak
soak: soak-model soak-simulation soak-faults soak-cluster ## the random tests SOAK (10) times as long as in CI, with other seeds each time

.PHONY: soak-model
soak-model:
	$(GO) test -count=1 -timeout 0 ./broker/modeltest -rapid.seed=0 -rapid.checks=$$((1500 * $(SOAK))) -months=$(SOAK) -operations=50000
	$(GO) test -race -count=$(SOAK) -timeout 0 -run Concurrent ./broker/modeltest
	$(GO) test -count=1 -timeout 0 -run TestReplay ./broker -seeds=$$((300 * $(SOAK)))

.PHONY: soak-simulation
soak-simulation:
	$(GO) test -count=1 -timeout 0 ./internal/simulation -sim.seeds=$$((300 * $(SOAK)))

# A cycle of these takes a second or two: with SOAK=10 a server is killed 200 times, and its power cut 100 times.
FAULTS := ^Test(P01Killed(Servers|Lazy|While)|P01PowerCuts|P04Damaged|P10MessageThatKills|P19|P24Disk)
.PHONY: soak-faults
soak-faults: build
	REPLYQ_BIN='$(CURDIR)/bin' REPLYQ_SOAK=$$((25 * $(SOAK) / 10)) \
	$(GO) test -count=1 -timeout 0 -v -artifacts -run '$(FAULTS)' ./integration_test | grep -v '^=== '; exit $${PIPESTATUS[0]}

# A cycle of these takes 10 to 20 seconds: with SOAK=10 each thing happens 50 times, in two hours.
CLUSTERFAULTS := ^Test(P01KilledReplicas|P01KilledNATS|P01PausedNATS|P01Partitions|P07Paused|P23|P24NATS)
.PHONY: soak-cluster
soak-cluster: build $(TOOLS)/nats-server
	REPLYQ_BIN='$(CURDIR)/bin' REPLYQ_SOAK=$$((25 * $(SOAK) / 10)) \
	$(GO) test -count=1 -timeout 0 -v -artifacts -run '$(CLUSTERFAULTS)' ./integration_test | grep -v '^=== '; exit $${PIPESTATUS[0]}

# An earlier version is built from its commit, in a checkout of its own.
.PHONY: upgrade
upgrade: build $(TOOLS)/nats-server ## a service of an earlier version is upgraded under load: make upgrade FROM=COMMIT
	@test -n '$(FROM)' || { echo 'which version is upgraded? make upgrade FROM=COMMIT' >&2; exit 2; }
	rm -rf bin/from && mkdir -p bin/from/source && git archive '$(FROM)' | tar -x -C bin/from/source
	cd bin/from/source && $(GO) build -o ../queue-server ./cmd/queue-server
	rm -rf bin/from/source
	REPLYQ_BIN='$(CURDIR)/bin' REPLYQ_FROM='$(CURDIR)/bin/from/queue-server' \
	$(GO) test -count=1 -timeout 15m -v -run '^TestP23Upgrade$$' ./integration_test | grep -v '^=== '; exit $${PIPESTATUS[0]}

.PHONY: integration
integration: build $(TOOLS)/nats-server $(VENV)/.stamp $(NODE)/node_modules/.stamp ## the built binaries, driven from outside in Go, Python and Node
	REPLYQ_BIN='$(CURDIR)/bin' \
	REPLYQ_PYTHON='$(CURDIR)/$(VENV)/bin/python' \
	REPLYQ_NODE_DIR='$(CURDIR)/$(NODE)' \
	$(GO) test $(INTEGRATIONFLAGS) -count=1 -timeout 15m ./integration_test

# The tests that say something about any service, against one of three replicas; those that stop, kill or measure their
# server are about one.
REPLICATED := ^Test(Story[A-J]|P14|P15|P16|P26Bad|BadInputAtOnce|Promise1EndsForThose|Session|APIKeys|Reflection)
.PHONY: replicated
replicated: build $(TOOLS)/nats-server ## the tests of server and client over three NATS servers; the story and the catalogue of errors against three replicas too
	$(GO) test -count=1 -timeout 15m ./server -args -relay -journal nats
	$(GO) test -count=1 -timeout 15m ./client -args -journal nats
	REPLYQ_BIN='$(CURDIR)/bin' REPLYQ_TOPOLOGY=cluster REPLYQ_SKIP_POLYGLOT=1 \
	$(GO) test $(INTEGRATIONFLAGS) -count=1 -timeout 15m -run '$(REPLICATED)' ./integration_test

.PHONY: fuzz
fuzz: ## each fuzz test for FUZZTIME (10s)
	@set -e; for pkg in $(UNIT_PKGS); do \
	  for name in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

.PHONY: bench
bench: ## replyq and its peers side by side, under ten minutes; BENCHARGS='-h' tells more
	cd benchmarks && $(GO) run . $(BENCHARGS)

.PHONY: bench-quick
bench-quick: ## the same in under a minute
	cd benchmarks && $(GO) run . -quick $(BENCHARGS)

.PHONY: bench-unit
bench-unit: ## benchmarks beside the code; BENCH=regexp, BENCHFLAGS='-count=6' for benchstat
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(BENCHFLAGS) $(UNIT_PKGS)

##@ Change it

.PHONY: generate
generate: $(BUF) $(PLUGINS) ## Go from api/queue.proto and broker/factpb/facts.proto
	$(BUF) build
	rm -f $(addsuffix /*.pb.go,$(GENERATED))
	$(BUF) generate

.PHONY: format
format: ## gofmt -w on every Go file
	@$(GOFILES) | xargs gofmt -w

# At a release, and before the first one. BREAKING is for a break that was decided: it takes the
# reason, which belongs in the commit and in CHANGELOG.md too.
.PHONY: baseline
baseline: $(BUF) ## the contract as it is becomes the one that buf breaking compares with
	@if [ -f $(BASELINE) ] && ! $(BUF) breaking --against $(BASELINE); then \
	  test -n '$(BREAKING)' || { echo "not rewritten: this breaks the released contract; if that was decided, say make baseline BREAKING='reason'" >&2; exit 1; }; \
	fi
	$(BUF) build --exclude-source-info -o $(BASELINE)

.PHONY: tools
tools: $(BUF) $(PLUGINS) $(LINT) $(TOOLS)/grpcurl $(TOOLS)/nats-server ## build all pinned tools into bin/tools

.PHONY: clean
clean: ## remove what make built and installed
	rm -rf bin $(VENV) $(NODE)/node_modules

# The tools. Each is built once and again when its pin changes; three modules, because buf and
# golangci-lint would otherwise choose the versions of the generators' dependencies.

$(BUF): tools/buf/go.mod tools/buf/go.sum
	cd tools/buf && $(GO) build -o '$(CURDIR)/$@' github.com/bufbuild/buf/cmd/buf
	@touch $@

$(LINT): tools/lint/go.mod tools/lint/go.sum
	cd tools/lint && $(GO) build -o '$(CURDIR)/$@' github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(TOOLS)/protoc-gen-go: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o '$(CURDIR)/$@' google.golang.org/protobuf/cmd/protoc-gen-go
	@touch $@

$(TOOLS)/protoc-gen-go-grpc: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o '$(CURDIR)/$@' google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@touch $@

$(TOOLS)/protoc-gen-go-vtproto: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o '$(CURDIR)/$@' github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto
	@touch $@

$(TOOLS)/grpcurl: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o '$(CURDIR)/$@' github.com/fullstorydev/grpcurl/cmd/grpcurl
	@touch $@

$(TOOLS)/nats-server: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o '$(CURDIR)/$@' github.com/nats-io/nats-server/v2
	@touch $@

# The test clients' packages, at the versions in requirements.txt and package-lock.json.

$(VENV)/.stamp: integration_test/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(NODE)/node_modules/.stamp: $(NODE)/package.json $(NODE)/package-lock.json
	cd $(NODE) && $(NPM) ci --loglevel=error
	@touch $@
