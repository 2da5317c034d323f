#!/usr/bin/env bash
# Generates everything that is generated and committed, and fails when that changes a file: then someone forgot `make generate`.
set -euo pipefail

paths=(docs/configuration.md views static/dist)
state() {
    find "${paths[@]}" -type f \( -name '*_templ.go' -o -path 'static/dist/*' -o -name configuration.md \) -print0 | sort -z | xargs -0 sha256sum
}
before=$(state)
make --no-print-directory generate
after=$(state)
if [[ "$before" != "$after" ]]; then
    echo "generated files were stale; they are current now, commit them:" >&2
    diff <(echo "$before") <(echo "$after") >&2 || true
    exit 1
fi
if command -v git >/dev/null && git rev-parse --git-dir >/dev/null 2>&1; then
    stray=$(git ls-files --others --exclude-standard -- "${paths[@]}")
    if [[ -n "$stray" ]]; then
        echo "generated files that are not committed:" >&2
        echo "$stray" >&2
        exit 1
    fi
fi
echo "generated files are current"
