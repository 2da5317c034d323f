#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: PostgreSQL, Chromium and Python from the distribution, nothing else.
set -euo pipefail

for tool in go node npm git; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing: install it first (Go 1.26, Node 20 or newer, git)" >&2
        exit 1
    fi
done

missing=()
if [[ -z "${TEST_PG_DSN:-}" ]] && ! command -v pg_ctl >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/pg_ctl' >/dev/null; then
    missing+=(postgresql)
fi
if [[ -z "${CHROMIUM:-}" ]] && ! command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; then
    missing+=(chromium)
fi
if ! command -v python3 >/dev/null; then
    missing+=(python3)
fi
if [[ ${#missing[@]} -eq 0 ]]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}. Install them with the package manager of this system." >&2
    exit 1
fi
root=()
if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        echo "missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
echo "installing ${missing[*]}"
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
