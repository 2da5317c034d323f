#!/usr/bin/env bash
# Runs one step of `make test`: says what it is and how long it took, and keeps its output for the summary.
#
#   deploy/ci/step.sh NAME COMMAND…
set -euo pipefail

name=$1
shift
mkdir -p .cache/steps
log=.cache/steps/$(printf '%02d' "$(find .cache/steps -name '*.log' | wc -l)")-$name.log
echo "==> $name: $*"
started=$SECONDS
code=0
"$@" 2>&1 | tee "$log" || code=$?
echo "==> $name: $([[ $code -eq 0 ]] && echo passed || echo "FAILED with $code") after $((SECONDS - started)) s" | tee -a "$log"
exit "$code"
