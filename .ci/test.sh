#!/usr/bin/env bash
# test.sh full|quick|long: the checks of the project, in order, ending at the
# first that fails. The Makefile calls it, with the services around it but for
# quick; MODULES and FIPS come from there.
set -uo pipefail
cd "$(dirname "$0")/.."
mode=${1:-full}
: "${MODULES:=.}" "${FIPS:=}"

# One flavour for all but the race leg, so that it compiles once; cgo is for
# the race detector alone.
export CGO_ENABLED=0

started=$SECONDS
summary=()

step() { # NAME COMMAND...
	local name=$1 from=$SECONDS status
	shift
	printf '\n== %s\n' "$name"
	"$@"
	status=$?
	summary+=("$(printf '%-6s %4d s  %s' "$([ $status = 0 ] && echo ok || echo FAILED)" $((SECONDS - from)) "$name")")
	[ $status = 0 ] || finish $status
}

finish() {
	printf '\n== summary (%d s)\n' $((SECONDS - started))
	printf '%s\n' "${summary[@]}"
	[ "$1" = 0 ] && echo "$mode: all passed" || echo "$mode: FAILED"
	exit "$1"
}

in_modules() { # COMMAND...: runs it in each module
	local m
	for m in $MODULES; do
		(cd "$m" && "$@") || return
	done
}

formatted() {
	local out
	out=$(find . -name '*.go' -not -path './.tools/*' -exec gofmt -l {} +) || return
	[ -z "$out" ] || { printf 'not gofmt-ed: run gofmt -w on\n%s\n' "$out"; return 1; }
}

# ST1005 wants lower case: our errors name a bad field as it is spelt.
static() { in_modules "$PWD/.tools/staticcheck" -checks inherit,-ST1005 ./...; }

dependencies() {
	.ci/deps.sh | diff -u .ci/deps.txt - && return
	echo 'the linked modules changed: if that is meant, run .ci/deps.sh >.ci/deps.txt, and give each new one its line in docs/dependencies.md'
	return 1
}

timeout=30m
[ "$mode" = long ] && timeout=120m

# What one goroutine does is the same without the detector, and ten times as
# fast: -short leaves those suites out.
race() {
	if ! command -v gcc >/dev/null; then
		echo 'no gcc: left out is the race detector, and nothing else'
		return
	fi
	CGO_ENABLED=1 in_modules go test -race -short -shuffle=on -timeout $timeout ./...
}

# The drivers hash passwords with SHA-1, so this leg runs without the services.
fips() {
	[ -n "$FIPS" ] || { echo 'no packages'; return; }
	env -u PART164_TEST_POSTGRES -u PART164_TEST_MARIADB -u PART164_TEST_REDIS \
		go test -short -exec 'env GODEBUG=fips140=only' $FIPS
}

step 'gofmt' formatted
step 'vet' in_modules go vet ./...
if [ "$mode" = quick ]; then
	step 'test (no services: their tests skip themselves)' in_modules go test -short ./...
	finish 0
fi
step 'staticcheck' static
step 'architecture: floors, top level, package state' go test -count=1 ./internal/arch
step 'dependencies: .ci/deps.txt' dependencies
[ "$mode" != long ] || export PART164_TEST_LONG=1
export PART164_TEST_CLINIC=1 # build the clinic once for each control that it breaks
step 'test -shuffle=on (CGO_ENABLED=0)' in_modules go test -shuffle=on -timeout $timeout ./...
step 'test -race -short' race
step "fips leg: GODEBUG=fips140=only $FIPS" fips
finish 0
