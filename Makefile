# make test is the test command; CONTRIBUTING.md says what each target is for.

# the modules that the targets loop over; `.ci/tools` only pins tools
export MODULES := . internal/peers

# packages that must pass in a process that allows FIPS 140-3 algorithms only
export FIPS := ./crypto/... ./audit/... ./minimize/... ./session/... ./storage/...

.PHONY: help test quick test-long bench mutants tools

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

test: tools ## everything: services, static checks, race detector, FIPS, no cgo
	@.ci/services.sh .ci/test.sh full

quick: ## the inner loop: gofmt, vet and the tests, without services
	@.ci/test.sh quick

test-long: tools ## make test with the full counts of the heavy suites
	@.ci/services.sh .ci/test.sh long

bench: ## one line a figure: name, value, goal, ok or short
	@cd internal/peers && CGO_ENABLED=0 go run . $(BENCH)

mutants: ## break each control named in a testdata/mutants.txt; its test must notice
	@CGO_ENABLED=0 go run ./internal/mutate $(MUTANTS)

tools: .tools/staticcheck ## build the pinned tools into .tools/

.tools/staticcheck: .ci/tools/go.mod
	@echo 'building staticcheck'
	@CGO_ENABLED=0 go -C .ci/tools build -o ../../.tools/staticcheck honnef.co/go/tools/cmd/staticcheck
